using System.Text.Json;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Host against host from end to end: recorded to files, then compared, with a planted fault on one side.</summary>
[Collection(TerminalCollection.Name)]
public sealed class TriageTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Fact]
    public void APlantedFaultIsFoundBetweenTwoRecordings()
    {
        string right = Record("right.rec", "model.x86", _terminal.WriteCase(), "--seed", "5eed", "--count", "300");
        string wrong = Record("wrong.rec", Terminal.Planted, right);
        Printed printed = _terminal.Run("triage", right, wrong, "--json", "--save", _terminal.Path("found"));
        JsonElement json = printed.Json;

        Assert.Equal((int)ExitCode.Diverged, printed.Exit);
        Assert.Equal((301, 0, 0), (Number(json, "cases"), Number(json, "incomplete"), Number(json, "harnessErrors")));
        Assert.InRange(Number(json, "compared"), 290, 301);
        Assert.True(Number(json.GetProperty("divergences"), "new") >= 1, "the plant was not found");
        Assert.Equal(Number(json, "compared"), Number(json, "agree") + Number(json.GetProperty("divergences"), "new"));
        JsonElement group = json.GetProperty("groups").EnumerateArray().Single(g => g.GetProperty("cases").EnumerateArray().Any(c => c.GetString() == "int"));
        Assert.Equal($"x86 Int_imm8 #13 event.error recorded:{Terminal.Planted}/recorded:model.x86", group.GetProperty("signature").GetString());
        Assert.Equal(("new", "Int_imm8"), (group.GetProperty("verdict").GetString(), group.GetProperty("instruction").GetString()));
        Assert.Equal("event[0].error", Assert.Single(group.GetProperty("fields").EnumerateArray()).GetProperty("field").GetString());
        Assert.Equal(["102", "100"], group.GetProperty("fields")[0].GetProperty("values").EnumerateArray().Select(v => v.GetString()));
        Assert.Empty(group.GetProperty("dissenters").EnumerateArray());
        Assert.Contains(group.GetProperty("clauses").EnumerateArray(), c => c.GetString()!.StartsWith("SDM ", StringComparison.Ordinal));
        Assert.Equal([right, wrong], json.GetProperty("targets").EnumerateArray().Select(t => t.GetProperty("source").GetString()));

        // What was saved is a case of its own, with both answers.
        string saved = Directory.GetFiles(_terminal.Path("found"), "int-imm8-*.case").Single();
        Assert.Equal([$"recorded:model.x86", $"recorded:{Terminal.Planted}"], CaseFile.Read(saved).Outcomes.Select(o => o.Target));
    }

    [Fact]
    public void ALiveModelMakesAMajorityAndNamesTheDissenter()
    {
        RegisterHosts();
        string a = Record("host-a.rec", "native.a", _terminal.WriteCase());
        string b = Record("host-b.rec", "native.b", _terminal.WriteCase());
        Printed printed = _terminal.Run("triage", a, b, "model.x86");
        JsonElement group = Assert.Single(_terminal.Run("triage", a, b, "model.x86", "--json").Json.GetProperty("groups").EnumerateArray());

        Assert.Equal((int)ExitCode.Diverged, printed.Exit);
        Assert.Equal(["recorded:native.b"], group.GetProperty("dissenters").EnumerateArray().Select(d => d.GetString()));
        Assert.All(["dissenter  recorded:native.b", "kernel *", "6.1", "6.12", "1 new in 1 signatures"], text => Assert.Contains(text, printed.Out, StringComparison.Ordinal));
        Assert.Equal(["kernel"], _terminal.Run("triage", a, b, "--json").Json.GetProperty("differingFacts").EnumerateArray().Select(f => f.GetString()));
    }

    /// <summary>The same target recorded twice: each recording keeps its own name apart from the other's, also when the files are called alike.</summary>
    [Theory]
    [InlineData("a.rec", "b.rec", "recorded:model.x86:a", "recorded:model.x86:b")]
    [InlineData("a.rec", "A.rec", "recorded:model.x86:a-1", "recorded:model.x86:a-2")]
    public void TwoRecordingsOfOneTargetAreToldApart(string first, string second, string nameA, string nameB)
    {
        Printed printed = _terminal.Run("triage", Record(first, "model.x86", _terminal.WriteCase()), Record(second, "model.x86", _terminal.WriteCase()), "--json");

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Equal((1, 1), (Number(printed.Json, "compared"), Number(printed.Json, "agree")));
        Assert.Equal([nameA, nameB], printed.Json.GetProperty("targets").EnumerateArray().Select(t => t.GetProperty("name").GetString()));
    }

    [Fact]
    public void AKnownDifferenceIsNoReasonToFail()
    {
        string known = _terminal.Path("known");
        Directory.CreateDirectory(known);
        File.WriteAllText(Path.Combine(known, "idt-bit.known"), $"""
            # The planted model loses the IDT bit.
            id       idt-bit
            kind     implementation
            clause   SDM vol.3A 6.13
            reason   planted
            targets  {Terminal.Planted}
            forms    Int
            vectors  13
            fields   event.error

            """);
        string wrong = Record("wrong.rec", Terminal.Planted, _terminal.WriteCase());
        Printed printed = _terminal.Run("triage", wrong, "model.x86", "--known", known, "--json");

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Equal((0, 1), (Number(printed.Json.GetProperty("divergences"), "new"), Number(printed.Json.GetProperty("divergences"), "known")));
        Assert.Equal(1, Number(printed.Json.GetProperty("knownMatches"), "idt-bit"));
    }

    /// <summary>Two sides that could not run anything agree about nothing: that is trouble, not success.</summary>
    [Fact]
    public void SilenceIsNoAgreement()
    {
        _terminal.Composition.Register("mute", profile => new Wrapped("mute", new X86Model(profile), _ => Outcome.Unsupported("cannot")));
        string mute = Record("mute.rec", "mute", _terminal.WriteCase());
        Printed printed = _terminal.Run("triage", mute, "model.x86", "--json");

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Equal((0, 0, 1), (Number(printed.Json, "compared"), Number(printed.Json, "agree"), Number(printed.Json, "unsupported")));
        Assert.Contains("nothing was compared", printed.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void CasesThatOnlyOneRecordingHasAreCounted()
    {
        string small = Record("small.rec", "model.x86", _terminal.WriteCase());
        string big = Record("big.rec", Terminal.Twin, _terminal.WriteCase(), "--seed", "1", "--count", "10");
        JsonElement json = _terminal.Run("triage", small, big, "--json").Json;

        Assert.Equal((11, 1, 10, 10), (Number(json, "cases"), Number(json, "agree"), Number(json, "incomplete"), Number(json, "notCompared")));
        Assert.Equal([10, 0], json.GetProperty("targets").EnumerateArray().Select(t => Number(t, "missing")));
    }

    /// <summary>What models differ in by the processor they are of is a difference between hosts like any other; two processors are named.</summary>
    [Fact]
    public void ModelsOfTwoProcessorsAreRecordedAndTheirHostsCompared()
    {
        string amd = Record("amd.rec", "model.x86", "--cpu", "amd", "--seed", "5eed", "--count", "50");
        string intel = Record("intel.rec", "model.x86", "--cpu", "intel", amd);
        JsonElement json = _terminal.Run("triage", amd, intel, "--json").Json;

        Assert.Equal((CpuVendor.Amd, CpuVendor.Intel), (Recording.Read(amd).Host!.Vendor, Recording.Read(intel).Host!.Vendor));
        Assert.Contains(json.GetProperty("differingProcessors").EnumerateArray(), d => d.GetString() == "vendor: amd.rec Amd, intel.rec Intel");
        Assert.Contains(json.GetProperty("differingFacts").EnumerateArray(), f => f.GetString() == "vendor");
        Assert.InRange(Number(json, "compared"), 40, 50);
    }

    [Fact]
    public void TheSameCasesGiveTheSameRecording()
    {
        string first = Record("first.rec", $"model.x86,{Terminal.Twin}", "--seed", "7", "--count", "600");
        string second = Record("second.rec", $"model.x86,{Terminal.Twin}", first);
        Recording read = Recording.Read(first);

        Assert.Equal((600, 600, 2), (read.Cases.Length, read.Planned, read.Targets.Length));
        Assert.All(read.Cases, file => Assert.Equal(2, file.Outcomes.Length));
        Assert.Contains(read.Cases, file => file.Outcomes[0].Outcome.Comparable);
        Assert.Equal(File.ReadAllText(first), File.ReadAllText(second));
        Assert.Equal(File.ReadAllText(first), read.Write());
    }

    /// <summary>Recording into a file that is there replaces it only as a whole; what goes wrong leaves it as it was.</summary>
    [Fact]
    public void AFailedRecordingLeavesTheOldOne()
    {
        string path = Record("x.rec", "model.x86", _terminal.WriteCase());
        string before = File.ReadAllText(path);
        _terminal.Composition.Register("dies", profile => new Wrapped("dies", new X86Model(profile), _ => throw new IOException("no space left")));
        Printed printed = _terminal.Run("record", _terminal.WriteCase(), "--targets", "dies", "--out", path);

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Contains("no space left", printed.Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllText(path));
        Assert.False(File.Exists(path + ".tmp"), "the unfinished file is still there");
    }

    [Fact]
    public void TroubleOfOursWhileRecordingIsStoredAndReported()
    {
        _terminal.Composition.Register("broken", profile => new Wrapped("broken", new X86Model(profile), _ => Outcome.HarnessError("lost the child")));
        Printed printed = _terminal.Run("record", _terminal.WriteCase(), "--targets", "broken", "--out", _terminal.Path("x.rec"), "--json");

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Equal(1, Number(printed.Json.GetProperty("targets")[0].GetProperty("ends"), "HarnessError"));
        Assert.Equal("lost the child", Recording.Read(_terminal.Path("x.rec")).Cases[0].Outcomes[0].Outcome.Detail);
    }

    /// <summary>An answer that no case file can hold costs that answer and nothing else.</summary>
    [Fact]
    public void AnAnswerThatIsTooLongToStoreIsOurTroubleAndTheOthersAreKept()
    {
        Outcome Long(Outcome outcome) => outcome.End == EndKind.Event
            ? outcome with { Memory = [.. Enumerable.Range(0, 80_000).Select(i => new MemoryWord((ulong)i * 8, ulong.MaxValue))] }
            : outcome;
        _terminal.Composition.Register("long", profile => new Wrapped("long", new X86Model(profile), Long));
        Printed printed = _terminal.Run("record", _terminal.WriteCase(), "--seed", "1", "--count", "20", "--targets", "long", "--out", _terminal.Path("x.rec"));
        CaseFile[] cases = [.. Recording.Read(_terminal.Path("x.rec")).Cases];

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Equal(21, cases.Length);
        Assert.Contains("longer than 1048576 bytes", cases[0].Outcomes[0].Outcome.Detail, StringComparison.Ordinal);
        Assert.Contains(cases, file => file.Outcomes[0].Outcome.End == EndKind.ReachedEnd);
    }

    private static int Number(JsonElement json, string key) => json.GetProperty(key).GetInt32();

    /// <summary>Two hosts of one lineage: the second has another kernel and loses the IDT bit.</summary>
    private void RegisterHosts()
    {
        foreach ((string name, string kernel) in new[] { ("native.a", "6.1"), ("native.b", "6.12") })
        {
            _terminal.Composition.Register(name, profile => new Host(name, kernel, _terminal.Composition.Create(name == "native.b" ? Terminal.Planted : Terminal.Twin)));
        }
    }

    private string Record(string name, string targets, params string[] more)
    {
        string path = _terminal.Path(name);
        Printed printed = _terminal.Run(["record", "--targets", targets, "--out", path, .. more]);
        Assert.True(printed.Exit == (int)ExitCode.Ok, printed.Error);
        return path;
    }

    private sealed class Host(string name, string kernel, ITarget inner) : ITarget
    {
        public TargetInfo Info { get; } = new(name, TargetKind.Hardware, "hardware", inner.Info.Capabilities, new Fingerprint([new("cpu", "x"), new("kernel", kernel)]));

        public Outcome Run(TestCase testCase) => inner.Run(testCase);

        public void Dispose() => inner.Dispose();
    }
}
