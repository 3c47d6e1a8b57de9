using Iced.Intel;
using PvDiffFuzz.Core;
using Flag = PvDiffFuzz.Core.RflagsBits;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests;

public sealed class MinimiserTests
{
    private static readonly Minimiser Standard = new(Reductions.All, new MinimiserLimits());

    /// <summary>A machine whose ADC loses the carry, in a case full of other things: what is left is the ADC and what it needs.</summary>
    [Fact]
    public void APlantedBugIsReducedToItsInstruction()
    {
        using CaseRunner runner = Planted((mnemonic, state) =>
        {
            if (mnemonic == Mnemonic.Adc)
            {
                state.Flip(Flag.CF);
            }
        });
        TestCase big = Cases.Of([.. FakeMachine.Repertoire, "48ffc0", "4811d8", "48ffc3", "90"]) with
        {
            Contents = [new MemoryContents(0x410000, [1, 2, 3, 4, 5, 6, 7, 8])],
        };
        big = big.With(Register.Rax, 0x1234).With(Register.Rbx, 0x77) with { Responses = [new Response([])] };

        Divergence first = Divergence.Of(Locator.FirstDivergence(big, runner, null)!, runner);
        Minimised result = Standard.Minimise(first, runner, CancellationToken.None);

        TestCase smallest = result.Divergence.Case;
        Assert.Equal("Adc_rm64_r64", result.Divergence.Instruction.Form);
        Assert.Single(smallest.Code.Lengths);
        Assert.Empty(smallest.Contents);
        Assert.Empty(smallest.Responses);
        Assert.Equal(default, smallest.Registers.Gpr);
        Assert.Equal(0x202UL, smallest.Registers.Rflags);
        Assert.Null(smallest.Check());
        Assert.Equal(big.Code.End, smallest.Code.End);
    }

    /// <summary>INC spoils RAX and STC spoils ZF. Dropping INC would leave a smaller divergence, but another one.</summary>
    [Fact]
    public void ASmallerCaseWithAnotherSignatureIsRefused()
    {
        using CaseRunner runner = Planted((mnemonic, state) =>
        {
            if (mnemonic == Mnemonic.Stc)
            {
                state.Set(Flag.ZF);
            }
            else if (mnemonic == Mnemonic.Inc)
            {
                state.Registers = state.Registers.With(Register.Rax, 99);
            }
        });
        Divergence both = Fakes.Divergence(runner, Cases.Of("90", "48ffc0", "90", "f9", "90"));
        Assert.Equal("event.rflags.ZF,gpr", both.Signature.Fields);

        Minimised result = Standard.Minimise(both, runner, CancellationToken.None);

        Assert.Equal(both.Signature, result.Divergence.Signature);
        Assert.Equal(2, result.Divergence.Case.Code.Lengths.Length);
        Assert.True(result.Drifted > 0, "no candidate drifted, so the test shows nothing");
    }

    [Fact]
    public void MinimisingTwiceGivesTheSameBytesWhateverTheBatch()
    {
        List<TestCase> results = [];
        foreach (int batch in (int[])[1, 7, 32])
        {
            using CaseRunner runner = Planted((mnemonic, state) => state.Set(mnemonic == Mnemonic.Add ? Flag.SF : 0));
            TestCase big = new FakeSource(5, 12, FakeMachine.Repertoire).Generate(3);
            Divergence start = Fakes.Divergence(runner, big);
            results.Add(new Minimiser(Reductions.All, new MinimiserLimits(Batch: batch)).Minimise(start, runner, CancellationToken.None).Divergence.Case);
        }

        Assert.Equal(results[0], results[1]);
        Assert.Equal(results[0], results[2]);
    }

    [Fact]
    public void ACancelledSearchReturnsWhatItHas()
    {
        using CaseRunner runner = Planted((_, state) => state.Set(Flag.SF));
        Divergence start = Fakes.Divergence(runner, Cases.Of("48ffc0", "90"));

        Minimised result = Standard.Minimise(start, runner, new CancellationToken(canceled: true));

        Assert.Same(start, result.Divergence);
    }

    [Fact]
    public void TheBudgetBoundsTheWork()
    {
        using CaseRunner runner = Planted((_, state) => state.Set(Flag.SF));
        Divergence start = Fakes.Divergence(runner, new FakeSource(1, 30, FakeMachine.Repertoire).Generate(1));

        Minimised result = new Minimiser(Reductions.All, new MinimiserLimits(Candidates: 40)).Minimise(start, runner, CancellationToken.None);

        Assert.InRange(result.Candidates, 1, 40);
    }

    /// <summary>Each candidate takes a machine down: the last batch begins before the limit, and none behind it.</summary>
    [Theory]
    [InlineData(EndKind.HypervisorCrash)]
    [InlineData(EndKind.HarnessError)]
    public void MachinesThatGoDownBoundTheWork(EndKind end)
    {
        const int most = 10;
        int down = 0;
        TestCase testCase = new FakeSource(1, 30, FakeMachine.Repertoire).Generate(1);
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", new FakeMachine().Run),
            new FakeTarget("b", c =>
            {
                bool first = c.Equals(testCase);
                down += first ? 0 : 1;
                return first ? new Outcome { End = EndKind.HypervisorCrash } : end == EndKind.HarnessError ? Outcome.HarnessError("gone") : new Outcome { End = end, Events = Cases.Fault().Events };
            }));

        new Minimiser(Reductions.All, new MinimiserLimits(Batch: 4, Machines: most)).Minimise(Fakes.Divergence(runner, testCase), runner, CancellationToken.None);

        Assert.InRange(down, most, most + 3);
    }

    [Fact]
    public void ForbiddenCandidatesNeverRun()
    {
        List<TestCase> ran = [];
        FakeMachine machine = new();
        FakeMachine broken = new((_, state) => state.Set(Flag.SF));
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", c =>
            {
                ran.Add(c);
                return machine.Run(c);
            }),
            new FakeTarget("b", broken.Run));
        Divergence start = Fakes.Divergence(runner, Cases.Of("48ffc0", "48ffc3", "90"));
        ran.Clear();

        new Minimiser(Reductions.All, new MinimiserLimits(), c => c.Code.Lengths.Length >= 2).Minimise(start, runner, CancellationToken.None);

        Assert.NotEmpty(ran);
        Assert.All(ran, c => Assert.True(c.Code.Lengths.Length >= 2));
    }

    /// <summary>As under single-stepping: the divergence shows only while each instruction but the last has its answer.</summary>
    [Fact]
    public void InstructionsThatEachNeedAnAnswerGoTogetherWithIt()
    {
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", _ => Cases.Fault()),
            new FakeTarget("b", c => Cases.Fault(rax: c.Responses.Length == c.Code.Lengths.Length - 1 && c.Code.Bytes.AsSpan().IndexOf<byte>([0x48, 0x11, 0xd8]) >= 0 ? 1u : 0)));
        TestCase stepped = Cases.Of("48ffc0", "4811d8", "48ffc3", "f8", "49ffc4") with { Responses = [.. Enumerable.Repeat(new Response([]), 4)] };

        Minimised result = Standard.Minimise(Fakes.Divergence(runner, stepped), runner, CancellationToken.None);

        Assert.Single(result.Divergence.Case.Code.Lengths);
        Assert.Empty(result.Divergence.Case.Responses);
    }

    [Fact]
    public void NoReductionProposesAnEndlessChainOrSomethingEqual()
    {
        TestCase big = Cases.Of("48ffc0", "480304d8", "4881c078563412", "6648ffc3", "c3") with
        {
            Contents = [new MemoryContents(0x410000, [9, 0, 7])],
            Responses = [new Response([new(Register.Rax, 5), new(Register.Rip, 0x401fff)])],
            Limits = new CaseLimits(77),
        };
        big = big.With(Register.Rax, 0xdeadbeef).With(Register.FsBase, 0x1000) with { Profile = CpuProfile.DefaultIntel };
        big = big with { Registers = big.Registers with { Rflags = 0x246, Es = 0x2b, Debug = new DebugRegisters(1, 2, 3, 4, 0xff) } };
        TestCase pvm = PvmCases.Supervisor("48ffc0", "90") with
        {
            Responses = [new Response([]) { Return = ReturnKind.Erets, Hypercalls = [new Hypercall(0x17088203, [7])], Inject = new Injection(InjectionKind.Nmi, 2) }],
            System = PvmCases.System.With(SystemRegister.Lstar, 0x1000).With(SystemRegister.Cr8, 5),
        };
        TestCase xen = XenMinimiserTests.Full();
        Assert.Null(big.Check());
        Assert.Null(pvm.Check());
        Assert.Null(xen.Check());
        List<string> wrong = [];
        foreach (IReduction reduction in Reductions.All)
        {
            int proposals = 0;
            int steps = 0;
            foreach (TestCase start in (TestCase[])[big, pvm, xen])
            {
                TestCase current = start;
                proposals += reduction.Propose(start, new ReductionContext(CpuVendor.Intel)).Count();
                while (reduction.Propose(current, new ReductionContext(CpuVendor.Intel)).FirstOrDefault(c => c.Check() is null) is TestCase next && steps++ < 1000)
                {
                    if (next.Equals(current))
                    {
                        wrong.Add($"{reduction.Name} proposes what it was given");
                        break;
                    }

                    current = next;
                }
            }

            if (proposals == 0 || steps >= 1000)
            {
                wrong.Add($"{reduction.Name}: {proposals} proposals, {steps} steps");
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    private static CaseRunner Planted(Action<Mnemonic, FakeMachine.State> bug)
    {
        FakeMachine right = new();
        return new CaseRunner([new FakeTarget("model.fake", right.Run), new FakeTarget("hardware", new FakeMachine(bug).Run)], new CaseAnalyst(right, null, CpuVendor.Intel));
    }
}
