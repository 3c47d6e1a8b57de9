using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>SYSCALL and SYSENTER of 64-bit guests.</summary>
public sealed class SystemCallTests
{
    private static readonly Abi[] Deliveries = [Abi.XenPv64, Abi.XenPv64Fred];

    /// <summary>To the callback: RCX and RIP of the frame are the next address, R11 and RFLAGS the flags; live DF and TF are clear.</summary>
    [Fact]
    public void UserCodeReachesTheCallback()
    {
        foreach (Abi abi in Deliveries)
        {
            TestCase start = Payload.User("0F 05", (Register.Rflags, 0x602), (Register.Rax, 7)).Under(abi);
            Event e = start.RunToEvent();

            Assert.Equal((EntryPoint.XenSyscall, EventKind.SystemCall, (byte)0, 56), (e.Entry, e.Kind, e.Vector, e.Frame.Length));
            Assert.Equal((start.Code.End, start.Code.End, 0x602UL, 0x602UL), (e.Field("rip"), e.Field("rcx"), e.Field("r11"), e.Field("rflags")));
            Assert.Equal((7UL, 0x202UL, e.Registers.Rip), (e.Registers.Gpr[0], e.Registers.Rflags, e.Registers.Gpr[1]));
        }
    }

    /// <summary>The frame shows the flat selectors, whatever they were.</summary>
    [Fact]
    public void TheInterruptedSelectorsAreLost()
    {
        TestCase start = Payload.User("0F 05", (Register.Cs, 0x13), (Register.Ss, 0x1b));
        start = start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x00af_fb00_0000_ffff), new(0x18, 0x00cf_f300_0000_ffff)] } };

        Event e = start.RunToEvent();
        Event trap = (start with { Code = Payload.User("CC").Code, Registers = start.Registers with { Rip = Payload.User("CC").Code.Address } }).RunToEvent();

        Assert.Equal((0xe033UL, 0xe02bUL), (e.Field("cs"), e.Field("ss")));
        Assert.Equal((0x13UL, 0x1bUL), (trap.Field("cs"), trap.Field("ss")));
    }

    /// <summary>Without a callback it is #UD: by IDT two bytes back, by FRED at the instruction. RCX and R11 are lost all the same, RF is clear.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, "0F 05", 0)]
    [InlineData(Abi.XenPv64, "48 0F 05", 1)]
    [InlineData(Abi.XenPv64Fred, "48 0F 05", 0)]
    public void AnUnregisteredSyscallIsUndefined(Abi abi, string code, ulong offset)
    {
        TestCase start = Payload.User(code).Under(abi).Without(XenCallbackKind.Syscall);
        Event e = start.RunToEvent();

        Assert.Equal((6, start.Code.Address + offset, start.Code.End, 0x202UL, 0x202UL), (e.Vector, e.Field("rip"), e.Field("rcx"), e.Field("r11"), e.Field("rflags")));
        Assert.StartsWith("domain crash", start.Without(6).RunToCrash(), StringComparison.Ordinal);
    }

    /// <summary>SYSCALL saves no selectors, so that by IDT the frame of that #UD has flat ones, whatever segments the guest's own were. FRED saves them.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, 0x00cf_fb00_0000_ffff, 0xe023, 0xe02b)]
    [InlineData(Abi.XenPv64, 0x00af_fb00_0000_ffff, 0xe033, 0xe02b)]
    [InlineData(Abi.XenPv64Fred, 0x00cf_fb00_0000_ffff, 0x13, 0x1b)]
    public void AnUnregisteredSyscallLosesItsSelectors(Abi abi, ulong descriptor, ulong cs, ulong ss)
    {
        TestCase start = Payload.User("0F 05").Under(abi).Without(XenCallbackKind.Syscall).Without(XenCallbackKind.Syscall32);
        start = start with
        {
            Xen = start.Xen! with { Gdt = [new(0x10, descriptor), new(0x18, 0x00cf_f300_0000_ffff)] },
            Registers = start.Registers with { Cs = 0x13, Ss = 0x1b },
        };
        Event e = start.RunToEvent();

        Assert.Equal((6, cs, ss), (e.Vector, e.Field("cs"), e.Field("ss")));
    }

    /// <summary>Before 4.15 there was no check, and the domain died.</summary>
    [Theory]
    [InlineData("4.14.6", EndKind.Crash)]
    [InlineData("4.15.0", EndKind.Event)]
    public void AnUnregisteredSyscallWasACrash(string version, EndKind end) =>
        Assert.Equal(end, Payload.User("0F 05").Without(XenCallbackKind.Syscall).Of(version).Run().End);

    /// <summary>DF in the handler of that #UD, which the frame shows in any case.</summary>
    [Theory]
    [InlineData("4.17.4", 0x202)]
    [InlineData("4.17.5", 0x602)]
    [InlineData("4.18.2", 0x202)]
    [InlineData("4.18.3", 0x602)]
    [InlineData("4.19.0", 0x602)]
    public void DirectionInTheHandlerOfAnUnregisteredSyscall(string version, ulong rflags)
    {
        Event e = Payload.User("0F 05", (Register.Rflags, 0x602)).Without(XenCallbackKind.Syscall).Of(version).RunToEvent();

        Assert.Equal((0x602UL, rflags), (e.Field("rflags"), e.Registers.Rflags));
    }

    /// <summary>32-bit user code: AMD's processors reach the callback, Intel's have no such SYSCALL.</summary>
    [Fact]
    public void SyscallOf32BitCodeDependsOnTheProcessor()
    {
        TestCase start = Payload.User("0F 05", (Register.Cs, XenMap.FlatCode32));
        Event amd = start.RunToEvent(CpuProfile.DefaultAmd);
        Event intel = start.RunToEvent(CpuProfile.DefaultIntel);

        Assert.Equal((EntryPoint.XenSyscall32, (ulong)XenMap.FlatCode32, start.Code.End, start.Code.End), (amd.Entry, amd.Field("cs"), amd.Field("rip"), amd.Field("rcx")));
        Assert.Equal((EntryPoint.XenTrap, (byte)6, start.Code.Address), (intel.Entry, intel.Vector, intel.Field("rip")));
    }

    /// <summary>By IDT the 64-bit callback's choice to mask events counts for the 32-bit one too; by FRED its own.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, XenCallbackKind.Syscall, 1)]
    [InlineData(Abi.XenPv64, XenCallbackKind.Syscall32, 0)]
    [InlineData(Abi.XenPv64Fred, XenCallbackKind.Syscall, 0)]
    [InlineData(Abi.XenPv64Fred, XenCallbackKind.Syscall32, 1)]
    public void WhichCallbackMasksFor32BitCode(Abi abi, XenCallbackKind masking, ulong mask) =>
        Assert.Equal(mask, Payload.User("0F 05", (Register.Cs, XenMap.FlatCode32)).Under(abi).Masking(masking).Run().System[SystemRegister.XenUpcallMask]);

    [Theory]
    [InlineData(XenCallbackKind.Syscall, "0F 05", 1)]
    [InlineData(XenCallbackKind.Sysenter, "0F 05", 0)]
    [InlineData(XenCallbackKind.Sysenter, "0F 34", 1)]
    public void ACallbackMayMaskEvents(XenCallbackKind kind, string code, ulong mask) =>
        Assert.Equal(mask, Payload.User(code).Masking(kind).Run(Payload.Intel).System[SystemRegister.XenUpcallMask]);

    /// <summary>SYSENTER tells neither RIP nor RSP. Without a callback it is #GP(0) with the same frame.</summary>
    [Fact]
    public void SysenterLosesWhereItWas()
    {
        TestCase start = Payload.User("0F 34", (Register.Rcx, 0x11));
        foreach (Event e in (Event[])[start.RunToEvent(Payload.Intel), start.Without(XenCallbackKind.Sysenter).RunToEvent(Payload.Intel)])
        {
            Assert.Equal((0UL, 3UL, 0UL, 0xe02bUL, 0x11UL), (e.Field("rip"), e.Field("cs"), e.Field("rsp"), e.Field("ss"), e.Field("rcx")));
        }

        Assert.Equal(EntryPoint.XenSysenter, start.RunToEvent(Payload.Intel).Entry);
        Assert.Equal(((byte)13, (uint?)0), (start.Without(XenCallbackKind.Sysenter).RunToEvent(Payload.Intel).Vector, start.Without(XenCallbackKind.Sysenter).RunToEvent(Payload.Intel).ErrorCode));
    }

    /// <summary>By FRED RIP is known, and an unregistered SYSENTER is rewound to the instruction.</summary>
    [Fact]
    public void AnUnregisteredSysenterIsRewoundUnderFred()
    {
        TestCase start = Payload.User("66 0F 34").Under(Abi.XenPv64Fred).Without(XenCallbackKind.Sysenter);

        Assert.Equal((start.Code.Address, Payload.UserStack), (start.RunToEvent(Payload.Intel).Field("rip"), start.RunToEvent(Payload.Intel).Field("rsp")));
    }

    /// <summary>AMD's processors have no SYSENTER in long mode; on Intel's the kernel's own goes to a stack at 0.</summary>
    [Fact]
    public void SysenterElsewhere()
    {
        Assert.Equal(6, Payload.User("0F 34").RunToEvent(CpuProfile.DefaultAmd).Vector);
        Assert.StartsWith("domain crash", Payload.Kernel("0F 34").RunToCrash(Payload.Intel), StringComparison.Ordinal);
    }

    /// <summary>Of the kernel a SYSCALL is a hypercall: RCX is the next address, R11 the flags; unless a release leaves both alone under FRED.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, "4.17.7", true)]
    [InlineData(Abi.XenPv64Fred, "4.21.1", false)]
    [InlineData(Abi.XenPv64Fred, "4.21.2", true)]
    [InlineData(Abi.XenPv64Fred, "4.22.0", true)]
    public void HypercallsLoadRcxAndR11(Abi abi, string version, bool loads)
    {
        TestCase start = Payload.Kernel("0F 05", (Register.Rax, ulong.MaxValue), (Register.Rcx, 0x11), (Register.R11, 0xbb)).Under(abi).Of(version);
        RegisterState end = start.RunToEnd().Registers!;

        Assert.Equal((unchecked((ulong)-38), loads ? start.Code.End : 0x11, loads ? 0x202UL : 0xbb), (end.Gpr[0], end.Gpr[1], end.Gpr[11]));
    }

    /// <summary>The same for handlers and for the frames of system calls.</summary>
    [Fact]
    public void FirstReleasesUnderFredLeaveRcxAlone()
    {
        TestCase start = Payload.User("0F 05", (Register.Rcx, 0x11), (Register.R11, 0xbb)).Under(Abi.XenPv64Fred);
        Event old = start.Of("4.21.1").RunToEvent();
        Event now = start.Of("4.22.0").RunToEvent();

        Assert.Equal((0x11UL, 0xbbUL, 0x11UL, 0xbbUL), (old.Field("rcx"), old.Field("r11"), old.Registers.Gpr[1], old.Registers.Gpr[11]));
        Assert.Equal((start.Code.End, 0x202UL, now.Registers.Rip, 0x202UL), (now.Field("rcx"), now.Field("r11"), now.Registers.Gpr[1], now.Registers.Gpr[11]));
    }
}
