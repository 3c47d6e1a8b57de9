using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Entries of scope <c>part</c>: each describes its fields, and together they must describe all.</summary>
public sealed class KnownPartTests
{
    private const string Error = """
        # The error code is lost.
        id       b-error
        kind     implementation
        clause   SDM vol.2A INT n
        reason   lost
        targets  one
        forms    any
        vectors  any
        fields   event.error
        scope    part
        where    this.event.error = 0

        """;

    private const string Rax = """
        # RAX is 7.
        id       a-rax
        kind     specification
        clause   SDM vol.2A MOV
        reason   seven
        targets  one
        forms    any
        vectors  any
        fields   gpr.rax event.error
        scope    part
        where    this.gpr.rax = 7

        """;

    private static readonly string RaxOnly = Rax.Replace(" event.error", "", StringComparison.Ordinal);

    [Fact]
    public void TogetherTheyDescribeWhatNeitherDoesAlone()
    {
        KnownSet set = Set(RaxOnly, Error);
        Divergence both = Seen(7, 0);

        Assert.Equal([0, 1], set.Find(both, CaseAnalyst.Blind).AsEnumerable());
        Assert.Equal(new Verdict(VerdictKind.Known, "a-rax b-error"), set.VerdictOf(set.Find(both, CaseAnalyst.Blind)));
        Assert.Equal(["a-rax", "b-error"], set.VerdictOf(set.Find(both, CaseAnalyst.Blind)).KnownIds);
        Assert.Equal([0], set.Find(Seen(7, 5), CaseAnalyst.Blind).AsEnumerable());
        Assert.Equal([1], set.Find(Seen(1, 0), CaseAnalyst.Blind).AsEnumerable());
    }

    [Fact]
    public void AFieldThatNoneDescribesMakesItNew()
    {
        KnownSet set = Set(RaxOnly, Error);

        Assert.Empty(set.Find(Seen(7, 0, rbx: 1), CaseAnalyst.Blind));
        Assert.Empty(set.Find(Seen(8, 0), CaseAnalyst.Blind));
        Assert.Empty(set.Find(Seen(7, 1), CaseAnalyst.Blind));
        Assert.Equal(Verdict.New, set.VerdictOf(set.Find(Seen(7, 1), CaseAnalyst.Blind)));
    }

    [Fact]
    public void AnEntryOfScopeWholeNeverJoins()
    {
        Assert.Empty(Set(RaxOnly, Error.Replace("part", "whole", StringComparison.Ordinal)).Find(Seen(7, 0), CaseAnalyst.Blind));
        Assert.Empty(Set(RaxOnly, Error.Replace("scope    part\n", "", StringComparison.Ordinal)).Find(Seen(7, 0), CaseAnalyst.Blind));
        Assert.Equal([1], Set(RaxOnly, Error.Replace("part", "whole", StringComparison.Ordinal)).Find(Seen(1, 0), CaseAnalyst.Blind).AsEnumerable());
    }

    /// <summary>What one entry describes needs no second one.</summary>
    [Fact]
    public void NoneIsNamedThatAddsNothing() => Assert.Equal([0], Set(Rax, Error).Find(Seen(7, 0), CaseAnalyst.Blind).AsEnumerable());

    /// <summary>A host that departs at two events: the entry for the second is held against the second, not the first.</summary>
    [Fact]
    public void EachEventIsDescribedByItself()
    {
        string first = Error.Replace("vectors  any", "vectors  13", StringComparison.Ordinal);
        string second = Error.Replace("b-error", "c-address", StringComparison.Ordinal).Replace("vectors  any", "vectors  14", StringComparison.Ordinal)
            .Replace("event.error", "event.cr2", StringComparison.Ordinal).Replace("this.event.cr2 = 0", "this.event.cr2 = 9", StringComparison.Ordinal);
        KnownSet set = Set(first, second);

        Assert.Equal([0, 1], set.Find(SeenTwice(0, 9), CaseAnalyst.Blind).AsEnumerable());
        Assert.Empty(set.Find(SeenTwice(0, 8), CaseAnalyst.Blind));
        Assert.Empty(set.Find(SeenTwice(1, 9), CaseAnalyst.Blind));
        Assert.Empty(Set(first).Find(SeenTwice(0, 9), CaseAnalyst.Blind));
        Assert.Empty(Set(second).Find(SeenTwice(0, 9), CaseAnalyst.Blind));
    }

    [Fact]
    public void AllOfKindSpecificationIsAnAmbiguity()
    {
        KnownSet set = Set(RaxOnly, Error.Replace("implementation", "specification", StringComparison.Ordinal));

        Assert.Equal(VerdictKind.SpecAmbiguity, set.VerdictOf(set.Find(Seen(7, 0), CaseAnalyst.Blind)).Kind);
    }

    [Fact]
    public void AnotherScopeIsAMistake()
    {
        byte[] text = Encoding.UTF8.GetBytes(Error.Replace("part", "some", StringComparison.Ordinal));

        Assert.Contains("x.known:10: 'some': a scope is whole or part", Assert.Throws<KnownFileException>(() => KnownReader.Parse(text, "x.known")).Message, StringComparison.Ordinal);
    }

    private static KnownSet Set(params string[] texts) => new([.. texts.Select(text => KnownReader.Parse(Encoding.UTF8.GetBytes(text), "x.known")).OrderBy(e => e.Id, StringComparer.Ordinal)]);

    /// <summary>Target <c>one</c> answers with these values, the other with 1, 5 and 0.</summary>
    private static Divergence Seen(ulong rax, uint error, ulong rbx = 0)
    {
        FakeTarget one = new(Cases.Info("one", "one"), _ => Answer(rax, error, rbx));
        FakeTarget other = new("other", _ => Answer(1, 5, 0));
        using CaseRunner runner = new([one, other], CaseAnalyst.Blind);
        return Fakes.Divergence(runner, Cases.Of("90"));
    }

    /// <summary>Target <c>one</c> answers with this error code of its first event and this address of its second, the other with 5 and 6.</summary>
    private static Divergence SeenTwice(uint error, ulong address)
    {
        FakeTarget one = new(Cases.Info("one", "one"), _ => Twice(error, address));
        FakeTarget other = new("other", _ => Twice(5, 6));
        using CaseRunner runner = new([one, other], CaseAnalyst.Blind);
        return Fakes.Divergence(runner, Cases.Of("90"));
    }

    private static Outcome Twice(uint error, ulong address)
    {
        Outcome last = Cases.Fault(14, error: 4, cr2: address);
        return last with { Events = [Cases.Fault(13, error: error).Events[0], last.Events[0]] };
    }

    private static Outcome Answer(ulong rax, uint error, ulong rbx)
    {
        Outcome fault = Cases.Fault(13, 0x401000, 0x202, error);
        RegisterState registers = fault.Registers!.With(Register.Rax, rax).With(Register.Rbx, rbx);
        return fault with { Registers = registers, Events = [fault.Events[0] with { Registers = registers }] };
    }
}
