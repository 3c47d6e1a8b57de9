using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>The frame of a 64-bit guest's events, and the state in which a handler starts.</summary>
public sealed class BounceFrameTests
{
    private const ulong AllFlags = 0x24_4cd7;

    /// <summary>From the kernel: 56 bytes below RSP; CS shows RPL 0, the mask is 1 and IF its inverse.</summary>
    [Fact]
    public void AKernelEventLiesOnTheCurrentStack()
    {
        Event e = Payload.Kernel("CC", (Register.Rcx, 0x11), (Register.R11, 0xbb)).RunToEvent();

        Assert.Equal((EntryPoint.XenTrap, (byte)3, null), (e.Entry, e.Vector, e.ErrorCode));
        Assert.Equal([0x11UL, 0xbb, Payload.Kernel("CC").Code.End, 0xe030, 1, 2, Payload.Stack, 0xe02b], Shown(e));
        Assert.Equal((Payload.Stack - 56, e.Registers.Rip, 0x202UL), (e.Registers.Gpr[4], XenMap.Handlers + 0x30, e.Registers.Rflags));
        Assert.Equal((XenMap.FlatCode64, XenMap.FlatData), (e.Registers.Cs, e.Registers.Ss));
    }

    /// <summary>From user mode: on the registered stack, with CS as it was. RCX is the handler's address and R11 the flags there.</summary>
    [Fact]
    public void AUserEventLiesOnTheKernelStack()
    {
        Event e = Payload.User("CC", (Register.Rcx, 0x11)).RunToEvent();

        Assert.Equal([0x11UL, 0, Payload.User("CC").Code.End, 0xe033, 0, 0x202, Payload.UserStack, 0xe02b], Shown(e));
        Assert.Equal((Payload.KernelStack - 56, XenMap.Handlers + 0x30, 0x202UL), (e.Registers.Gpr[4], e.Registers.Gpr[1], e.Registers.Gpr[11]));
    }

    /// <summary>The stack is aligned down to 16, so that RSP is 8 modulo 16 without an error code, and 0 with one.</summary>
    [Theory]
    [InlineData("CC", 8)]
    [InlineData("F4", 0)]
    public void TheStackIsAlignedFirst(string code, int rest)
    {
        for (uint i = 0; i < 16; i++)
        {
            Event e = Payload.Kernel(code, (Register.Rsp, Payload.Stack + i)).RunToEvent();

            Assert.Equal(Payload.Stack - (code == "CC" ? 56UL : 64UL), e.Registers.Gpr[4]);
            Assert.Equal((ulong)rest, e.Registers.Gpr[4] % 16);
            Assert.Equal(Payload.Stack + i, e.Field("rsp"));
        }
    }

    /// <summary>Every value of the mask byte is shown, with the three bytes after it; IF is set only for 0.</summary>
    [Theory]
    [InlineData(0, 0x202)]
    [InlineData(1, 2)]
    [InlineData(0xa5, 2)]
    public void TheCodeWordShowsTheMask(byte mask, ulong rflags)
    {
        Event e = Payload.Kernel("CC").With((SystemRegister.XenUpcallMask, mask), (SystemRegister.XenVcpuInfoPad, 0x6655_4433_2211)).RunToEvent();

        Assert.Equal((mask, 0x33_2211UL, 0UL, rflags), ((byte)e.Field("mask"), e.Field("mask.upper"), e.Field("cs.upper"), e.Field("rflags")));
    }

    /// <summary>Saved as they are, but for IF and IOPL; live AC, NT, RF and TF are cleared, DF and ID stay.</summary>
    [Fact]
    public void HandlersStartWithSomeFlagsCleared()
    {
        Event e = Payload.User("CC", (Register.Rflags, AllFlags)).RunToEvent();

        Assert.Equal((AllFlags, 0x20_0ed7UL, 1UL), (e.Field("rflags"), e.Registers.Rflags, e.Field("mask")));
        Assert.Equal(e.Registers.Rflags, e.Registers.Gpr[11]);
    }

    /// <summary>The virtual IOPL shows where the guest has asked for it.</summary>
    [Theory]
    [InlineData(0, 2)]
    [InlineData(0x10, 0x3002)]
    public void TheVirtualIoplShowsOnRequest(ulong assists, ulong rflags) =>
        Assert.Equal(rflags, Payload.Kernel("CC").With((SystemRegister.XenVmAssist, assists), (SystemRegister.XenIopl, 3)).RunToEvent().Field("rflags"));

    /// <summary>Bit 2 of an entry's flags masks upcalls in its handler, whatever else the mask byte holds.</summary>
    [Theory]
    [InlineData(0, 0)]
    [InlineData(4, 1)]
    [InlineData(7, 1)]
    public void AnEntryMayMaskUpcalls(byte flags, ulong mask) =>
        Assert.Equal(mask, Payload.User("CC").Trap(3, flags).Run().System[SystemRegister.XenUpcallMask]);

    /// <summary>What cannot be delivered crashes the domain: no handler, a stack that cannot be written, a stack in Xen's range or beside the address space.</summary>
    [Theory]
    [InlineData(0x7000_0000)]
    [InlineData(0xffff_8000_0000_0000)]
    [InlineData(0xffff_8000_0000_0010)]
    [InlineData(0xffff_8800_0000_003f)]
    [InlineData(0x8000_0000_0000)]
    [InlineData(0)]
    [InlineData(AddressMap.LowBlock + XenMap.Data + 0x1800)]
    public void AStackThatCannotTakeTheFrameIsACrash(ulong stack)
    {
        Assert.StartsWith("domain crash", Payload.Kernel("CC", (Register.Rsp, stack)).RunToCrash(), StringComparison.Ordinal);
        Assert.StartsWith("domain crash", Payload.User("CC").With((SystemRegister.XenKernelSp, stack)).RunToCrash(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("CC", 3)]
    [InlineData("0F 0B", 6)]
    [InlineData("F4", 13)]
    [InlineData("A0 00 00 00 70 00 00 00 00", 14)]
    public void NoHandlerIsACrash(string code, byte vector)
    {
        Assert.Equal("domain crash: there is no handler for an event", Payload.Kernel(code).Without(vector).RunToCrash());
        Assert.Equal("domain crash: there is no handler for an event", Payload.User(code).Without(vector).RunToCrash());
    }

    /// <summary>#PF: U of the error code tells the guest's mode, and the address is in the virtual CR2.</summary>
    [Theory]
    [InlineData("A0 00 00 00 70 00 00 00 00", 0, 4)]
    [InlineData("A2 00 00 00 70 00 00 00 00", 2, 6)]
    public void PageFaultsTellTheMode(string code, uint kernel, uint user)
    {
        Outcome inKernel = Payload.Kernel(code).Run();
        Outcome inUser = Payload.User(code).Run();

        Assert.Equal((kernel, 0x7000_0000UL), (inKernel.Events[0].ErrorCode, inKernel.Events[0].Cr2));
        Assert.Equal((user, 0x7000_0000UL), (inUser.Events[0].ErrorCode, inUser.Events[0].Cr2));
        Assert.Equal(0x7000_0000UL, inUser.System[SystemRegister.Cr2]);
        Assert.Equal(0x1_0202UL, inUser.Events[0].Field("rflags"));
    }

    /// <summary>The user root has pages that the kernel's does not have, and another right for one that both have.</summary>
    [Fact]
    public void EachModeHasItsRoot()
    {
        const ulong shared = AddressMap.LowBlock + XenMap.WritableForKernel;

        Assert.Equal(7U, Payload.User($"A2 {Little(shared)}").RunToEvent().ErrorCode);
        Payload.Kernel($"A2 {Little(shared)}").RunToEnd();
        Payload.User($"A2 {Little(AddressMap.LowBlock + XenMap.UserOnly)}").RunToEnd();
        Assert.Equal(2U, Payload.Kernel($"A2 {Little(AddressMap.LowBlock + XenMap.UserOnly)}").RunToEvent().ErrorCode);
    }

    /// <summary>The base of GS changes with the mode.</summary>
    [Fact]
    public void EachModeHasItsGs()
    {
        Outcome outcome = Payload.User("CC", (Register.GsBase, 0x1000)).With((SystemRegister.KernelGsBase, 0x2000)).Run();

        Assert.Equal((0x2000UL, 0x1000UL), (outcome.Events[0].Registers.GsBase, outcome.System[SystemRegister.KernelGsBase]));
    }

    /// <summary>Eight bytes of an address, as an instruction has them.</summary>
    internal static string Little(ulong value) => Convert.ToHexString(BitConverter.GetBytes(value));

    private static ulong[] Shown(Event e) => [e.Field("rcx"), e.Field("r11"), e.Field("rip"), e.Field("cs"), e.Field("mask"), e.Field("rflags"), e.Field("rsp"), e.Field("ss")];
}
