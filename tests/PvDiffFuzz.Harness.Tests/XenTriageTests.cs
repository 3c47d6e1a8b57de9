using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>What Xen cases need to be described: the delivery below an upcall, and the fault of which a guest dies.</summary>
public sealed class XenTriageTests
{
    private const string Undefined = """
        # This processor does not have the instruction.
        id       xen-undefined
        kind     host
        clause   SDM vol.2A
        reason   undefined
        targets  xen*
        abi      xen-pv64
        forms    any
        vectors  any
        fields   end events event.kind event.vector event.error event.cr2 event.entry event.rip event.rflags event.frame gpr event.gpr rip rflags memory
        where    this.event.vector = 6
        where    this.event.frame.rip = address

        """;

    private static readonly TestCase Kernel = WithUpcalls(XenCases.Kernel("cc"));

    /// <summary>The #UD shows in memory alone: the only event is the upcall that came before its handler ran.</summary>
    [Fact]
    public void TheDeliveryBelowAnUpcallIsDescribed()
    {
        Outcome stacked = Stacked(Kernel, vector: 6, rip: Kernel.Code.Address);

        Assert.Equal([0], Find(Kernel, stacked).AsEnumerable());
        Assert.Empty(Find(Kernel, Stacked(Kernel, vector: 5, rip: Kernel.Code.Address)));
        Assert.Empty(Find(Kernel, Stacked(Kernel, vector: 6, rip: Kernel.Code.Address + 1)));
    }

    /// <summary>Kernel code finds the frames of its events on its stack; user code does where the kernel's stack lies in a page of user mode, such as its own stack.</summary>
    [Fact]
    public void FramesCanLieWhereTheCodeFindsThem()
    {
        TestCase user = XenCases.User("cc");

        Assert.True(Interrupted.StoresFramesInReach(Kernel));
        Assert.False(Interrupted.StoresFramesInReach(user));
        Assert.True(Interrupted.StoresFramesInReach(user with { System = user.System.With(SystemRegister.XenKernelSp, user.Registers.Gpr[4] + 0x27) }));
    }

    /// <summary>An upcall after the instruction lies on nothing, and one on a handler of two vectors does not tell which.</summary>
    [Fact]
    public void AnUpcallThatTellsNoVectorIsNotUnfolded()
    {
        TestCase shared = Kernel with { Xen = Kernel.Xen! with { Traps = Kernel.Xen.Traps.With(Kernel.Xen.Traps[5] with { Address = Kernel.Xen.Traps[6].Address }) } };

        Assert.Empty(Find(shared, Stacked(shared, vector: 6, rip: shared.Code.Address)));
        Assert.Empty(Find(Kernel, XenCases.Ends(Upcall(Kernel, Kernel.Code.End, Kernel.Registers.Gpr[4]))));
    }

    /// <summary>One target raises #GP, the other #PF, for which the guest has no handler. With one, the #PF is seen, and a known one.</summary>
    [Fact]
    public void OfACrashTheFaultIsDescribed()
    {
        CampaignSummary described = Run(c => XenCases.Ends(XenCases.Trap(c, vector: 6)));
        CampaignSummary other = Run(c => XenCases.Ends(XenCases.Trap(c, vector: 5)));
        CampaignSummary none = Run(c => XenCases.Ends(XenCases.Trap(c, vector: 13)));

        Assert.Empty(described.Signatures);
        Assert.Equal((8, 0, 8), (described.KnownMatches["xen-undefined"], described.New, described.Cases));
        Assert.Equal((8, 8), (other.New, other.Cases));
        Assert.Equal(8, none.New);
    }

    /// <summary>A kernel that dies for want of a stack is asked again with one; a kernel's own stack, other code's and that of a guest that lives are left alone.</summary>
    [Theory]
    [InlineData(GuestMode.Supervisor, 0UL, EndKind.Crash, true)]
    [InlineData(GuestMode.Supervisor, AddressMap.LowBlock + XenMap.Stack + 0x800, EndKind.Crash, false)]
    [InlineData(GuestMode.User, 0UL, EndKind.Crash, false)]
    [InlineData(GuestMode.Supervisor, 0UL, EndKind.ReachedEnd, false)]
    public void AKernelWithoutAStackIsAskedAgainWithOne(GuestMode start, ulong rsp, EndKind end, bool again)
    {
        TestCase testCase = start == GuestMode.User ? XenCases.User("cc") : XenCases.Kernel("cc");
        testCase = testCase with { Registers = testCase.Registers.With(Register.Rsp, rsp) };
        Outcome dead = new() { End = end, Registers = end == EndKind.Crash ? null : testCase.Registers with { Rip = 5 } };
        using CaseRunner runner = Fakes.Runner(new FakeTarget("model.xen", c => XenCases.Ends(XenCases.Trap(c))), new FakeTarget("xen:4.17", _ => dead));

        TestCase? alive = Revival.Of(Fakes.Divergence(runner, testCase));

        Assert.Equal(again ? testCase.System[SystemRegister.XenKernelSp] : null, alive?.Registers[Register.Rsp]);
    }

    /// <summary>Bytes behind a kernel's code are each target's own, so that what was read of them is no finding.</summary>
    [Fact]
    public void AReaderOfTheJumpStubIsExplained()
    {
        Verdict? read = Explain(c => c.InitialWord(c.Code.End & ~7UL));
        Verdict? other = Explain(c => c.InitialWord((c.Code.End & ~7UL) - 8));

        Assert.Equal(VerdictKind.HarnessFault, read?.Kind);
        Assert.Contains("jump stub", read?.Why, StringComparison.Ordinal);
        Assert.Null(other);
    }

    private static Verdict? Explain(Func<TestCase, ulong> rax)
    {
        TargetInfo model = Cases.Info("model") with { Kind = TargetKind.Model };
        using CaseRunner runner = Fakes.Runner(new FakeTarget(model, c => Cases.Fault(rax: rax(c))), new FakeTarget("xen:4.17", c => Cases.Fault(rax: rax(c) + 1)));
        Suspect suspect = new() { Divergence = Fakes.Divergence(runner, Kernel), Runner = runner, Fresh = () => runner };
        return new StubDoubt().Examine(suspect).Explanation;
    }

    /// <summary>A campaign over user code without a handler for <c>#UD</c>; what the second target does with one is given.</summary>
    private static CampaignSummary Run(Func<TestCase, Outcome> alive)
    {
        CampaignParts parts = new()
        {
            Targets = Fakes.Factories(
                () => new FakeTarget("model.xen", c => XenCases.Ends(XenCases.Trap(c, vector: 13))),
                () => new FakeTarget("xen:4.17", c => c.Xen!.Traps[6].Address == 0 ? new Outcome { End = EndKind.Crash } : alive(c))),
            Source = () => new Source(),
            Analyst = () => CaseAnalyst.Blind,
            Known = Known(Undefined.Replace("where    this.event.frame.rip = address\n", "", StringComparison.Ordinal)),
        };
        return new Campaign(new CampaignOptions { Seed = 1, Count = 8, BatchSize = 8, RangeSize = 8 }, parts).Run(CancellationToken.None);
    }

    private static KnownSet Known(string text) => new([KnownReader.Parse(Encoding.UTF8.GetBytes(text), "x.known")]);

    private static ImmutableArray<int> Find(TestCase testCase, Outcome outcome)
    {
        Outcome end = new() { End = EndKind.ReachedEnd, Registers = testCase.Registers with { Rip = testCase.Code.End } };
        using CaseRunner runner = Fakes.Runner(new FakeTarget("model.xen", _ => end), new FakeTarget("xen:4.17", _ => outcome));
        Divergence divergence = Fakes.Divergence(runner, testCase);
        Divergence at = divergence with { Instruction = InstructionAt.Decode(testCase.Code.Bytes.AsSpan(), testCase.Code.Address, testCase.Mode, CpuVendor.Amd) };
        return Known(Undefined.Replace("where    this.event.frame.rip = address\n", $"where    this.event.frame.rip = 0x{testCase.Code.Address:x}\n", StringComparison.Ordinal)).Find(at, CaseAnalyst.Blind);
    }

    private static TestCase WithUpcalls(TestCase testCase) => testCase with
    {
        Xen = testCase.Xen! with { Callbacks = [new XenCallback(XenCallbackKind.Event, MaskEvents: false, XenMap.FlatCode64, XenMap.CallbackAddress(Abi.XenPv64, XenCallbackKind.Event))] },
    };

    /// <summary>A vector without an error code, and an upcall before the first instruction of its handler.</summary>
    private static Outcome Stacked(TestCase testCase, byte vector, ulong rip)
    {
        ulong stack = testCase.Registers.Gpr[4] - 56;
        Event upcall = Upcall(testCase, XenMap.Handlers + (ulong)(vector * XenTrap.HandlerSize), stack);
        ulong[] below = [0, 0, rip, XenMap.FlatCode64, 0x202, testCase.Registers.Gpr[4], XenMap.FlatData];
        return XenCases.Ends(upcall) with { Memory = [.. below.Select((word, i) => new MemoryWord(stack + (ulong)(8 * i), word))] };
    }

    private static Event Upcall(TestCase testCase, ulong rip, ulong rsp)
    {
        ulong[] words = [0, 0, rip, XenMap.FlatCode64, 0x202, rsp, XenMap.FlatData];
        byte[] frame = new byte[56];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(8 * i), words[i]);
        }

        RegisterState registers = testCase.Registers.With(Register.Rsp, rsp - 72) with { Rip = XenMap.CallbackAddress(Abi.XenPv64, XenCallbackKind.Event) };
        return new Event(EventKind.Upcall, 0, null, null, EntryPoint.XenEvent, registers) { Frame = [.. frame] };
    }

    private sealed class Source : ICaseSource
    {
        public TestCase Generate(ulong index)
        {
            TestCase user = XenCases.User("cc");
            return user with { Xen = user.Xen! with { Traps = user.Xen.Traps.Without(6) } };
        }
    }
}
