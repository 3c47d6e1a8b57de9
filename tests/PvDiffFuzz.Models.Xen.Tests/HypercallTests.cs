using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Hypercalls of a 64-bit guest's kernel.</summary>
public sealed class HypercallTests
{
    private const long Eperm = -1;
    private const long Efault = -14;
    private const long Enodev = -19;
    private const long Einval = -22;
    private const long Enosys = -38;
    private const ulong Bad = 0x7000_0000;
    private const ulong NotCanonical = 0x8000_0000_0000;

    /// <summary>Numbers that there are not, all 64 bits counted.</summary>
    [Theory]
    [InlineData(11)]
    [InlineData(38)]
    [InlineData(50)]
    [InlineData(56)]
    [InlineData(0x1_0000_0000)]
    [InlineData(ulong.MaxValue)]
    public void UnknownNumbers(ulong number) => Assert.Equal(Enosys, Payload.Kernel("0F 05", (Register.Rax, number)).RunForRax());

    /// <summary>A list of handlers ends at address 0, or at an address that cannot be, and what came before stays.</summary>
    [Fact]
    public void SetTrapTable()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(0) + "CD 40", (Register.Rdi, Payload.Data));
        ulong entry = 0x40 | (3 << 8) | (0xe033UL << 16);
        TestCase set = start.WithWords(Payload.Data, entry, XenMap.Handlers + 0x400, 0, 0);
        TestCase half = start.WithWords(Payload.Data, entry, XenMap.Handlers + 0x400, 0x41, NotCanonical);

        Assert.Equal((0x40, 0UL), (set.RunToEvent().Vector, set.RunToEvent().Registers.Gpr[0]));
        Assert.Equal((0x40, Einval), (half.RunToEvent().Vector, (long)half.RunToEvent().Registers.Gpr[0]));
        Assert.Equal(Efault, Call(0, Bad));
        Assert.Equal("domain crash: there is no handler for an event", Payload.Kernel(Payload.Hypercall(0) + "CC").RunToCrash());
    }

    /// <summary>A handler that the payload registers elsewhere is a jump, and the payload goes on there.</summary>
    [Fact]
    public void AHandlerOfThePayloadIsAJump()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(0) + "CC 90", (Register.Rdi, Payload.Data));
        TestCase own = start.WithWords(Payload.Data, 3 | (0xe033UL << 16), start.Code.End - 1, 0, 0);

        Assert.Empty(own.RunToEnd().Events);
    }

    [Fact]
    public void CallbackOp()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(30), (Register.Rsi, Payload.Data));

        Assert.Equal(0, start.WithWords(Payload.Data, 2, 0x1000).RunForRax());
        Assert.Equal(Einval, start.WithWords(Payload.Data, 2, NotCanonical).RunForRax());
        Assert.Equal(Enosys, start.WithWords(Payload.Data, 6, 0x1000).RunForRax());
        Assert.Equal(Enosys, Call(30, 2, Payload.Data));
        Assert.Equal(Efault, Call(30, 0, Bad));
        Assert.Equal(Einval, (start with { Registers = start.Registers.With(Register.Rdi, 1) }).WithWords(Payload.Data, 0).RunForRax());
        Assert.Equal(0, (start with { Registers = start.Registers.With(Register.Rdi, 1) }).WithWords(Payload.Data, 4).RunForRax());
        Assert.Equal(Enosys, (start with { Registers = start.Registers.With(Register.Rdi, 1) }).WithWords(Payload.Data, 9).RunForRax());
    }

    /// <summary>Commands and numbers of registers have 32 bits: what stands above them changes nothing, though it does in the number of the call.</summary>
    [Theory]
    [InlineData(5, 0, 0)]
    [InlineData(8, 0, 0)]
    [InlineData(8, 8, Enodev)]
    [InlineData(9, 7, 0x400)]
    [InlineData(25, 1, 0)]
    [InlineData(25, 4, Einval)]
    [InlineData(28, 1, 0)]
    [InlineData(28, 2, Enosys)]
    [InlineData(30, 0, Efault)]
    [InlineData(30, 2, Enosys)]
    public void UpperHalvesOfCommandsMeanNothing(uint number, ulong command, long result)
    {
        Assert.Equal(result, Call(number, command));
        Assert.Equal(result, Call(number, command | 0xffff_ffff_0000_0000));
    }

    /// <summary>The event callback that a guest takes away by registering none crashes it.</summary>
    [Fact]
    public void RegisteringAddress0UnregistersInEffect()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(30), (Register.Rsi, Payload.Data)).WithWords(Payload.Data, 0, 0).With((SystemRegister.XenUpcallPending, 1), (SystemRegister.XenUpcallMask, 0));

        Assert.StartsWith("domain crash", start.RunToCrash(), StringComparison.Ordinal);
    }

    /// <summary>The NMI callback is entry 2 of the trap table.</summary>
    [Fact]
    public void TheNmiCallbackIsEntry2()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(28) + "CD 02", (Register.Rsi, Payload.Data)).Trap(2, 3);

        Assert.Equal(13, start.WithWords(Payload.Data, XenMap.Handlers + 0x20).RunToEvent().Vector);
        Assert.Equal(Einval, (long)start.WithWords(Payload.Data, NotCanonical).RunToEvent().Registers.Gpr[0]);
        TestCase stated = Payload.Kernel("CD 02");
        stated = stated with { Xen = stated.Xen! with { Callbacks = stated.Xen.Callbacks.Add(new XenCallback(XenCallbackKind.Nmi, true, XenMap.FlatCode64, 0x7e00_0030_0000)) } };
        Assert.Equal(0x12U, stated.RunToEvent().ErrorCode);
    }

    /// <summary>The argument of nmi_op has two words, and that of set_iobitmap is as long, though the last of each means nothing: both have to be there.</summary>
    [Theory]
    [InlineData(28, 0)]
    [InlineData(33, 7)]
    public void ArgumentsAreReadAsAWhole(uint number, ulong command)
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(number), (Register.Rdi, command));
        TestCase whole = start with { Registers = start.Registers.With(Register.Rsi, Payload.Data + 0x1ff0) };
        TestCase half = start with { Registers = start.Registers.With(Register.Rsi, Payload.Data + 0x1ff8) };

        Assert.Equal((0, Efault), (whole.RunForRax(), half.RunForRax()));
    }

    /// <summary>The I/O bitmap lies where a guest may have memory.</summary>
    [Theory]
    [InlineData(NotCanonical, Einval)]
    [InlineData(0xffff_8000_0000_0000, Einval)]
    [InlineData(Bad, 0)]
    public void TheIoBitmapIsTheGuests(ulong address, long result) =>
        Assert.Equal(result, Payload.Kernel(Payload.Hypercall(33), (Register.Rdi, 7), (Register.Rsi, Payload.Data)).WithWords(Payload.Data, address, 8).RunForRax());

    /// <summary>A call in a list that blocks the guest has its result stored before the guest blocks, and none after it is made.</summary>
    [Fact]
    public void ABlockingCallInAList()
    {
        Outcome outcome = Payload.Kernel(Payload.Hypercall(13), (Register.Rdi, Payload.Data), (Register.Rsi, 2)).WithWords(Payload.Data, 29, 7, 1, 0, 0, 0, 0, 0, 99, 7).Run();

        Assert.Equal(EndKind.Halt, outcome.End);
        Assert.Equal([new(Payload.Data + 8, 0)], outcome.Memory.ToArray());
    }

    /// <summary>The stack for events of user mode; its selector's RPL becomes 3.</summary>
    [Fact]
    public void StackSwitch()
    {
        SystemState system = Payload.Kernel(Payload.Hypercall(3), (Register.Rdi, 0xe028), (Register.Rsi, Payload.Data)).RunToEnd().System;

        Assert.Equal((0xe02bUL, Payload.Data), (system[SystemRegister.XenKernelSs], system[SystemRegister.XenKernelSp]));
    }

    [Fact]
    public void SetSegmentBase()
    {
        Assert.Equal(0x1000UL, Payload.Kernel(Payload.Hypercall(25), (Register.Rsi, 0x1000)).RunToEnd().Registers!.FsBase);
        Assert.Equal(0x1000UL, Payload.Kernel(Payload.Hypercall(25), (Register.Rdi, 1), (Register.Rsi, 0x1000)).RunToEnd().System[SystemRegister.KernelGsBase]);
        Assert.Equal(0x1000UL, Payload.Kernel(Payload.Hypercall(25), (Register.Rdi, 2), (Register.Rsi, 0x1000)).RunToEnd().Registers!.GsBase);
        Assert.Equal((ushort)0xe02b, Payload.Kernel(Payload.Hypercall(25), (Register.Rdi, 3), (Register.Rsi, 0xe02b)).RunToEnd().Registers!.Gs);
        Assert.Equal((ushort)0xe02b, Payload.Kernel(Payload.Hypercall(25), (Register.Rdi, 3), (Register.Rsi, 0xe02a)).RunToEnd().Registers!.Gs);
        Assert.Equal((ushort)0, Payload.Kernel(Payload.Hypercall(25), (Register.Rdi, 3), (Register.Rsi, 0x1234), (Register.Gs, 0xe02b)).RunToEnd().Registers!.Gs);
        Assert.Equal(0, Call(25, 3, 0x1234));
        Assert.Equal(Einval, Call(25, 0, NotCanonical));
        Assert.Equal(Einval, Call(25, 4, 0));
    }

    [Fact]
    public void DescriptorTables()
    {
        Assert.Equal(Einval, Call(2, Payload.Data, 7169));
        Assert.Equal(Efault, Call(2, Bad, 7168));
        Assert.Equal(Einval, Call(10, 1, 0));
        Assert.Equal(Einval, Call(10, 8, 0x0000_8b00_0000_0000));
        Assert.Equal(EndKind.Unsupported, Payload.Kernel(Payload.Hypercall(10), (Register.Rdi, 8)).RunAny().End);
    }

    /// <summary>A guest that gives up its descriptors cannot load them any more.</summary>
    [Fact]
    public void SetGdtToNothing()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(2) + "8E E3", (Register.Rbx, 0x13));
        start = start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x00cf_f300_0000_ffff)] } };

        Assert.Equal((13, 0x10U), (start.RunToEvent().Vector, start.RunToEvent().Error()));
        (start with { Registers = start.Registers.With(Register.Rsi, 7169) }).RunToEnd();
    }

    [Fact]
    public void DebugRegisters()
    {
        Assert.Equal(Eperm, Call(8, 0, 0xffff_8000_0000_0000));
        Assert.Equal(Eperm, Call(8, 0, NotCanonical));
        Assert.Equal(0, Call(8, 0, 0x1234));
        Assert.Equal(Einval, Call(8, 6, 0x1_0000_0000));
        Assert.Equal(Einval, Call(8, 7, 0x1_0000_0000));
        Assert.Equal(Eperm, Call(8, 7, 0x2000));
        Assert.Equal(Eperm, Call(8, 7, 0x2_0001));
        Assert.Equal(0, Call(8, 7, 0x2_0000));
        Assert.Equal(0, Payload.Kernel(Payload.Hypercall(8), (Register.Rdi, 7), (Register.Rsi, 0x2_0001)).With((SystemRegister.Cr4, 8)).RunForRax());
        Assert.Equal(Enodev, Call(8, 8, 0));
        Assert.Equal(Enodev, Call(9, 8));
        Assert.Equal(0x400, Call(9, 7));
        Assert.Equal(0xffff_0ff0, Call(9, 4));
        Assert.Equal(Enodev, Payload.Kernel(Payload.Hypercall(9), (Register.Rdi, 4)).With((SystemRegister.Cr4, 8)).RunForRax());
        Assert.Equal(0xffff_4ff1UL, Payload.Kernel(Payload.Hypercall(8), (Register.Rdi, 6), (Register.Rsi, 0x5001)).RunToEnd().System[SystemRegister.Dr6]);
    }

    /// <summary>A breakpoint that the guest sets is met.</summary>
    [Fact]
    public void ABreakpointIsArmed()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(8) + "90 90", (Register.Rdi, 7), (Register.Rsi, 0x401));
        start = start with { Registers = start.Registers with { Debug = new DebugRegisters(start.Code.End - 1, 0, 0, 0, 0x400) } };

        Assert.Equal((1, start.Code.End - 1), (start.RunToEvent().Vector, start.RunToEvent().Field("rip")));
    }

    [Theory]
    [InlineData(1, 0x8005_003b)]
    [InlineData(0, 0x8005_0033)]
    public void FpuTaskswitch(ulong set, ulong cr0) => Assert.Equal(cr0, Payload.Kernel(Payload.Hypercall(5) + "0F 20 C0", (Register.Rdi, set)).RunToEnd().Registers!.Gpr[0]);

    /// <summary>Each call's result is stored in its entry; the list ends with what cannot be read.</summary>
    [Fact]
    public void Multicall()
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(13), (Register.Rdi, Payload.Data), (Register.Rsi, 2)).WithWords(Payload.Data, 3, 7, 0xe028, 0x1234, 0, 0, 0, 0, 99, 7, 0, 0, 0, 0, 0, 0);
        Outcome outcome = start.RunToEnd();

        Assert.Equal((0UL, 0x1234UL), (outcome.Registers!.Gpr[0], outcome.System[SystemRegister.XenKernelSp]));
        Assert.Equal([new(Payload.Data + 8, 0), new(Payload.Data + 72, unchecked((ulong)Enosys))], outcome.Memory.ToArray());
        Assert.Equal(Efault, Call(13, Bad, 1));
        Assert.Equal(0, Call(13, Bad, 0));
        Assert.Equal(Efault, Payload.Kernel(Payload.Hypercall(13), (Register.Rdi, Payload.Data + 0x1000), (Register.Rsi, 1)).RunForRax());
    }

    [Fact]
    public void ConsoleAndOthers()
    {
        Assert.Equal(0, Call(18, 0, 5, Payload.Data));
        Assert.Equal(Efault, Call(18, 0, 5, Bad));
        Assert.Equal(Enosys, Call(18, 7, 0, 0));
        Assert.Equal(0x4_0016, Call(17));
        Assert.Equal(4096, Call(17, 7, 0));
        Assert.Equal(Enosys, Call(17, 99));
        Assert.Equal(0, Call(29));
        Assert.Equal(Efault, Call(29, 2, Bad));
        Assert.Equal(Enosys, Call(29, 99));
        Assert.Equal(Enosys, Call(6, 3));
        Assert.Equal(1, Call(24, 3, 0));
        Assert.Equal(Enosys, Call(28, 2));
        Assert.Equal(Enosys, Call(33, 99));
        Assert.Equal("domain crash: the guest reports one of its own", Payload.Kernel(Payload.Hypercall(6), (Register.Rdi, 2), (Register.Rsi, 3)).RunToCrash());
    }

    [Fact]
    public void VmAssist()
    {
        Assert.Equal(0x10UL, Payload.Kernel(Payload.Hypercall(21), (Register.Rsi, 4)).RunToEnd().System[SystemRegister.XenVmAssist]);
        Assert.Equal(0x20UL, Payload.Kernel(Payload.Hypercall(21), (Register.Rdi, 1), (Register.Rsi, 4)).With((SystemRegister.XenVmAssist, 0x30)).RunToEnd().System[SystemRegister.XenVmAssist]);
        Assert.Equal(Einval, Call(21, 0, 6));
        Assert.Equal(Enosys, Call(21, 2, 4));
    }

    [Theory]
    [InlineData(3, 0, 3)]
    [InlineData(4, Einval, 0)]
    public void SetIopl(byte wanted, long result, ulong iopl)
    {
        Outcome outcome = Payload.Kernel(Payload.Hypercall(33), (Register.Rdi, 6), (Register.Rsi, Payload.Data)).With(Payload.Data, wanted).RunToEnd();

        Assert.Equal((result, iopl), ((long)outcome.Registers!.Gpr[0], outcome.System[SystemRegister.XenIopl]));
    }

    /// <summary>A debug build writes over the arguments that a call has, but not for a call that there is not.</summary>
    [Theory]
    [InlineData("4.17.7", 3, 0xe028, 1, 2)]
    [InlineData("4.17.7+debug", 3, 0xdead_beef_dead_f00d, 0xdead_beef_dead_f00d, 2)]
    [InlineData("4.17.7+debug", 5, 0xdead_beef_dead_f00d, 1, 2)]
    [InlineData("4.17.7+debug", 99, 0xe028, 1, 2)]
    public void DebugBuildsPoisonArguments(string version, uint number, ulong rdi, ulong rsi, ulong rdx)
    {
        RegisterState end = Payload.Kernel(Payload.Hypercall(number), (Register.Rdi, 0xe028), (Register.Rsi, 1), (Register.Rdx, 2)).Of(version).RunToEnd().Registers!;

        Assert.Equal((rdi, rsi, rdx), (end.Gpr[7], end.Gpr[6], end.Gpr[2]));
    }

    /// <summary>xenoprof_op is gone in 4.22; before, what it does is no part of a case.</summary>
    [Fact]
    public void XenoprofIsGone()
    {
        Assert.Equal(Enosys, Payload.Kernel(Payload.Hypercall(31)).Of("4.22.0").RunForRax());
        Assert.Equal(EndKind.Unsupported, Payload.Kernel(Payload.Hypercall(31)).Of("4.21.1").RunAny().End);
    }

    /// <summary>Calls of an answer are events of their own, with the registers of the entry and the result over them.</summary>
    [Fact]
    public void AnswersMakeCalls()
    {
        Outcome outcome = Payload.User("CC 90", (Register.Rdi, 1)).Answer(Payload.Call(3, 0xe028, Payload.KernelStack)).RunToEnd();

        Assert.Equal([EventKind.Trap, EventKind.Hypercall, EventKind.Fault], outcome.Events.Select(e => e.Kind));
        RegisterState call = outcome.Events[1].Registers;
        Assert.Equal((0UL, 0xe028UL, outcome.Events[0].Registers.Rip, outcome.Events[0].Registers.Rip, 0x202UL), (call.Gpr[0], call.Gpr[7], call.Rip, call.Gpr[1], call.Gpr[11]));
        Assert.Equal(1UL, outcome.Registers!.Gpr[7]);
    }

    private static long Call(uint number, params ReadOnlySpan<ulong> arguments)
    {
        TestCase start = Payload.Kernel(Payload.Hypercall(number));
        ReadOnlySpan<Register> places = [Register.Rdi, Register.Rsi, Register.Rdx];
        for (int i = 0; i < arguments.Length; i++)
        {
            start = start with { Registers = start.Registers.With(places[i], arguments[i]) };
        }

        return start.RunForRax();
    }
}
