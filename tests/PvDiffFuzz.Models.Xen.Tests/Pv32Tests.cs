using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>32-bit guests: frames of ring 1, the return, hypercalls by INT 82h.</summary>
public sealed class Pv32Tests
{
    private const Abi Pv32 = Abi.XenPv32;

    /// <summary>From ring 1: EIP, CS and EFLAGS below the current stack, which is not aligned. The mask is in bits 23:16 of the CS word.</summary>
    [Fact]
    public void AKernelEventHasThreeWords()
    {
        TestCase start = Kernel("CC", (Register.Rsp, Payload.Stack + 3), (Register.Rcx, 0x11));
        Event e = start.With((SystemRegister.XenVcpuInfoPad, 0x77)).RunToEvent();

        Assert.Equal((12, Payload.Stack + 3 - 12, start.Code.End, 0xe019UL), (e.Frame.Length, e.Registers.Gpr[4], e.Field("eip", Pv32), e.Field("cs", Pv32)));
        Assert.Equal((1UL, 0x77UL, 2UL, 0x11UL), (e.Field("mask", Pv32), e.Field("mask.upper", Pv32), e.Field("eflags", Pv32), e.Registers.Gpr[1]));
        Assert.Equal((XenMap.KernelCode32, XenMap.KernelData32, XenMap.Handlers32 + 0x30), (e.Registers.Cs, e.Registers.Ss, e.Registers.Rip));
    }

    /// <summary>From ring 3: ESP and SS too, on the registered stack; with an error code six words.</summary>
    [Fact]
    public void AUserEventHasFiveWords()
    {
        Event trap = User("CC").RunToEvent();
        Event fault = User("F4").RunToEvent();

        Assert.Equal((20, Payload.KernelStack - 20, Payload.UserStack, 0xe033UL, 0xe02bUL), (trap.Frame.Length, trap.Registers.Gpr[4], trap.Field("esp", Pv32), trap.Field("ss", Pv32), trap.Field("cs", Pv32)));
        Assert.Equal((24, 0UL, (uint?)0), (fault.Frame.Length, fault.Field("errcode", Pv32), fault.ErrorCode));
    }

    /// <summary>Handlers keep AC, and lose NT, RF and TF.</summary>
    [Fact]
    public void HandlersKeepAc() => Assert.Equal(0x24_0ed7UL, User("CC", (Register.Rflags, 0x24_4ed7)).RunToEvent().Registers.Rflags);

    /// <summary>Ring 1 may use supervisor pages and ring 3 may not; error codes tell which it was.</summary>
    [Fact]
    public void SupervisorPagesAreTheKernels()
    {
        string load = $"A0 {BoundedLittle(Payload.Data)}";

        Kernel(load).RunToEnd();
        Assert.Equal((14, 5U), (User(load).RunToEvent().Vector, User(load).RunToEvent().Error()));
        Assert.Equal(0U, Kernel("A0 00 00 00 70").RunToEvent().ErrorCode);
    }

    /// <summary>Alignment is checked in ring 3 alone.</summary>
    [Fact]
    public void AlignmentIsCheckedInRing3()
    {
        (Register, ulong)[] registers = [(Register.Rflags, 0x4_0202), (Register.Rax, AddressMap.LowBlock + AddressMap.Data + 1)];

        Assert.Equal(17, User("8B 00", registers).RunToEvent().Vector);
        Kernel("8B 00", registers).ByIret().RunToEnd();
    }

    /// <summary>INT 82h of ring 1 is a hypercall, with results in EAX and ECX untouched; of ring 3 it is refused like any other.</summary>
    [Fact]
    public void HypercallsAreInt82()
    {
        RegisterState end = Kernel("CD 82", (Register.Rax, 99), (Register.Rcx, 0x11)).RunToEnd().Registers!;

        Assert.Equal((0xffff_ffdaUL, 0x11UL), (end.Gpr[0], end.Gpr[1]));
        Assert.Equal((13, (uint?)0x412), (User("CD 82").RunToEvent().Vector, User("CD 82").RunToEvent().ErrorCode));
        Assert.Equal((13, (uint?)0x202), (Kernel("CD 40").RunToEvent().Vector, Kernel("CD 40").RunToEvent().ErrorCode));
    }

    /// <summary>Arguments are EBX, ECX, EDX, ESI and EDI, and structures have words of 32 bits.</summary>
    [Fact]
    public void HypercallsHave32BitStructures()
    {
        SystemState system = Kernel("CD 82", (Register.Rax, 3), (Register.Rbx, 0xe020), (Register.Rcx, 0x1234)).RunToEnd().System;
        TestCase set = Kernel("CD 82 CD 40", (Register.Rbx, Payload.Data)).WithWords(Payload.Data, 0x40 | (3 << 8) | (0xe018UL << 16) | ((XenMap.Handlers32 + 0x400) << 32), 0);

        Assert.Equal((0xe021UL, 0x1234UL), (system[SystemRegister.XenKernelSs], system[SystemRegister.XenKernelSp]));
        Assert.Equal((0x40, XenMap.KernelCode32), (set.RunToEvent().Vector, set.RunToEvent().Registers.Cs));
        Assert.Equal(0xffff_ffdaUL, Kernel("CD 82", (Register.Rax, 25)).RunToEnd().Registers!.Gpr[0]);
        Assert.Equal(0xffff_ffeaUL, Kernel("CD 82", (Register.Rax, 30), (Register.Rbx, 2)).RunToEnd().Registers!.Gpr[0]);
    }

    [Theory]
    [InlineData("4.17.7+debug", 0xdead_f00d)]
    [InlineData("4.17.7", 0xe020)]
    public void DebugBuildsPoisonArguments(string version, ulong ebx) =>
        Assert.Equal(ebx, Kernel("CD 82", (Register.Rax, 3), (Register.Rbx, 0xe020)).Of(version).RunToEnd().Registers!.Gpr[3]);

    /// <summary>HYPERVISOR_iret of four words to ring 1, and of six to ring 3.</summary>
    [Fact]
    public void ReturnsByTheStack()
    {
        ulong user = AddressMap.LowBlock + AddressMap.Code;
        TestCase start = Kernel("CD 82 CC", (Register.Rax, 23), (Register.Rsp, Payload.Data));
        TestCase inner = start.WithWords(Payload.Data, 5 | ((start.Code.Address + 2) << 32), 0xe019 | (0x202UL << 32));
        TestCase outer = start.With(user, 0xcc).WithWords(Payload.Data, 5 | (user << 32), 0xe02b | (0x202UL << 32), 0x1234 | (0xe033UL << 32));

        Assert.Equal((5UL, 0xe019UL, Payload.Data + 16 - 12), (inner.RunToEvent().Registers.Gpr[0], inner.RunToEvent().Field("cs", Pv32), inner.RunToEvent().Registers.Gpr[4]));
        Assert.Equal((0x1234UL, user + 1, 0xe033UL), (outer.RunToEvent().Field("esp", Pv32), outer.RunToEvent().Field("eip", Pv32), outer.RunToEvent().Field("ss", Pv32)));
        Assert.Equal("domain crash: HYPERVISOR_iret to ring 0", start.WithWords(Payload.Data, user << 32, 0xe008 | (0x202UL << 32)).RunToCrash());
        Assert.Equal("domain crash: the frame of HYPERVISOR_iret cannot be read", (start with { Registers = start.Registers.With(Register.Rsp, 0x7000_0000) }).RunToCrash());
    }

    /// <summary>Data segments of the kernel's ring are empty in user mode.</summary>
    [Fact]
    public void KernelSegmentsDoNotReachUserMode()
    {
        Event e = User("CC", (Register.Ds, XenMap.KernelData32), (Register.Es, XenMap.UserData32)).RunToEvent();

        Assert.Equal(((ushort)0, XenMap.UserData32), (e.Registers.Ds, e.Registers.Es));
    }

    /// <summary>SYSCALL of user code on AMD's processors; without a callback it is #GP(0) at the instruction.</summary>
    [Fact]
    public void SyscallHasItsCallback()
    {
        TestCase start = User("0F 05", (Register.Rcx, 0x11));
        Event e = start.RunToEvent(CpuProfile.DefaultAmd);
        Event none = start.Without(XenCallbackKind.Syscall32).RunToEvent(CpuProfile.DefaultAmd);

        Assert.Equal((EntryPoint.XenSyscall32, start.Code.End, start.Code.End), (e.Entry, e.Field("eip", Pv32), e.Registers.Gpr[1]));
        Assert.Equal((13, (uint?)0, start.Code.Address), (none.Vector, none.ErrorCode, none.Field("eip", Pv32)));
        Assert.Equal(6, start.RunToEvent(CpuProfile.DefaultIntel).Vector);
    }

    [Fact]
    public void WhatCannotBeDeliveredIsACrash()
    {
        Assert.Equal("domain crash: there is no handler for an event", Kernel("CC").Without(3).RunToCrash());
        TestCase nullCode = Kernel("CC");
        nullCode = nullCode with { Xen = nullCode.Xen! with { Traps = nullCode.Xen.Traps.With(new XenTrap(3, 3, 0, XenMap.Handlers32)) } };
        Assert.Equal("domain crash: the code selector of a handler is null", nullCode.RunToCrash());
        Assert.StartsWith("domain crash", User("CC").With((SystemRegister.XenKernelSp, 0x7000_0000)).RunToCrash(), StringComparison.Ordinal);
        Assert.StartsWith("domain crash", User("CC").With((SystemRegister.XenKernelSs, 0xe010)).RunToCrash(), StringComparison.Ordinal);
    }

    /// <summary>An answer returns by the frame of its event, from ring 1 and from ring 3.</summary>
    [Theory]
    [InlineData(GuestMode.User)]
    [InlineData(GuestMode.Supervisor)]
    public void AnswersReturn(GuestMode mode)
    {
        Outcome outcome = Payload.Make(Pv32, mode, "CC 40", (Register.Rax, 5)).Answer(Payload.Back()).RunToEnd();

        Assert.Equal(6UL, outcome.Registers!.Gpr[0]);
        Assert.Equal(mode == GuestMode.User ? Payload.KernelStack - 24 : Payload.Stack, outcome.Registers.Gpr[4]);
    }

    /// <summary>Ring 1 loads its own segments and those of ring 3, but no stack of ring 3.</summary>
    [Theory]
    [InlineData("8E D8", 0xe021, 0)]
    [InlineData("8E D8", 0xe033, 0)]
    [InlineData("8E D8", 0xe011, 13)]
    [InlineData("8E D0", 0xe021, 0)]
    [InlineData("8E D0", 0xe033, 13)]
    public void SegmentsOfRing1(string code, ulong selector, byte vector)
    {
        Outcome outcome = Kernel(code, (Register.Rax, selector)).Run();

        Assert.Equal(vector, outcome.Events.IsEmpty ? 0 : outcome.Events[0].Vector);
    }

    /// <summary>The bases of FS and GS are no MSRs of a 32-bit guest, and its control registers have 32 bits.</summary>
    [Fact]
    public void PrivilegedInstructionsHave32Bits()
    {
        Assert.Equal(13, Kernel("0F 32", (Register.Rcx, 0xc000_0100)).RunToEvent().Vector);
        Assert.Equal(0x8005_0033UL, Kernel("0F 20 C0").RunToEnd().Registers!.Gpr[0]);
    }

    private static TestCase Kernel(string code, params (Register Register, ulong Value)[] registers) => Payload.Make(Pv32, GuestMode.Supervisor, code, registers);

    private static TestCase User(string code, params (Register Register, ulong Value)[] registers) => Payload.Make(Pv32, GuestMode.User, code, registers);

    private static string BoundedLittle(ulong address) => Convert.ToHexString(BitConverter.GetBytes((uint)address));
}
