using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Event upcalls: when they come, and what they do to a delivery that has just been made.</summary>
public sealed class UpcallTests
{
    private static readonly (SystemRegister, ulong) Pending = (SystemRegister.XenUpcallPending, 1);

    /// <summary>Before the first instruction of what HYPERVISOR_iret returns to, if IF is set there. The handler is masked.</summary>
    [Theory]
    [InlineData(GuestMode.User)]
    [InlineData(GuestMode.Supervisor)]
    public void APendingEventComesBeforeTheFirstInstruction(GuestMode mode)
    {
        TestCase start = Payload.Make(Abi.XenPv64, mode, "90").ByIret().With(Pending);
        Outcome outcome = start.Run();

        Assert.Equal((EntryPoint.XenEvent, EventKind.Upcall, start.Code.Address, 0UL), (outcome.Events[0].Entry, outcome.Events[0].Kind, outcome.Events[0].Field("rip"), outcome.Events[0].Field("mask")));
        Assert.Equal((1UL, 1UL), (outcome.System[SystemRegister.XenUpcallMask], outcome.System[SystemRegister.XenUpcallPending]));
        Assert.Equal(EndKind.ReachedEnd, (start with { Registers = start.Registers.With(Register.Rflags, 2) }).Run().End);
    }

    /// <summary>A kernel that is simply there gets none until it enters Xen; then after its hypercall, with the result in place.</summary>
    [Fact]
    public void TheKernelMustEnterXenFirst()
    {
        TestCase start = Payload.Kernel("90").With(Pending, (SystemRegister.XenUpcallMask, 0));
        TestCase calling = Payload.Kernel("0F 05 90", (Register.Rax, 99)).With(Pending, (SystemRegister.XenUpcallMask, 0));
        Event e = calling.RunToEvent();

        start.RunToEnd();
        Assert.Equal((EntryPoint.XenEvent, calling.Code.Address + 2, unchecked((ulong)-38), calling.Code.Address + 2), (e.Entry, e.Field("rip"), e.Registers.Gpr[0], e.Field("rcx")));
    }

    /// <summary>Right after another delivery a second frame lies on the first: it shows that handler's start, with RCX and R11 of the guest.</summary>
    [Fact]
    public void AnUpcallStacksOnADelivery()
    {
        TestCase start = Payload.Kernel("CC", (Register.Rcx, 0x11)).With(Pending, (SystemRegister.XenUpcallMask, 0));
        Event e = start.RunToEvent();

        Assert.Equal((EntryPoint.XenEvent, XenMap.Handlers + 0x30, Payload.Stack - 56, 0x11UL), (e.Entry, e.Field("rip"), e.Field("rsp"), e.Field("rcx")));
        Assert.Equal(Payload.Stack - 64 - 56, e.Registers.Gpr[4]);
        Assert.Equal((byte)3, start.Trap(3, 4).RunToEvent().Vector);
    }

    /// <summary>The handler that was interrupted before it began is told of its event when the upcall returns.</summary>
    [Fact]
    public void TheInterruptedDeliveryIsAnEventLater()
    {
        TestCase start = Payload.Kernel("CC", (Register.Rcx, 0x11)).With(Pending, (SystemRegister.XenUpcallMask, 0)).Answer(Payload.Back((Register.Rflags, 2)));
        Outcome outcome = start.Run();

        Assert.Equal([EntryPoint.XenEvent, EntryPoint.XenTrap], outcome.Events.Select(e => e.Entry));
        Assert.Equal((3, start.Code.End, 0x11UL, Payload.Stack - 56), (outcome.Events[1].Vector, outcome.Events[1].Field("rip"), outcome.Events[1].Registers.Gpr[1], outcome.Events[1].Registers.Gpr[4]));
    }

    [Fact]
    public void AnUpcallWithoutACallbackIsACrash() => Assert.Equal("domain crash: there is no handler for an event", Payload.User("90").With(Pending).Without(XenCallbackKind.Event).RunToCrash());

    /// <summary>An answer may make one pending; it comes when the answer returns.</summary>
    [Fact]
    public void AnAnswerMayInject()
    {
        TestCase start = Payload.User("CC 90").Answer(Payload.Back() with { Inject = new Injection(InjectionKind.Upcall, 0) });
        Outcome outcome = start.Run();

        Assert.Equal([EntryPoint.XenTrap, EntryPoint.XenEvent], outcome.Events.Select(e => e.Entry));
        Assert.Equal(start.Code.Address + 1, outcome.Events[1].Field("rip"));
    }

    /// <summary>What a return of an older release has loaded into the upper half of RFLAGS is not in the frame of an upcall that comes right behind it; R11 in the handler has it.</summary>
    [Fact]
    public void AFrameShowsTheLowerHalfOfTheFlags()
    {
        TestCase start = Payload.User("CC 90").Of("4.17.7").Answer(Payload.Back((Register.Rflags, 0xffff_ffff_0000_0246)) with { Inject = new Injection(InjectionKind.Upcall, 0) });
        Event upcall = start.Run().Events[1];

        Assert.Equal((EntryPoint.XenEvent, 0x246UL), (upcall.Entry, upcall.Field("rflags")));
        Assert.Equal(0xffff_ffff_0000_0246, upcall.Registers.Gpr[11]);
    }

    /// <summary>Blocking unmasks: with something pending the upcall comes, else the guest halts.</summary>
    [Fact]
    public void BlockingWaitsForAnUpcall()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(29), (Register.Rdi, 1));

        Assert.Equal((EndKind.Halt, 0UL), (start.Run().End, start.Run().System[SystemRegister.XenUpcallMask]));
        Assert.Equal(EntryPoint.XenEvent, start.With(Pending).RunToEvent().Entry);
    }
}
