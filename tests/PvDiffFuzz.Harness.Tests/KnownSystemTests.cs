using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Known entries of paravirtual ABIs.</summary>
public sealed class KnownSystemTests
{
    private const string Resume =
        """
        # Faults carry RF in the image of RFLAGS.
        id       pvm-rf
        kind     implementation
        clause   PVM rfc1 Vector events in supervisor mode
        reason   RF is set in the pushed flags
        targets  pvm
        abi      pvm-rfc1
        forms    any
        vectors  13
        entries  pvm.supervisor
        fields   event.frame.rflags.RF
        where    this.event.frame.rflags & 0x10000 = 0x10000
        where    other.event.frame.rflags & 0x10000 = 0
        """;

    private static readonly Outcome Text = PvmCases.Ends(PvmCases.Fault());
    private static readonly Outcome Host = PvmCases.Ends(PvmCases.Fault(rflags: 0x10002));

    [Fact]
    public void AnEntryMatchesItsRevisionAndNoOther()
    {
        Assert.True(Entry().Matches(Seen()));
        Assert.True(Entry(With("pvm-rfc1\n", "pvm-612 pvm-rfc1\n")).Matches(Seen()));
        Assert.False(Entry(With("pvm-rfc1\n", "xen-pv64\n").Replace("event.frame.rflags.RF", "event.frame.rflags", StringComparison.Ordinal)).Matches(Seen()));
    }

    /// <summary>The frame of user events has the same shape in both revisions here, so only the revision tells them apart.</summary>
    [Fact]
    public void AnotherRevisionIsAnotherDivergence()
    {
        string text = With("abi      pvm-rfc1", "abi      pvm-612").Replace("vectors  13\nentries  pvm.supervisor", "vectors  any", StringComparison.Ordinal)
            .Replace("event.frame.rflags", "event.frame.eflags", StringComparison.Ordinal);
        Divergence Of(Abi abi) => Seen(
            PvmCases.User("90") with { Abi = abi },
            PvmCases.Ends(PvmCases.UserTrap(abi: abi)),
            PvmCases.Ends(PvmCases.UserTrap(rflags: 0x10202, abi: abi)));

        Assert.True(Entry(text).Matches(Of(Abi.Pvm612)));
        Assert.False(Entry(text).Matches(Of(Abi.PvmRfc1)));
    }

    [Fact]
    public void AnEntryWithoutAnAbiIsOfX86Alone()
    {
        string text = With("abi      pvm-rfc1\n", "").Replace("event.frame.rflags.RF", "event.vector", StringComparison.Ordinal);
        string plain = string.Join('\n', text.Split('\n').Where(line => !line.StartsWith("where", StringComparison.Ordinal) && !line.StartsWith("vectors", StringComparison.Ordinal) && !line.StartsWith("entries", StringComparison.Ordinal))) + "\nvectors any";
        Divergence Of(TestCase testCase) => Seen(testCase, Cases.Fault(13), Cases.Fault(12));

        Assert.Equal([Abi.X86], Entry(plain).Abis.ToArray());
        Assert.True(Entry(plain).Matches(Of(Cases.Of("90"))));
        Assert.False(Entry(plain).Matches(Of(PvmCases.Supervisor("90"))));
    }

    /// <summary>Each way in which a divergence can be another one.</summary>
    [Fact]
    public void NothingElseMatches()
    {
        Event e = Host.Events[0];
        List<string> matched = [];
        Try("flag", PvmCases.Ends(PvmCases.Fault(rflags: 0x10003)));
        Try("part", PvmCases.Ends(PvmCases.Fault(rip: 1, rflags: 0x10002)));
        Try("sides", PvmCases.Ends(PvmCases.Fault()), PvmCases.Ends(PvmCases.Fault(rflags: 0x10002)));
        Try("vector", PvmCases.Ends(e with { Vector = 12 }));
        Try("entry", PvmCases.Ends(e with { Entry = EntryPoint.PvmUser }), PvmCases.Ends(Text.Events[0] with { Entry = EntryPoint.PvmUser }));
        Try("system", Host with { System = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 1UL)) }, Text with { System = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 2UL)) });
        Try("end", Host with { End = EndKind.Halt });
        foreach (FrameField field in FrameLayout.Of(Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64))
        {
            Try(field.Name, PvmCases.Ends(e with { Frame = PvmCases.Set(e.Frame, field, FrameLayout.Read(e.Frame, field) ^ 4) }));
        }

        Assert.True(matched.Count == 0, string.Join(", ", matched));

        void Try(string what, Outcome host, Outcome? text = null)
        {
            if (Entry().Matches(Seen(null, text, host)))
            {
                matched.Add(what);
            }
        }
    }

    [Theory]
    [InlineData("path warm", HostPath.Warm, true)]
    [InlineData("path warm", HostPath.Cold, false)]
    [InlineData("path cold", HostPath.Warm, false)]
    [InlineData("start supervisor", HostPath.Cold, true)]
    [InlineData("start user", HostPath.Cold, false)]
    public void TheHostsPathAndTheStartMayBeAskedFor(string line, HostPath path, bool matches)
    {
        TestCase testCase = PvmCases.Supervisor("90");

        Assert.Equal(matches, Entry(Resume + "\n" + line).Matches(Seen(testCase with { Pvm = testCase.Pvm! with { Path = path } })));
    }

    [Theory]
    [InlineData("event.frame", true)]
    [InlineData("event.frame.rflags", true)]
    [InlineData("event.frame.rflags.RF sys", true)]
    [InlineData("event.frame.rflags.CF", false)]
    [InlineData("event.frame.rip", false)]
    [InlineData("sys", false)]
    public void GroupsOfFramePartsCoverTheirMembers(string fields, bool covered) =>
        Assert.Equal(covered, Entry(With("event.frame.rflags.RF", fields)).Matches(Seen()));

    [Theory]
    [InlineData("sys", true)]
    [InlineData("sys.pvcs", true)]
    [InlineData("sys.pvcs.event-flags", true)]
    [InlineData("sys.pvcs.eflags", false)]
    [InlineData("sys.cr3", false)]
    public void GroupsOfTheSystemSideCoverTheirMembers(string fields, bool covered)
    {
        string text = string.Join('\n', With("event.frame.rflags.RF", fields).Split('\n').Where(line => !line.StartsWith("where", StringComparison.Ordinal)))
            + "\nwhere this.sys.pvcs.event-flags = 0\nwhere other.sys.pvcs.event-flags & 0x200 = 0x200";
        Outcome Flags(ulong value) => Text with { System = SystemState.Of(KeyValuePair.Create(SystemRegister.PvcsEventFlags, value)) };

        Assert.Equal(covered, Entry(text).Matches(Seen(null, Flags(0x200), Flags(0))));
        Assert.False(Entry(text).Matches(Seen(null, Flags(0x200), Flags(0x100))));
    }

    [Theory]
    [InlineData("abi      pvm-rfc1\n", "", 10, "'event.frame.rflags.RF' is nothing that x86 has")]
    [InlineData("abi      pvm-rfc1", "abi pvm", 7, "'pvm' is no word for 'abi'; there are x86, pvm-rfc1")]
    [InlineData("event.frame.rflags.RF", "event.frame.mask", 11, "'event.frame.mask' is nothing that pvm-rfc1 has")]
    [InlineData("event.frame.rflags.RF", "event.frame.bogus", 11, "'event.frame.bogus' is no field")]
    [InlineData("other.event.frame.rflags", "other.event.frame.mask", 13, "'event.frame.mask' is nothing that pvm-rfc1 has")]
    [InlineData("pvm.supervisor", "pvm.everywhere", 10, "'pvm.everywhere' is no word for 'entries'")]
    [InlineData("vectors  13", "path warm cold\nvectors 13", 9, "'path' has one word: cold, warm")]
    [InlineData("abi      pvm-rfc1", "abi xen-pv64\npath warm", 8, "only PVM cases have a path")]
    public void MistakesAreNamedWithFileAndLine(string right, string wrong, int line, string message)
    {
        KnownFileException problem = Assert.Throws<KnownFileException>(() => Entry(With(right, wrong)));

        Assert.Contains(message, problem.Message, StringComparison.Ordinal);
        Assert.StartsWith($"x.known:{line}: ", problem.Message, StringComparison.Ordinal);
    }

    private static string With(string right, string wrong)
    {
        string text = Resume.Replace(right, wrong, StringComparison.Ordinal);
        Assert.NotEqual(Resume, text);
        return text;
    }

    private static KnownEntry Entry(string text = Resume) => KnownReader.Parse(Encoding.UTF8.GetBytes(text), "x.known");

    private static Divergence Seen(TestCase? testCase = null, Outcome? text = null, Outcome? host = null)
    {
        using CaseRunner runner = Fakes.Runner(new FakeTarget("model.pvm", _ => text ?? Text), new FakeTarget("pvm", _ => host ?? Host));
        return Fakes.Divergence(runner, testCase ?? PvmCases.Supervisor("90"));
    }
}
