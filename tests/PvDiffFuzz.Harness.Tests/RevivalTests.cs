using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Supervisor code of PVM that registers entries of its own, or has no stack, is asked again with those that show events. For Xen see <see cref="XenTriageTests"/>.</summary>
public sealed class RevivalTests
{
    private const ulong Own = 0x440380;

    // INC RAX; WRMSR; UD2.
    private static readonly TestCase Case = PvmCases.Supervisor("48ffc0", "0f30", "0f0b");

    /// <summary>The WRMSR goes where it has changed an entry; all else stays as it is.</summary>
    [Theory]
    [InlineData(SystemRegister.PvmEventEntry)]
    [InlineData(SystemRegister.Lstar)]
    public void EntriesOfTheCaseAreNotRegistered(SystemRegister entry)
    {
        TestCase alive = Revive(Case, Silent(Case.System.With(entry, Own)))!;

        Assert.Equal("48ffc090900f0b", Convert.ToHexStringLower(alive.Code.Bytes.AsSpan()));
        Assert.Equal(Case with { Code = alive.Code }, alive);
    }

    /// <summary>Nothing is hidden by entries that are as they were or that nobody states, and nothing can be done where no WRMSR has changed them.</summary>
    [Fact]
    public void ACaseThatHidesNothingStays()
    {
        Assert.Null(Revive(Case, Silent(Case.System)));
        Assert.Null(Revive(Case, Silent(SystemState.Empty)));
        Assert.Null(Revive(PvmCases.Supervisor("48ffc0", "0f0b"), Silent(Case.System.With(SystemRegister.PvmEventEntry, Own))));
    }

    /// <summary>A WRMSR at which it shows is what it is about.</summary>
    [Fact]
    public void TheInstructionInQuestionStays()
    {
        TestCase last = PvmCases.Supervisor("48ffc0", "0f30");

        Assert.Null(Revive(last, Silent(last.System.With(SystemRegister.PvmEventEntry, Own))));
    }

    [Theory]
    [InlineData(0UL, true)]
    [InlineData(PvmCases.StackTop - 0x800, false)]
    public void SupervisorCodeThatDiesWithoutAStackGetsOne(ulong rsp, bool again)
    {
        TestCase start = PvmCases.Supervisor("48ffc0", "0f0b");
        TestCase? alive = Revive(start.With(Register.Rsp, rsp), new Outcome { End = EndKind.Crash });

        Assert.Equal(again ? PvmCases.StackTop : null, alive?.Registers[Register.Rsp]);
        Assert.Null(Revive(start.With(Register.Rsp, rsp), Silent(start.System)));
    }

    private static Outcome Silent(SystemState system) => new() { End = EndKind.ReachedEnd, Registers = Case.Registers with { Rip = Case.Code.End }, System = system };

    private static TestCase? Revive(TestCase testCase, Outcome one)
    {
        using CaseRunner runner = new([new FakeTarget("pvm", _ => one), new FakeTarget("model.pvm", c => PvmCases.Ends(PvmCases.Fault(rip: c.Code.End - 2)))], CaseAnalyst.Blind);
        return Revival.Of(Fakes.Divergence(runner, testCase));
    }
}
