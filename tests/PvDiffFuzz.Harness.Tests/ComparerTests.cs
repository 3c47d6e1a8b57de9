using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using Outcome = PvDiffFuzz.Core.Outcome;

namespace PvDiffFuzz.Harness.Tests;

public sealed class ComparerTests
{
    private static readonly TestCase Any = Cases.Of("90");

    [Fact]
    public void EqualOutcomesAreOneCamp()
    {
        Comparison comparison = Compare(["a", "b", "c"], Cases.Fault(), Cases.Fault(), Cases.Fault());

        Assert.Equal(ComparisonResult.Agreement, comparison.Result);
        Assert.Equal([0, 1, 2], Assert.Single(comparison.Camps).Members.ToArray());
    }

    [Fact]
    public void OneComparableOutcomeIsNeverAgreement()
    {
        Outcome[] missing = [Outcome.Unsupported("no"), Outcome.HarnessError("oops"), Outcome.BudgetSpent("time")];
        foreach (Outcome other in missing)
        {
            Comparison comparison = Compare(["a", "b"], Cases.Fault(), other);

            Assert.Equal(ComparisonResult.NotComparable, comparison.Result);
            Assert.Equal(1, comparison.Comparable);
        }

        Assert.Equal(ComparisonResult.NotComparable, Compare(["a", "b"], Outcome.Unsupported("x"), Outcome.Unsupported("x")).Result);
    }

    [Fact]
    public void MissingOutcomesDoNotStandAgainstThoseThatAgree()
    {
        Comparison comparison = Compare(["a", "b", "c"], Cases.Fault(), Outcome.Unsupported("no"), Cases.Fault());

        Assert.Equal(ComparisonResult.Agreement, comparison.Result);
        Assert.Equal([0, 2], Assert.Single(comparison.Camps).Members.ToArray());
    }

    /// <summary>A target may not see the registers of a guest that waits; those of a guest that is done it has to state.</summary>
    [Theory]
    [InlineData(EndKind.Halt, ComparisonResult.Agreement)]
    [InlineData(EndKind.ReachedEnd, ComparisonResult.Divergence)]
    public void RegistersOfAGuestThatHaltsMayBeUnseen(EndKind end, ComparisonResult result)
    {
        Outcome seen = new() { End = end, Registers = Any.Registers, Memory = [new MemoryWord(0x410000, 1)] };
        Outcome unseen = seen with { Registers = null };

        Assert.Equal(result, Compare(["a", "b"], seen, unseen).Result);
        Assert.Equal(ComparisonResult.Divergence, Compare(["a", "b"], seen, unseen with { Memory = [new MemoryWord(0x410000, 2)] }).Result);
        Assert.Equal(ComparisonResult.Divergence, Compare(["a", "b"], seen, seen with { Registers = Any.Registers.With(Register.Rax, 5) }).Result);
    }

    [Fact]
    public void AllDifferencesAreNamedNotTheFirstOnly()
    {
        Outcome a = Cases.Fault(13, 0x401000, 0x202, 0, null, 1);
        Outcome b = Cases.Fault(14, 0x401001, 0x203, 2, 0x5000, 2) with { End = EndKind.Crash, Memory = [new MemoryWord(0x410000, 1)] };

        Comparison comparison = Compare(["a", "b"], a, b);

        Assert.Equal(
            ["event[0].vector", "event[0].error", "event[0].cr2", "event[0].rip", "event[0].rflags.CF", "end", "gpr.rax", "memory"],
            comparison.Differences.Select(d => d.Field.ToString()));
        Assert.Equal(["1", "2"], comparison.Differences.Single(d => d.Field.ToString() == "gpr.rax").Values.ToArray());
        Assert.Equal(["-", "5000"], comparison.Differences.Single(d => d.Field.ToString() == "event[0].cr2").Values.ToArray());
    }

    [Fact]
    public void EveryRegisterIsCompared()
    {
        Outcome plain = Cases.Fault();
        List<string> missed = [];
        for (Register register = Register.Rax; register <= Register.Pkru; register++)
        {
            RegisterState changed = plain.Registers!.With(register, plain.Registers[register] ^ 2);
            Outcome other = plain with { Registers = changed, Events = [plain.Events[0] with { Registers = changed }] };
            Comparison comparison = Compare(["a", "b"], plain, other);
            if (comparison.Differences.Length != 1 || !comparison.Differences[0].Field.ToString().Contains(register.ToString(), StringComparison.OrdinalIgnoreCase))
            {
                missed.Add($"{register}: {string.Join(' ', comparison.Differences.Select(d => d.Field))}");
            }
        }

        Assert.True(missed.Count == 0, string.Join('\n', missed));
    }

    [Fact]
    public void DifferentNumbersOfEventsAndFinalRegistersAreNamed()
    {
        Outcome one = Cases.Fault();
        RegisterState moved = one.Registers! with { Rip = 0x402000 };
        Outcome two = one with { Events = [one.Events[0], one.Events[0] with { Registers = moved }], Registers = moved };

        Assert.Equal(["events", "rip"], Compare(["a", "b"], one, two).Differences.Select(d => d.Field.ToString()));
    }

    [Fact]
    public void ARowOfEitherTargetHidesItsBitsAndIsCounted()
    {
        TargetMask row = new("a.p-bit", "test", e => e.Vector == 14, null, 1);
        TargetInfo[] infos = [Cases.Info("a", null, row), Cases.Info("b")];
        Comparer comparer = new([.. infos], CaseAnalyst.Blind);

        Comparison hidden = comparer.Compare(Any, [Cases.Fault(14, error: 4, cr2: 0), Cases.Fault(14, error: 5, cr2: 0)]);
        Comparison beyond = comparer.Compare(Any, [Cases.Fault(14, error: 4, cr2: 0), Cases.Fault(14, error: 7, cr2: 0)]);
        Comparison elsewhere = comparer.Compare(Any, [Cases.Fault(13, error: 4), Cases.Fault(13, error: 5)]);

        Assert.Equal(ComparisonResult.Agreement, hidden.Result);
        Assert.Equal(["a.p-bit"], hidden.HidingRows.ToArray());
        Assert.Equal(ComparisonResult.Divergence, beyond.Result);
        Assert.Equal(ComparisonResult.Divergence, elsewhere.Result);
        Assert.Empty(elsewhere.HidingRows);
    }

    [Fact]
    public void ARowThatHidesNothingIsNotCounted()
    {
        TargetMask row = new("a.rax", "test", _ => true, Register.Rax, 1);
        Comparer comparer = new([Cases.Info("a", null, row), Cases.Info("b")], CaseAnalyst.Blind);

        Assert.Empty(comparer.Compare(Any, [Cases.Fault(rip: 1), Cases.Fault(rip: 2)]).HidingRows);
    }

    /// <summary>RCX after a hypercall of an answer is hidden, and RCX at the end, where the guest went on behind the answer, is not.</summary>
    [Fact]
    public void ARowOfTheLastEventHidesNothingOfAGuestThatWentOn()
    {
        TargetMask row = new("a.rcx", "test", e => e.Kind == EventKind.Hypercall, Register.Rcx, ulong.MaxValue);
        Comparer comparer = new([Cases.Info("a", null, row), Cases.Info("b")], CaseAnalyst.Blind);
        Event call = PvmCases.Fault() with { Kind = EventKind.Hypercall };
        Event other = call with { Registers = call.Registers.With(Register.Rcx, 9) };
        RegisterState end = call.Registers.With(Register.Rax, 5);

        Assert.Equal(ComparisonResult.Agreement, comparer.Compare(PvmCases.Supervisor("90"), [PvmCases.Ends(PvmCases.Fault(), call), PvmCases.Ends(PvmCases.Fault(), other)]).Result);
        Assert.Equal(ComparisonResult.Agreement, comparer.Compare(PvmCases.Supervisor("90"), [At(call, end), At(other, end)]).Result);
        Assert.Equal(["gpr.rcx"], comparer.Compare(PvmCases.Supervisor("90"), [At(call, end), At(other, end.With(Register.Rcx, 9))]).Differences.Select(d => d.Field.ToString()));

        static Outcome At(Event last, RegisterState registers) => PvmCases.Ends(PvmCases.Fault(), last) with { End = EndKind.ReachedEnd, Registers = registers };
    }

    [Fact]
    public void UndefinedBitsAreNotComparedAndNothingElseIsHidden()
    {
        CaseMask mask = new() { Rflags = RflagsBits.AF, Rows = ["And"] };
        CaseAnalyst analyst = new(new FakeMachine(), (_, _, _) => mask, CpuVendor.Amd);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], analyst);

        Comparison hidden = comparer.Compare(Any, [Cases.Fault(), Cases.Fault(rflags: 0x212)]);
        Comparison beyond = comparer.Compare(Any, [Cases.Fault(), Cases.Fault(rflags: 0x213)]);

        Assert.Equal(ComparisonResult.Agreement, hidden.Result);
        Assert.Equal(["And"], hidden.HidingRows.ToArray());
        Assert.Equal(["event[0].rflags.CF"], beyond.Differences.Select(d => d.Field.ToString()));
    }

    [Fact]
    public void UndefinedMemoryHidesMemoryAndNothingElse()
    {
        CaseMask mask = new() { Memory = true, Rows = ["Shld"] };
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], new CaseAnalyst(new FakeMachine(), (_, _, _) => mask, CpuVendor.Amd));
        Outcome wrote = Cases.Fault() with { Memory = [new MemoryWord(0x410000, 1)] };

        Comparison hidden = comparer.Compare(Any, [Cases.Fault(), wrote]);
        Comparison beyond = comparer.Compare(Any, [Cases.Fault(rax: 1), wrote]);

        Assert.Equal(ComparisonResult.Agreement, hidden.Result);
        Assert.Equal(["Shld"], hidden.HidingRows.ToArray());
        Assert.Equal(["gpr.rax"], beyond.Differences.Select(d => d.Field.ToString()));
    }

    /// <summary>A store of two undefined bytes explains two adjacent ones, once for each time that it was executed.</summary>
    [Theory]
    [InlineData(1, 0x0000_0000_0000_1234, true)]
    [InlineData(1, 0x0012_3400_0000_0000, true)]
    [InlineData(1, 0x0000_0000_0012_3456, false)]
    [InlineData(1, 0x1200_0000_0000_0034, false)]
    [InlineData(2, 0x1200_0000_0000_0034, true)]
    public void UndefinedBytesExplainNoMoreThanWasStored(int times, ulong written, bool hidden)
    {
        UndefinedPart part = new("double-shift-past-size", Iced.Intel.Code.Shld_rm16_r16_CL, UndefinedTarget.Destination, null, 0, Bytes: 2, Times: times);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], CaseAnalyst.Blind);

        Comparison comparison = comparer.CompareUnder(Any, [Cases.Fault(), Cases.Fault() with { Memory = [new MemoryWord(0x410000, written)] }], new CaseMask { Parts = [part] });

        Assert.Equal(hidden ? ComparisonResult.Agreement : ComparisonResult.Divergence, comparison.Result);
        Assert.Equal(hidden ? ["double-shift-past-size"] : [], comparison.HidingRows.ToArray());
        Assert.Equal(hidden ? [new MaskedBit("double-shift-past-size", "Shld_rm16_r16_CL", "memory")] : [], comparison.HiddenBits.ToArray());
    }

    /// <summary>Pushes that a fault cut short lie right below the stack pointer.</summary>
    [Theory]
    [InlineData(-16, true)]
    [InlineData(-24, false)]
    [InlineData(0, false)]
    public void PushesCutShortExplainOnlyWhatLiesBelowTheStackPointer(int offset, bool hidden)
    {
        const ulong stack = 0x420000;
        UndefinedPart part = new("partial-writes", Iced.Intel.Code.Enterq_imm16_imm8, UndefinedTarget.Memory, null, 0, Bytes: 16, BelowStack: true);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], CaseAnalyst.Blind);
        Outcome faulted = Cases.Fault();
        RegisterState registers = faulted.Registers!.With(Register.Rsp, stack);
        Outcome one = faulted with { Registers = registers, Events = [faulted.Events[0] with { Registers = registers }] };

        Comparison comparison = comparer.CompareUnder(Any, [one, one with { Memory = [new MemoryWord(stack + (ulong)(long)offset, 5)] }], new CaseMask { Parts = [part] });

        Assert.Equal(hidden ? ComparisonResult.Agreement : ComparisonResult.Divergence, comparison.Result);
    }

    /// <summary>What only one side wrote is compared with what was there before.</summary>
    [Fact]
    public void MemoryThatOneSideLeftAloneHoldsItsInitialContents()
    {
        UndefinedPart part = new("double-shift-past-size", Iced.Intel.Code.Shld_rm16_r16_CL, UndefinedTarget.Destination, null, 0, Bytes: 2);
        TestCase filled = Any with { Contents = [new MemoryContents(0x410000, [1, 2, 3, 4, 5, 6, 7, 8])] };
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], CaseAnalyst.Blind);
        Outcome wrote = Cases.Fault() with { Memory = [new MemoryWord(0x410000, 0x0807_0605_0403_ffff)] };

        Assert.Equal(ComparisonResult.Agreement, comparer.CompareUnder(filled, [Cases.Fault(), wrote], new CaseMask { Parts = [part] }).Result);
        Assert.Equal(ComparisonResult.Divergence, comparer.CompareUnder(Any, [Cases.Fault(), wrote], new CaseMask { Parts = [part] }).Result);
    }

    /// <summary>A bit that either of two rows could have hidden is evidence for neither.</summary>
    [Fact]
    public void ADifferenceWithTwoExplanationsIsEvidenceForNeither()
    {
        UndefinedPart shift = new("shift-af", Iced.Intel.Code.Shl_rm64_imm8, UndefinedTarget.Flags, Register.Rflags, RflagsBits.AF);
        UndefinedPart divide = new("divide-flags", Iced.Intel.Code.Div_rm64, UndefinedTarget.Flags, Register.Rflags, RflagsBits.AF | RflagsBits.CF);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], CaseAnalyst.Blind);

        Comparison comparison = comparer.CompareUnder(Any, [Cases.Fault(), Cases.Fault(rflags: 0x213)], new CaseMask { Rflags = RflagsBits.AF | RflagsBits.CF, Parts = [shift, divide] });

        Assert.Equal(ComparisonResult.Agreement, comparison.Result);
        Assert.Equal([new MaskedBit("divide-flags", "Div_rm64", "CF")], comparison.HiddenBits.ToArray());
    }

    /// <summary>AND leaves AF undefined; ADD defines it again, unless the case was resumed, since the ADD may have faulted then.</summary>
    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void TheTableOfUndefinedBitsIsFollowed(bool resumed, bool diverges)
    {
        TestCase testCase = Cases.Of("4821d8", "4801d8");
        testCase = resumed ? testCase with { Responses = [new Response([])] } : testCase;
        ScriptedTracer tracer = new(testCase);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], CaseAnalyst.For(tracer, CpuVendor.Amd));
        Outcome end = Cases.Fault(14, testCase.Code.End, cr2: testCase.Code.End);
        Outcome[] outcomes = [end, Cases.Fault(14, testCase.Code.End, 0x212, cr2: testCase.Code.End)];
        outcomes = resumed ? [.. outcomes.Select(o => o with { Events = [end.Events[0], o.Events[0]] })] : outcomes;

        Assert.Equal(diverges, comparer.Compare(testCase, outcomes).Result == ComparisonResult.Divergence);
    }

    [Fact]
    public void TheMaskOfAnEarlierEventComesFromTheTraceUpToIt()
    {
        List<int> responses = [];
        CaseAnalyst analyst = new(new RecordingTracer(c => responses.Add(c.Responses.Length)), (_, _, _) => CaseMask.None, CpuVendor.Amd);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], analyst);
        Outcome one = Cases.Fault();
        Outcome two = Cases.Fault(rflags: 0x203);
        TestCase answered = Any with { Responses = [new Response([])] };

        comparer.Compare(answered, [Twice(one), Twice(two)]);

        Assert.Equal([0, 1], responses);

        static Outcome Twice(Outcome o) => o with { Events = [o.Events[0], o.Events[0]] };
    }

    [Fact]
    public void ConsumedUndefinedBitsExplainAnything()
    {
        CaseAnalyst analyst = new(new FakeMachine(), (_, _, _) => new CaseMask { Consumed = true, Rows = ["Shl"] }, CpuVendor.Amd);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], analyst);

        Comparison comparison = comparer.Compare(Any, [Cases.Fault(rax: 1), Cases.Fault(rax: 2)]);

        Assert.True(comparison.Consumed);
        Assert.Equal(["Shl"], comparison.ConsumedRows.ToArray());
    }

    /// <summary>Targets of one lineage on different hosts, or under different hypervisors: when they disagree, their fingerprints tell them apart and vote.</summary>
    [Theory]
    [InlineData("x/a x/b y/c", "1 2 1", 1)] // A host against another one and the model.
    [InlineData("x/a x/b y/c", "1 1 2", null)] // Two hosts that agree are one vote.
    [InlineData("x/a x/a y/c z/d", "1 2 1 1", null)] // One host that disagrees with itself has no vote; two are left.
    [InlineData("x/a x/b x/b y/c", "1 2 2 2", 0)] // Two on one host are one vote.
    public void FingerprintsVoteWhereALineageDisagrees(string targets, string values, int? dissenter)
    {
        TargetInfo[] infos =
            [.. targets.Split(' ').Select((t, i) => Cases.Info($"t{i}", t.Split('/')[0]) with { Fingerprint = new Fingerprint([new("host", t.Split('/')[1])]) })];
        Outcome[] outcomes = [.. values.Split(' ').Select(v => Cases.Fault(rax: ulong.Parse(v)))];

        Comparison comparison = new Comparer([.. infos], CaseAnalyst.Blind).Compare(Any, outcomes);

        Assert.Equal(dissenter, comparison.Dissenter);
    }

    [Theory]
    [InlineData("x y z", "1 1 2", 1)] // Two lineages against one.
    [InlineData("x y", "1 2", null)] // Two lineages: no majority.
    [InlineData("x x y", "1 1 2", null)] // Two of one lineage are one vote.
    [InlineData("x x y z", "1 1 2 2", 0)] // One vote against two, though two targets against two.
    [InlineData("x x y z w", "1 2 2 2 2", 0)] // A lineage that disagrees with itself has no vote.
    [InlineData("x y z", "1 2 3", null)] // Nobody agrees.
    public void OnlyLineagesVote(string lineages, string values, int? dissenter)
    {
        TargetInfo[] infos = [.. lineages.Split(' ').Select((lineage, i) => Cases.Info($"t{i}", lineage))];
        Outcome[] outcomes = [.. values.Split(' ').Select(v => Cases.Fault(rax: ulong.Parse(v)))];

        Comparison comparison = new Comparer([.. infos], CaseAnalyst.Blind).Compare(Any, outcomes);

        Assert.Equal(dissenter, comparison.Dissenter);
    }

    [Fact]
    public void ATargetThatCannotDecideBetweenTwoOthersIsACampOfItsOwnInAnyOrder()
    {
        TargetMask row = new("n.rax", "test", _ => true, Register.Rax, ulong.MaxValue);
        (TargetInfo Info, Outcome Outcome)[] three =
        [
            (Cases.Info("n", null, row), Cases.Fault(rax: 1)), (Cases.Info("a"), Cases.Fault(rax: 2)), (Cases.Info("b"), Cases.Fault(rax: 3)),
        ];
        foreach (int[] order in (int[][])[[0, 1, 2], [1, 0, 2], [2, 1, 0]])
        {
            Comparison comparison = new Comparer([.. order.Select(i => three[i].Info)], CaseAnalyst.Blind).Compare(Any, [.. order.Select(i => three[i].Outcome)]);
            Assert.Equal(3, comparison.Camps.Length);
        }
    }

    [Fact]
    public void CampsDoNotDependOnTheOrderOfTargets() => Check.QuickThrowOnFailure(Prop.ForAll(
        ArbMap.Default.ArbFor<byte[]>(),
        seeds =>
        {
            Outcome[] outcomes = [.. seeds.Take(6).Select(OutcomeOf)];
            string[] names = [.. outcomes.Select((_, i) => $"t{i}")];
            int[] order = [.. Enumerable.Range(0, outcomes.Length).OrderBy(i => (i * 7) + seeds.Length)];
            Array.Reverse(order);
            return Named(Compare(names, outcomes), names).SequenceEqual(Named(Compare([.. order.Select(i => names[i])], [.. order.Select(i => outcomes[i])]), [.. order.Select(i => names[i])]));
        }));

    [Fact]
    public void AnOutcomeAgreesWithItselfAndDifferenceIsSymmetric() => Check.QuickThrowOnFailure(Prop.ForAll(
        ArbMap.Default.ArbFor<(byte, byte)>(),
        pair =>
        {
            Outcome a = OutcomeOf(pair.Item1);
            Outcome b = OutcomeOf(pair.Item2);
            Comparison there = Compare(["a", "b"], a, b);
            Comparison back = Compare(["a", "b"], b, a);
            return OutcomeDiff.SameExactly(a, OutcomeOf(pair.Item1))
                && (!a.Comparable || Compare(["a", "b"], a, OutcomeOf(pair.Item1)).Result == ComparisonResult.Agreement)
                && there.Result == back.Result
                && there.Differences.Select(d => d.Field).SequenceEqual(back.Differences.Select(d => d.Field));
        }));

    [Fact]
    public void TheFastPathSaysWhatTheFullComparisonSays() => Check.QuickThrowOnFailure(Prop.ForAll(
        ArbMap.Default.ArbFor<byte[]>(),
        seeds =>
        {
            Outcome[] outcomes = [.. seeds.Take(4).Select(OutcomeOf)];
            bool same = Comparer.AllSame([.. outcomes.Select(o => new[] { o })], 0, out int comparable);
            Comparison full = Compare([.. outcomes.Select((_, i) => $"t{i}")], outcomes);
            return comparable == full.Comparable && same == (full.Result != ComparisonResult.Divergence);
        }));

    private static Outcome OutcomeOf(byte seed) => (seed & 7) switch
    {
        0 => Outcome.Unsupported("seed"),
        1 => Cases.Fault((byte)(13 + ((seed >> 3) & 1))),
        2 => Cases.Fault(error: null),
        3 => Cases.Fault(rax: (ulong)(seed >> 4)),
        4 => Cases.Fault(rflags: 0x202UL | ((ulong)(seed >> 5) << 6)),
        5 => Cases.Fault() with { Memory = [new MemoryWord(0x410000, 1UL + (ulong)(seed >> 6))] }, // A listed word has changed, so from 0 it is not 0.
        6 => new Outcome { End = EndKind.Crash, Detail = seed.ToString() },
        _ => Cases.Fault() with { End = EndKind.ReachedEnd },
    };

    private static IEnumerable<string> Named(Comparison comparison, string[] names) =>
        comparison.Camps.Select(c => string.Join('+', c.Members.Select(m => names[m]).Order(StringComparer.Ordinal))).Order(StringComparer.Ordinal);

    private static Comparison Compare(string[] names, params Outcome[] outcomes) =>
        new Comparer([.. names.Select(n => Cases.Info(n))], CaseAnalyst.Blind).Compare(Any, outcomes);

    private sealed class RecordingTracer(Action<TestCase> seen) : ITracer
    {
        public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
        {
            seen(testCase);
            return [new TracedInstruction(testCase.Code.Address, testCase.Code.Bytes, CpuMode.Long64, 0)];
        }
    }

    /// <summary>Says that every instruction of a case was executed once, in order.</summary>
    private sealed class ScriptedTracer(TestCase testCase) : ITracer
    {
        public ImmutableArray<TracedInstruction> Trace(TestCase asked, int maximum)
        {
            ulong at = testCase.Code.Address;
            List<TracedInstruction> trace = [];
            foreach (ImmutableArray<byte> piece in CodeEdit.Pieces(testCase.Code))
            {
                trace.Add(new TracedInstruction(at, piece, CpuMode.Long64, 0));
                at += (ulong)piece.Length;
            }

            return [.. trace];
        }
    }
}
