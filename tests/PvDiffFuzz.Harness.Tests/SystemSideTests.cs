using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>How frames, structures, control registers and several allowed outcomes are compared.</summary>
public sealed class SystemSideTests
{
    private static readonly TestCase Supervisor = PvmCases.Supervisor("90");

    [Fact]
    public void TheCasesOfTheseTestsAreWellFormed()
    {
        Assert.Null(Supervisor.Check());
        Assert.Null(PvmCases.User("90").Check());
    }

    /// <summary>Flips the lowest bit of each part of each frame: one difference, with the name of the part.</summary>
    [Theory]
    [InlineData(Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64, 9)]
    [InlineData(Abi.PvmRfc1, EntryPoint.PvmUser, 128, 13)]
    [InlineData(Abi.Pvm612, EntryPoint.PvmUser, 128, 12)]
    [InlineData(Abi.XenPv64, EntryPoint.XenTrap, 64, 12)]
    public void EachPartOfAFrameHasItsName(Abi abi, EntryPoint entry, int length, int parts)
    {
        Event plain = PvmCases.Fault() with { Entry = entry, Frame = [.. new byte[length]] };
        FrameField[] layout = FrameLayout.Of(abi, entry, length).ToArray();
        List<string> wrong = [];
        foreach (FrameField field in layout)
        {
            Event other = plain with { Frame = PvmCases.Set(plain.Frame, field, 1) };
            string expected = field.Saves == Register.Rflags ? $"event[0].frame.{field.Name}.CF" : $"event[0].frame.{field.Name}";
            string[] names = Names(Compare(Supervisor with { Abi = abi }, PvmCases.Ends(plain), PvmCases.Ends(other)));
            if (!names.SequenceEqual([expected]))
            {
                wrong.Add($"{expected}: {string.Join(' ', names)}");
            }
        }

        Assert.Equal(parts, layout.Length);
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Fact]
    public void FramesWithoutNamesAndBytesWithoutNamesAreTheFrame()
    {
        Event plain = PvmCases.UserTrap();
        Event reserved = plain with { Frame = plain.Frame.SetItem(0x20, 1) };
        Event shorter = plain with { Frame = plain.Frame[..64] };
        Event elsewhere = PvmCases.Fault() with { Kind = plain.Kind, Vector = plain.Vector, ErrorCode = plain.ErrorCode, Registers = plain.Registers };

        Assert.Equal(["event[0].frame"], Names(Compare(Supervisor, PvmCases.Ends(plain), PvmCases.Ends(reserved))));
        Assert.Equal(["event[0].frame"], Names(Compare(Supervisor, PvmCases.Ends(plain), PvmCases.Ends(shorter))));
        Assert.Equal(["event[0].entry", "event[0].frame"], Names(Compare(Supervisor, PvmCases.Ends(plain), PvmCases.Ends(elsewhere))));
    }

    [Fact]
    public void UndefinedFlagsAreHiddenInFramesAndNothingElseIs()
    {
        CaseMask mask = new() { Rflags = RflagsBits.AF, Rows = ["And"] };
        Outcome plain = PvmCases.Ends(PvmCases.Fault()).WithFramesInMemory();
        Outcome undefined = PvmCases.Ends(PvmCases.Fault(rflags: 0x2 | RflagsBits.AF)).WithFramesInMemory();
        Outcome wrong = PvmCases.Ends(PvmCases.Fault(rflags: 0x2 | RflagsBits.AF | RflagsBits.CF)).WithFramesInMemory();
        Outcome moved = PvmCases.Ends(PvmCases.Fault(rip: 0x461ff1, rflags: 0x2 | RflagsBits.AF)).WithFramesInMemory();
        Outcome user = PvmCases.Ends(PvmCases.UserTrap());
        Outcome userUndefined = PvmCases.Ends(PvmCases.UserTrap(rflags: 0x202 | RflagsBits.AF));

        Assert.Equal(ComparisonResult.Agreement, Compare(mask, plain, undefined).Result);
        Assert.Equal(["And"], Compare(mask, plain, undefined).HidingRows.ToArray());
        Assert.Equal(["event[0].frame.rflags.CF"], Names(Compare(mask, plain, wrong)));
        Assert.Equal(["event[0].frame.rip"], Names(Compare(mask, plain, moved)));
        Assert.Equal(ComparisonResult.Agreement, Compare(mask, user, userUndefined).Result);
        Assert.Equal(["event[0].frame.rflags.AF"], Names(Compare(CaseMask.None, plain, undefined)));
    }

    /// <summary>A handler's MOVS copies a frame to anywhere: the same undefined bits are there, and no others are hidden.</summary>
    [Fact]
    public void CopiesOfUndefinedFlagsAreHiddenAndNothingElseIs()
    {
        CaseMask mask = new() { Rflags = RflagsBits.AF | RflagsBits.OF, Rows = ["Imul"] };
        Outcome plain = PvmCases.Ends(PvmCases.Fault()).WithFramesInMemory();
        Outcome undefined = PvmCases.Ends(PvmCases.Fault(rflags: 0x2 | RflagsBits.AF | RflagsBits.OF)).WithFramesInMemory();

        // A copy that begins in the last byte of a quadword: its second byte is in the next.
        Outcome copied = With(undefined, (0x41_0000UL, 0x12UL << 56), (0x41_0008UL, 0x08UL));
        Outcome half = With(undefined, (0x41_0000UL, 0x12UL << 56), (0x41_0008UL, 0UL));
        Outcome other = With(undefined, (0x41_0000UL, 0x13UL << 56), (0x41_0008UL, 0x08UL));
        Outcome original = With(plain, (0x41_0000UL, 0x02UL << 56), (0x41_0008UL, 0UL));

        Assert.Equal(ComparisonResult.Agreement, Compare(mask, original, copied).Result);
        Assert.Equal(["Imul"], Compare(mask, original, copied).HidingRows.ToArray());
        Assert.Equal(["memory"], Names(Compare(mask, original, half)));
        Assert.Equal(["memory"], Names(Compare(mask, original, other)));
        Assert.Contains("memory", Names(Compare(CaseMask.None, original, copied)));
    }

    /// <summary>What a handler's code pops or returns through is a copy as well: a register, the selector in an error code. It cannot come before the frame that it is a copy of.</summary>
    [Fact]
    public void ValuesMadeOfUndefinedFlagsAreHiddenBehindTheirFrame()
    {
        CaseMask mask = new() { Rflags = RflagsBits.PF | RflagsBits.AF, Rows = ["Bsf"] };
        Outcome one = Two(0x2, 0x240, 0x1200);
        Outcome copied = Two(0x2 | RflagsBits.PF | RflagsBits.AF, 0x244, 0x600);

        Assert.Equal(ComparisonResult.Agreement, Compare(mask, one, copied).Result);
        Assert.Equal(["Bsf"], Compare(mask, one, copied).HidingRows.ToArray());
        Assert.Equal(["event[1].error"], Names(Compare(mask, one, Two(0x2 | RflagsBits.PF | RflagsBits.AF, 0x248, 0x1200))));
        Assert.Equal(["gpr.rbx"], Names(Compare(mask, one, Two(0x2 | RflagsBits.PF | RflagsBits.AF, 0x240, 0x700))));
        Assert.Equal(["event[1].error", "gpr.rbx"], Names(Compare(mask, one, Two(0x2, 0x244, 0x600))));

        static Outcome Two(ulong rflags, uint error, ulong rbx)
        {
            Event last = PvmCases.Fault() with { ErrorCode = error };
            last = last with { Registers = last.Registers.With(Register.Rbx, rbx) };
            return PvmCases.Ends(PvmCases.Fault(rflags: rflags)) with { Events = [PvmCases.Fault(rflags: rflags), last], Registers = last.Registers };
        }
    }

    /// <summary>The structure that holds what a user event saved may be a page of the case: a register that supervisor code loads from there is a copy.</summary>
    [Fact]
    public void ValuesLoadedFromTheStructureAreHiddenAsWell()
    {
        CaseMask mask = new() { Rflags = RflagsBits.PF, Rows = ["Blsmsk"] };
        Outcome one = Loads(0x202, 0x202);
        Outcome undefined = Loads(0x202 | RflagsBits.PF, 0x202 | RflagsBits.PF);

        Assert.Equal(ComparisonResult.Agreement, Compare(mask, one, undefined).Result);
        Assert.Equal(["Blsmsk"], Compare(mask, one, undefined).HidingRows.ToArray());
        Assert.Equal(["gpr.rax"], Names(Compare(mask, one, Loads(0x202 | RflagsBits.PF, 0x206 | RflagsBits.CF))));

        static Outcome Loads(ulong saved, ulong rax)
        {
            Event first = PvmCases.UserTrap(rflags: saved);
            Event second = PvmCases.Fault();
            second = second with { Registers = second.Registers.With(Register.Rax, rax) };
            return PvmCases.Ends(first, second) with { Registers = second.Registers };
        }
    }

    /// <summary>A handler of the case got the frame, so nobody compared it: a word that differs in flags that were undefined when they were saved, and in nothing else.</summary>
    [Fact]
    public void FramesOfHandlersMayDifferInUndefinedFlags()
    {
        CaseMask mask = new() { Saved = RflagsBits.PF | RflagsBits.AF, Rows = ["Imul"] };
        Outcome one = With(PvmCases.Ends(PvmCases.Fault()), (0x41_0000UL, 0x1_0803UL));
        Outcome undefined = With(PvmCases.Ends(PvmCases.Fault()), (0x41_0000UL, 0x1_0817UL));
        Outcome carry = With(PvmCases.Ends(PvmCases.Fault()), (0x41_0000UL, 0x1_0816UL));

        Assert.Equal(ComparisonResult.Agreement, Compare(mask, one, undefined).Result);
        Assert.Equal(["Imul"], Compare(mask, one, undefined).HidingRows.ToArray());
        Assert.Equal(["memory"], Names(Compare(mask, one, carry)));
        Assert.Equal(["memory"], Names(Compare(mask with { Saved = 0 }, one, undefined)));
        Assert.Equal(["memory"], Names(Compare(new CaseMask { Rflags = mask.Saved }, one, undefined)));
    }

    private static Outcome With(Outcome outcome, params ReadOnlySpan<(ulong Address, ulong Value)> words)
    {
        List<MemoryWord> memory = [.. outcome.Memory];
        foreach ((ulong address, ulong value) in words)
        {
            memory.Add(new MemoryWord(address, value));
        }

        return outcome with { Memory = [.. memory.OrderBy(word => word.Address)] };
    }

    /// <summary>PVM loads RFLAGS, RCX and R11 at every entry, so what was undefined before is defined there; in the frame it is not.</summary>
    [Theory]
    [InlineData(Register.R11, "r11")]
    [InlineData(Register.Rcx, "rcx")]
    [InlineData(Register.Rflags, "rflags")]
    [InlineData(Register.Rdx, null)]
    public void WhatADeliveryLoadsIsDefinedAtEntry(Register register, string? inFrame)
    {
        GprFile all = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            all[i] = ulong.MaxValue;
        }

        CaseMask mask = new() { Gpr = all, Rflags = RflagsBits.AF, Rows = ["Imul"] };
        Event plain = PvmCases.Fault();
        RegisterState changed = plain.Registers.With(register, plain.Registers[register] ^ RflagsBits.AF);
        Outcome atEntry = PvmCases.Ends(plain with { Registers = changed });

        Assert.Equal(inFrame is null, Compare(mask, PvmCases.Ends(plain), atEntry).Result == ComparisonResult.Agreement);
        if (inFrame is not null)
        {
            FrameField field = FrameLayout.Of(Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64).ToArray().Single(f => f.Name == inFrame);
            Outcome saved = PvmCases.Ends(plain with { Frame = PvmCases.Set(plain.Frame, field, FrameLayout.Read(plain.Frame, field) ^ RflagsBits.AF) });
            Assert.Equal(ComparisonResult.Agreement, Compare(mask, PvmCases.Ends(plain), saved).Result);
        }
    }

    /// <summary>A frame on the stack is memory, too, and has one name. What is no frame any more, or never was one, is memory.</summary>
    [Fact]
    public void AFrameOnTheStackIsNotNamedAgainAsMemory()
    {
        Outcome one = PvmCases.Ends(PvmCases.Fault()).WithFramesInMemory();
        Outcome two = PvmCases.Ends(PvmCases.Fault(rip: 0x461ff1)).WithFramesInMemory();
        Outcome never = PvmCases.Ends(PvmCases.Fault());
        Outcome overwritten = two with { Memory = [.. two.Memory.Select(w => w.Value == 0x461ff1 ? w with { Value = 0x77 } : w)] };
        Outcome elsewhere = two with { Memory = [new MemoryWord(0x410000, 1), .. two.Memory] };

        Assert.Equal(["event[0].frame.rip"], Names(Compare(Supervisor, one, two)));
        Assert.Equal(["memory"], Names(Compare(Supervisor, one, never)));
        Assert.Equal(["event[0].frame.rip", "memory"], Names(Compare(Supervisor, one, overwritten)));
        Assert.Equal(["event[0].frame.rip", "memory"], Names(Compare(Supervisor, one, elsewhere)));
    }

    [Fact]
    public void EveryRegisterOfTheSystemSideIsComparedWhereBothStateIt()
    {
        Outcome plain = PvmCases.Ends(PvmCases.Fault());
        List<string> wrong = [];
        foreach (SystemRegister register in Enum.GetValues<SystemRegister>())
        {
            Outcome one = plain with { System = SystemState.Of(KeyValuePair.Create(register, 1UL)) };
            Outcome two = plain with { System = SystemState.Of(KeyValuePair.Create(register, 0UL)) };
            string name = register == SystemRegister.PvcsEflags ? "sys.pvcs.eflags.CF" : $"sys.{register.Text()}";
            bool named = Names(Compare(Supervisor, one, two)).SequenceEqual([name]) && !OutcomeDiff.SameExactly(one, two);
            bool optional = Compare(Supervisor, one, plain).Result == ComparisonResult.Agreement && OutcomeDiff.SameExactly(one, plain);
            if (!named || !optional)
            {
                wrong.Add($"{register}: named {named}, left out where one does not state it {optional}");
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Fact]
    public void StatesThatOverlapAreComparedInWhatTheyShare()
    {
        SystemState left = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr0, 1UL), KeyValuePair.Create(SystemRegister.Cr3, 2UL), KeyValuePair.Create(SystemRegister.Dr6, 3UL));
        SystemState right = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr2, 9UL), KeyValuePair.Create(SystemRegister.Cr3, 2UL), KeyValuePair.Create(SystemRegister.Dr7, 9UL));

        Assert.True(OutcomeDiff.SameStated(left, right));
        Assert.False(OutcomeDiff.SameStated(left, right.With(SystemRegister.Dr6, 4)));
        Assert.False(OutcomeDiff.SameStated(right.With(SystemRegister.Dr6, 4), left));
    }

    /// <summary>The structure at the end is what the last frame held, so a difference has one name; once the supervisor changed it, it has its own.</summary>
    [Fact]
    public void TheStructureIsNamedOnceWhileItHoldsTheLastFrame()
    {
        CaseMask mask = new() { Rflags = RflagsBits.AF, Rows = ["And"] };

        Assert.Equal(["event[0].frame.rip"], Names(Compare(CaseMask.None, At(0x401ff1, 0x202), At(0x401ff2, 0x202))));
        Assert.Equal(["sys.pvcs.rip"], Names(Compare(CaseMask.None, At(0x401ff1, 0x202), At(0x401ff1, 0x202) with { System = Structure(7, 0x202) })));
        Assert.Equal(ComparisonResult.Agreement, Compare(mask, At(0x401ff1, 0x202), At(0x401ff1, 0x212)).Result);
        Assert.Equal(
            ["sys.pvcs.eflags.CF"],
            Names(Compare(mask, At(0x401ff1, 0x202), At(0x401ff1, 0x202) with { System = Structure(0x401ff1, 0x213) })));

        static Outcome At(ulong rip, ulong rflags) => PvmCases.Ends(PvmCases.UserTrap(rip, rflags)) with { System = Structure(rip, rflags) };
        static SystemState Structure(ulong rip, ulong rflags) => SystemState.Of(KeyValuePair.Create(SystemRegister.PvcsRip, rip), KeyValuePair.Create(SystemRegister.PvcsEflags, rflags));
    }

    [Fact]
    public void AnAllowedAlternativeIsAgreement()
    {
        Outcome saves = PvmCases.Ends(PvmCases.Fault());
        Outcome clears = PvmCases.Ends(PvmCases.Fault(rflags: 0x10002));
        Outcome neither = PvmCases.Ends(PvmCases.Fault(rflags: 0x3));
        Outcome may = saves with { Alternatives = [clears] };

        foreach (Outcome allowed in (Outcome[])[saves, clears])
        {
            Assert.Equal(ComparisonResult.Agreement, Compare(Supervisor, may, allowed).Result);
            Assert.Equal(ComparisonResult.Agreement, Compare(Supervisor, allowed, may).Result);
            Assert.True(OutcomeDiff.SameExactly(may, allowed) && OutcomeDiff.SameExactly(allowed, may));
        }

        Assert.Equal(["event[0].frame.rflags.CF"], Names(Compare(Supervisor, may, neither)));
        Assert.False(OutcomeDiff.SameExactly(may, neither));
    }

    [Fact]
    public void AlternativesAreMaskedLikeAnythingElse()
    {
        CaseMask mask = new() { Rflags = RflagsBits.AF, Rows = ["And"] };
        Outcome may = PvmCases.Ends(PvmCases.Fault()) with { Alternatives = [PvmCases.Ends(PvmCases.Fault(rflags: 0x10002))] };

        Comparison comparison = Compare(mask, may, PvmCases.Ends(PvmCases.Fault(rflags: 0x10002 | RflagsBits.AF)));

        Assert.Equal(ComparisonResult.Agreement, comparison.Result);
        Assert.Equal(["And"], comparison.HidingRows.ToArray());
    }

    /// <summary>What two implementations may both do, they still do differently: the model agrees with either, and they not with each other.</summary>
    [Fact]
    public void TwoThatChoseDifferentAlternativesDiffer()
    {
        Outcome one = PvmCases.Ends(PvmCases.Fault());
        Outcome two = PvmCases.Ends(PvmCases.Fault(rflags: 0x10002));
        Outcome may = one with { Alternatives = [two] };
        foreach (Outcome[] order in (Outcome[][])[[may, one, two], [one, may, two], [one, two, may]])
        {
            Comparison comparison = Compare(Supervisor, order);
            int model = Array.FindIndex(order, o => !o.Alternatives.IsEmpty);
            int[] others = [.. Enumerable.Range(0, 3).Where(i => i != model)];

            Assert.Equal(ComparisonResult.Divergence, comparison.Result);
            Assert.False(Comparer.AllSame([.. order.Select(o => new[] { o })], 0, out _));
            Assert.All(others, other => Assert.False(comparison.Differ(model, other)));
            Assert.True(comparison.Differ(others[0], others[1]));
        }

        Assert.True(Comparer.AllSame([[may], [one], [one]], 0, out _));
    }

    [Fact]
    public void AHaltIsGuestBehaviourWithAName()
    {
        Outcome halted = new() { End = EndKind.Halt, Registers = Supervisor.Registers };
        Outcome ended = new() { End = EndKind.ReachedEnd, Registers = Supervisor.Registers };
        using CaseRunner runner = Fakes.Runner(new FakeTarget("a", _ => halted), new FakeTarget("b", _ => ended));
        Divergence divergence = Fakes.Divergence(runner, Supervisor);

        Assert.Equal(["end"], Names(divergence.Comparison));
        Assert.Equal(["Halt", "ReachedEnd"], Assert.Single(divergence.Comparison.Differences).Values.ToArray());
        Assert.Equal("end/halt", divergence.Signature.Event);
        Assert.StartsWith("pvm-rfc1-", divergence.Signature.FileName(), StringComparison.Ordinal);
        Assert.Equal(ComparisonResult.Agreement, Compare(Supervisor, halted, halted with { Detail = "said otherwise" }).Result);
    }

    /// <summary>The fast path says what the full comparison says, also where frames, structures and alternatives differ.</summary>
    [Fact]
    public void TheFastPathSaysWhatTheFullComparisonSays()
    {
        Outcome[] outcomes =
        [
            PvmCases.Ends(PvmCases.Fault()),
            PvmCases.Ends(PvmCases.Fault(rip: 1)),
            PvmCases.Ends(PvmCases.Fault()) with { Alternatives = [PvmCases.Ends(PvmCases.Fault(rip: 1))] },
            PvmCases.Ends(PvmCases.Fault()) with { System = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 1UL)) },
            PvmCases.Ends(PvmCases.Fault()) with { System = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 2UL)) },
            PvmCases.Ends(PvmCases.Fault(), PvmCases.Call(), PvmCases.Fault()),
            PvmCases.Ends(PvmCases.Fault(), PvmCases.Call(1), PvmCases.Fault()),
        ];
        int same = 0;
        for (int i = 0; i < outcomes.Length * outcomes.Length * outcomes.Length; i++)
        {
            Outcome[] three = [outcomes[i % outcomes.Length], outcomes[i / outcomes.Length % outcomes.Length], outcomes[i / outcomes.Length / outcomes.Length]];
            bool fast = Comparer.AllSame([.. three.Select(o => new[] { o })], 0, out _);
            same += fast ? 1 : 0;
            Assert.Equal(fast, Compare(Supervisor, three).Result == ComparisonResult.Agreement);
        }

        Assert.InRange(same, outcomes.Length, 100);
    }

    /// <summary>Every case of a campaign goes this way, so it leaves nothing for the garbage collector.</summary>
    [Fact]
    public void TheFastPathAllocatesNothing()
    {
        SystemState system = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 1UL));
        Func<Outcome>[] makers = [() => Cases.Fault(), () => PvmCases.Ends(PvmCases.Fault(), PvmCases.Call()) with { System = system.With(SystemRegister.Cr0, 1) }];
        foreach (Func<Outcome> make in makers)
        {
            Outcome[][] outcomes = [[make()], [make()], [make()]];
            Comparer.AllSame(outcomes, 0, out _);
            long before = GC.GetAllocatedBytesForCurrentThread();
            bool same = Comparer.AllSame(outcomes, 0, out int comparable);
            long after = GC.GetAllocatedBytesForCurrentThread();

            Assert.True(same);
            Assert.Equal(3, comparable);
            Assert.Equal(0, after - before);
        }
    }

    private static string[] Names(Comparison comparison) => [.. comparison.Differences.Select(d => d.Field.ToString())];

    private static Comparison Compare(TestCase testCase, params Outcome[] outcomes) =>
        new Comparer([.. outcomes.Select((_, i) => Cases.Info($"t{i}"))], CaseAnalyst.Blind).Compare(testCase, outcomes);

    private static Comparison Compare(CaseMask mask, params Outcome[] outcomes) =>
        new Comparer([.. outcomes.Select((_, i) => Cases.Info($"t{i}"))], new CaseAnalyst(new FakeMachine(), (_, _, _) => mask, CpuVendor.Amd)).Compare(Supervisor, outcomes);
}
