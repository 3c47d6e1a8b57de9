using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Each doubt kills the false finding that it exists for, and lets a real one live.</summary>
public sealed class DoubtTests
{
    private static readonly TestCase Case = Cases.Of("48ffc0");

    [Fact]
    public void ARealDivergenceSurvivesEveryDoubt()
    {
        FakeMachine right = new();
        FakeMachine wrong = new((_, s) => s.Set(RflagsBits.SF));

        Assert.Null(FirstExplanation(right.Run, () => wrong.Run));
    }

    [Fact]
    public void RepeatCatchesATargetThatChangesFromRunToRun()
    {
        int run = 0;
        Verdict? verdict = Explain(new RepeatDoubt(5), new FakeMachine().Run, () => _ => Cases.Fault(rax: (ulong)(run++ == 3 ? 1 : 0)));

        Assert.Equal(VerdictKind.NonDeterministic, verdict?.Kind);
        Assert.Contains("t1 changed gpr.rax", verdict?.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void RepeatTakesAFailingTargetForOurTrouble()
    {
        int run = 0;
        Verdict? verdict = Explain(new RepeatDoubt(5), new FakeMachine().Run, () => _ => run++ < 2 ? Cases.Fault(rax: 7) : Outcome.HarnessError("child died"));

        Assert.Equal(VerdictKind.HarnessFault, verdict?.Kind);
        Assert.Contains("child died", verdict?.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void RepeatDoesNotMindUndefinedBitsThatChange()
    {
        int run = 0;
        CaseAnalyst analyst = new(new FakeMachine(), (_, _, _) => new CaseMask { Rflags = RflagsBits.AF, Rows = ["And"] }, CpuVendor.Amd);
        using CaseRunner runner = new([new FakeTarget("t0", new FakeMachine().Run), new FakeTarget("t1", _ => Cases.Fault(rax: 9, rflags: run++ % 2 == 0 ? 0x202UL : 0x212))], analyst);
        Suspect suspect = new() { Divergence = Fakes.Divergence(runner, Case), Runner = runner, Fresh = () => runner };

        Assert.Null(new RepeatDoubt(5).Examine(suspect).Explanation);
    }

    /// <summary>A target whose answer shows RBX of the case before.</summary>
    [Fact]
    public void ReorderCatchesStateThatLeaksFromTheCaseBefore()
    {
        ulong left = 0;
        Outcome Leaky(TestCase c)
        {
            Outcome outcome = Cases.Fault(rax: left);
            left = c.Registers.Gpr[3];
            return outcome;
        }

        ImmutableArray<TestCase> before = [Case.With(Register.Rbx, 5), Case.With(Register.Rbx, 6)];
        Verdict? verdict = Explain(new ReorderDoubt(), new FakeMachine().Run, () => Leaky, before);

        Assert.Equal(VerdictKind.StateLeak, verdict?.Kind);
        Assert.Null(Explain(new ReorderDoubt(), new FakeMachine().Run, () => new FakeMachine((_, s) => s.Set(RflagsBits.SF)).Run, before));
    }

    /// <summary>An instance that goes wrong after its third case and stays wrong: repeating and reordering cannot tell.</summary>
    [Fact]
    public void IsolateCatchesAnInstanceThatWentWrong()
    {
        static Func<TestCase, Outcome> Make()
        {
            int cases = 0;
            return _ => Cases.Fault(rax: cases++ < 3 ? 0UL : 1);
        }

        using CaseRunner runner = Fakes.Runner(new FakeTarget("t0", _ => Cases.Fault()), new FakeTarget("t1", Make()));
        for (int i = 0; i < 3; i++)
        {
            runner.Examine(Case);
        }

        Suspect suspect = new()
        {
            Divergence = Fakes.Divergence(runner, Case),
            Runner = runner,
            Fresh = () => Fakes.Runner(new FakeTarget("t0", _ => Cases.Fault()), new FakeTarget("t1", Make())),
            Neighbours = [Case],
        };

        Assert.Null(new RepeatDoubt(5).Examine(suspect).Explanation);
        Assert.Null(new ReorderDoubt().Examine(suspect).Explanation);
        Assert.Equal(VerdictKind.StateLeak, new IsolateDoubt().Examine(suspect).Explanation?.Kind);
    }

    [Fact]
    public void IsolateTakesATargetThatCannotBeMadeForOurTrouble()
    {
        using CaseRunner runner = Fakes.Runner(new FakeTarget("t0", _ => Cases.Fault()), new FakeTarget("t1", _ => Cases.Fault(rax: 1)));
        Suspect suspect = new() { Divergence = Fakes.Divergence(runner, Case), Runner = runner, Fresh = () => throw new TargetUnavailableException("no memory", "buy some") };

        Assert.Equal(VerdictKind.HarnessFault, new IsolateDoubt().Examine(suspect).Explanation?.Kind);
    }

    /// <summary>The comparer took the last instruction for faulted, so AF counted as defined; had it completed, AF would be undefined.</summary>
    [Fact]
    public void TheMaskAuditCatchesWhatOnlyTheWidestMaskHides()
    {
        CaseAnalyst analyst = new(
            new FakeMachine(), (_, _, completed) => completed ? new CaseMask { Rflags = RflagsBits.AF, Rows = ["Shl"] } : CaseMask.None, CpuVendor.Amd);
        ulong rip = Case.Code.Address;
        using CaseRunner runner = new(
            [new FakeTarget("t0", _ => Cases.Fault(rip: rip)), new FakeTarget("t1", _ => Cases.Fault(rip: rip, rflags: 0x212))], analyst);
        Suspect suspect = new() { Divergence = Fakes.Divergence(runner, Case), Runner = runner, Fresh = () => runner };

        DoubtResult result = new MaskAuditDoubt().Examine(suspect);

        Assert.Equal(new Verdict(VerdictKind.UndefinedBehaviour, "Shl"), result.Explanation);
    }

    [Fact]
    public void TheMaskAuditCatchesConsumedBits()
    {
        CaseAnalyst analyst = new(new FakeMachine(), (_, _, _) => new CaseMask { Consumed = true, Rows = ["Mul"] }, CpuVendor.Amd);
        using CaseRunner runner = new([new FakeTarget("t0", _ => Cases.Fault()), new FakeTarget("t1", _ => Cases.Fault(rax: 3))], analyst);
        Suspect suspect = new() { Divergence = Fakes.Divergence(runner, Case), Runner = runner, Fresh = () => runner };

        Assert.Equal(new Verdict(VerdictKind.UndefinedBehaviour, "Mul"), new MaskAuditDoubt().Examine(suspect).Explanation);
    }

    private static Verdict? FirstExplanation(Func<TestCase, Outcome> first, Func<Func<TestCase, Outcome>> second)
    {
        using CaseRunner runner = Fakes.Runner(new FakeTarget("t0", first), new FakeTarget("t1", second()));
        Suspect suspect = new()
        {
            Divergence = Fakes.Divergence(runner, Case),
            Runner = runner,
            Fresh = () => Fakes.Runner(new FakeTarget("t0", first), new FakeTarget("t1", second())),
            Neighbours = [Case.With(Register.Rax, 1), Case.With(Register.Rax, 2)],
        };
        return Doubts.FirstExplanation(Doubts.All, suspect);
    }

    private static Verdict? Explain(IDoubt doubt, Func<TestCase, Outcome> first, Func<Func<TestCase, Outcome>> second, ImmutableArray<TestCase> before = default)
    {
        using CaseRunner runner = Fakes.Runner(new FakeTarget("t0", first), new FakeTarget("t1", second()));
        Suspect suspect = new()
        {
            Divergence = Fakes.Divergence(runner, Case),
            Runner = runner,
            Fresh = () => Fakes.Runner(new FakeTarget("t0", first), new FakeTarget("t1", second())),
            Neighbours = before.IsDefault ? [] : before,
        };
        return doubt.Examine(suspect).Explanation;
    }
}
