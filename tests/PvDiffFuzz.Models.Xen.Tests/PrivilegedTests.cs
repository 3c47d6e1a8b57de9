using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Privileged instructions of 64-bit guests, and the forced emulation prefix.</summary>
public sealed class PrivilegedTests
{
    /// <summary>What Xen never carries out is the guest's #GP(0), at the instruction with RF set.</summary>
    [Theory]
    [InlineData("F4")]
    [InlineData("0F 08")]
    [InlineData("0F 01 38")]
    [InlineData("0F 01 1C 24")]
    [InlineData("0F 01 14 24")]
    [InlineData("0F 00 D0")]
    [InlineData("0F 00 D8")]
    [InlineData("0F 01 F0")]
    [InlineData("0F 01 F8")]
    [InlineData("48 0F 07")]
    [InlineData("0F 33")]
    [InlineData("44 0F 20 C0")]
    [InlineData("FA")]
    [InlineData("FB")]
    [InlineData("E4 80")]
    [InlineData("E6 80")]
    [InlineData("6E")]
    public void RefusedInstructions(string code)
    {
        foreach (TestCase start in (TestCase[])[Payload.Kernel(code), Payload.User(code)])
        {
            Event e = start.RunToEvent();

            Assert.Equal((13, 0U, start.Code.Address, RflagsBits.RF), (e.Vector, e.Error(), e.Field("rip"), e.Field("rflags") & RflagsBits.RF));
        }
    }

    /// <summary>What the kernel may do is refused to user code.</summary>
    [Theory]
    [InlineData("0F 20 C0")]
    [InlineData("0F 22 C0")]
    [InlineData("0F 21 F0")]
    [InlineData("0F 06")]
    [InlineData("0F 09")]
    [InlineData("0F 32")]
    [InlineData("0F 30")]
    public void OnlyTheKernelIsPrivileged(string code)
    {
        (Register, ulong)[] registers = [(Register.Rax, 0x8005_0033), (Register.Rcx, 0xc000_0100)];
        Payload.Kernel(code, registers).RunToEnd();

        Assert.Equal(13, Payload.User(code, registers).RunToEvent().Vector);
    }

    [Fact]
    public void ControlRegister0ChangesInTsAlone()
    {
        Assert.Equal(0x8005_0033UL, Payload.Kernel("0F 20 C0").RunToEnd().Registers!.Gpr[0]);
        Assert.Equal(0x8005_003bUL, Payload.Kernel("0F 22 C0 0F 20 C3", (Register.Rax, 0x8005_003b)).RunToEnd().Registers!.Gpr[3]);
        Assert.Equal(0x8005_0033UL, Payload.Kernel("0F 06 0F 20 C3").With((SystemRegister.Cr0, 0x8005_003b)).RunToEnd().Registers!.Gpr[3]);
        Assert.Equal(13, Payload.Kernel("0F 22 C0", (Register.Rax, 0x33)).RunToEvent().Vector);
    }

    [Fact]
    public void ControlRegister2IsVirtual() => Assert.Equal(0x1234UL, Payload.Kernel("0F 22 D0 0F 20 D3", (Register.Rax, 0x1234)).RunToEnd().Registers!.Gpr[3]);

    /// <summary>Writes never fault, and change TSD, DE, FSGSBASE and OSXSAVE alone.</summary>
    [Theory]
    [InlineData(0, 0x660)]
    [InlineData(ulong.MaxValue, 0x5_066c)]
    public void ControlRegister4HasFourBitsOfTheGuests(ulong written, ulong read) =>
        Assert.Equal(read, Payload.Kernel("0F 22 E0 0F 20 E3", (Register.Rax, written)).RunToEnd().Registers!.Gpr[3]);

    /// <summary>The instructions of FSGSBASE come and go with the guest's bit.</summary>
    [Fact]
    public void FsgsbaseIsTheGuestsToEnable()
    {
        const string read = "F3 48 0F AE C0";

        Payload.Kernel(read).RunToEnd();
        Assert.Equal(6, Payload.Kernel(read).With((SystemRegister.Cr4, 0x660)).RunToEvent().Vector);
        Assert.Equal(6, Payload.Kernel("0F 22 E0" + read, (Register.Rax, 0x660)).RunToEvent().Vector);
        Payload.Kernel("0F 22 E0" + read, (Register.Rax, 0x1_0660)).With((SystemRegister.Cr4, 0x660)).RunToEnd();
    }

    [Fact]
    public void MachineAddressesAreNoPartOfACase() => Assert.Equal(EndKind.Unsupported, Payload.Kernel("0F 20 D8").RunAny().End);

    [Theory]
    [InlineData("0F 21 F0", 0xffff_0ff0)]
    [InlineData("0F 21 E0", 0xffff_0ff0)]
    [InlineData("0F 21 F8", 0x400)]
    public void DebugRegistersAreVirtual(string code, ulong value) => Assert.Equal(value, Payload.Kernel(code).RunToEnd().Registers!.Gpr[0]);

    [Theory]
    [InlineData("0F 23 F0", 0x1_0000_0000, 13)]
    [InlineData("0F 23 F8", 0x2000, 13)]
    [InlineData("0F 23 C0", 0xffff_8000_0000_0000, 13)]
    public void DebugRegistersAreChecked(string code, ulong value, byte vector) => Assert.Equal(vector, Payload.Kernel(code, (Register.Rax, value)).RunToEvent().Vector);

    [Fact]
    public void DebugRegisters4And5DependOnDe() => Assert.Equal(6, Payload.Kernel("0F 21 E0").With((SystemRegister.Cr4, 8)).RunToEvent().Vector);

    [Theory]
    [InlineData(0xc000_0100, 0x10)]
    [InlineData(0xc000_0101, 0x20)]
    [InlineData(0xc000_0102, 0x30)]
    [InlineData(0xc000_0080, 0xd01)]
    public void MsrsOfAGuest(uint index, ulong value)
    {
        RegisterState end = Payload.Kernel("0F 32", (Register.Rcx, index), (Register.FsBase, 0x10), (Register.GsBase, 0x20)).With((SystemRegister.KernelGsBase, 0x30)).RunToEnd().Registers!;

        Assert.Equal((value, 0UL), (end.Gpr[0], end.Gpr[2]));
    }

    [Theory]
    [InlineData(0xc000_0100, 0x8000)]
    [InlineData(0xc000_0080, 0)]
    [InlineData(0xc000_0082, 0)]
    [InlineData(0xdead_beef, 0)]
    public void MsrWritesThatAreRefused(uint index, ulong high) => Assert.Equal(13, Payload.Kernel("0F 30", (Register.Rcx, index), (Register.Rdx, high)).RunToEvent().Vector);

    /// <summary>A read that would fault is 0 while the guest has no handler for #GP.</summary>
    [Fact]
    public void RefusedReadsAreZeroWithoutAHandler()
    {
        TestCase start = Payload.Kernel("0F 32", (Register.Rcx, 0xc000_0082), (Register.Rax, 7));

        Assert.Equal(13, start.RunToEvent().Vector);
        Assert.Equal(0UL, start.Without(13).RunToEnd().Registers!.Gpr[0]);
    }

    /// <summary>CLI and STI change nothing; the kernel needs a virtual IOPL of 1, user code of 3.</summary>
    [Theory]
    [InlineData(0, 0, false, false)]
    [InlineData(1, 0, true, false)]
    [InlineData(3, 0, true, true)]
    [InlineData(0, 0x10, true, false)]
    public void InterruptFlagInstructionsObeyTheVirtualIopl(ulong iopl, ulong assists, bool kernel, bool user)
    {
        foreach (string code in (string[])["FA", "FB", "E6 80", "E4 80"])
        {
            (SystemRegister, ulong)[] state = [(SystemRegister.XenIopl, iopl), (SystemRegister.XenVmAssist, assists)];
            Outcome inKernel = Payload.Kernel(code + "9C 58").With(state).Run();
            Outcome inUser = Payload.User(code).With(state).Run();

            Assert.Equal((kernel, user), (inKernel.End == EndKind.ReachedEnd, inUser.End == EndKind.ReachedEnd));
            Assert.Equal(1UL, inKernel.System[SystemRegister.XenUpcallMask]);
        }
    }

    /// <summary>A guest without ports reads ones, and its writes vanish.</summary>
    [Theory]
    [InlineData("E4 80", 0x1111_1111_1111_11ff)]
    [InlineData("66 E5 80", 0x1111_1111_1111_ffff)]
    [InlineData("E5 80", 0xffff_ffff)]
    [InlineData("E6 80", 0x1111_1111_1111_1111)]
    public void PortsAreAbsent(string code, ulong rax) =>
        Assert.Equal(rax, Payload.Kernel(code, (Register.Rax, 0x1111_1111_1111_1111)).With((SystemRegister.XenIopl, 1)).RunToEnd().Registers!.Gpr[0]);

    /// <summary>String forms move their pointer and count; a fault comes between iterations.</summary>
    [Fact]
    public void StringPortInstructions()
    {
        TestCase ins = Payload.Kernel("F3 66 6D", (Register.Rcx, 3), (Register.Rdi, Payload.Data), (Register.Rdx, 0x80)).With((SystemRegister.XenIopl, 1));
        Outcome outcome = ins.RunToEnd();
        Event fault = (ins with { Registers = ins.Registers.With(Register.Rdi, Payload.Data + 0xffe) }).RunToEvent();

        Assert.Equal((0UL, Payload.Data + 6), (outcome.Registers!.Gpr[1], outcome.Registers.Gpr[7]));
        Assert.Equal([new(Payload.Data, 0xffff_ffff_ffff)], outcome.Memory.ToArray());
        Assert.Equal((14, 3U, 2UL, ins.Code.Address), (fault.Vector, fault.Error(), fault.Field("rcx"), fault.Field("rip")));
        Assert.Equal(Payload.Data - 1, Payload.Kernel("6E", (Register.Rsi, Payload.Data), (Register.Rdx, 0x80), (Register.Rflags, 0x602)).With((SystemRegister.XenIopl, 1)).RunToEnd().Registers!.Gpr[6]);
    }

    /// <summary>An iteration that succeeds clears RF, so that the fault of the next one comes without.</summary>
    [Fact]
    public void AnIterationClearsResume()
    {
        TestCase start = Payload.Kernel("F3 6E", (Register.Rcx, 2), (Register.Rdx, 0x80), (Register.Rsi, Payload.Data + 0x1fff)).With((SystemRegister.XenIopl, 1));
        Event second = start.RunToEvent();
        Event first = (start with { Registers = start.Registers.With(Register.Rsi, Payload.Data + 0x2000) }).RunToEvent();

        Assert.Equal((14, 1UL, 0UL), (second.Vector, second.Field("rcx"), second.Field("rflags") & RflagsBits.RF));
        Assert.Equal((14, 2UL, RflagsBits.RF), (first.Vector, first.Field("rcx"), first.Field("rflags") & RflagsBits.RF));
    }

    /// <summary>Some of Xen's own memory can be read, and which is not stated.</summary>
    [Fact]
    public void MemoryOfXenIsNotModelled() => Assert.Equal(EndKind.Unsupported, Payload.Kernel("48 8B 03", (Register.Rbx, 0xffff_8000_0000_0000)).RunAny().End);

    /// <summary>WAIT is #NM where CR0.TS is set, since Xen sets CR0.MP; TS is clear then.</summary>
    [Fact]
    public void WaitWantsTheTasksState()
    {
        Event e = Payload.Kernel("9B").With((SystemRegister.Cr0, 0x8005_003b)).RunToEvent();

        Assert.Equal((7, XenMap.Handlers + 0x70), (e.Vector, e.Registers.Rip));
        Payload.Kernel("9B").RunToEnd();
    }

    /// <summary>RFLAGS at the end are what PUSHF shows, so RF never is.</summary>
    [Fact]
    public void TheEndDoesNotShowResume()
    {
        TestCase start = Payload.Kernel("CD 02").Answer(Payload.Back());
        Response past = Payload.Back((Register.Rip, start.Code.End));

        Assert.Equal(0UL, start.Answer(past).RunToEnd().Registers!.Rflags & RflagsBits.RF);
    }

    /// <summary>The guest's bitmap opens ports; one that cannot be read is #PF in newer releases and closes them in older ones.</summary>
    [Theory]
    [InlineData("4.17.7", 13)]
    [InlineData("4.20.0", 14)]
    public void TheIoBitmap(string version, byte vector)
    {
        const string set = "B8 21 00 00 00 0F 05 E6 80";
        TestCase start = Payload.Kernel(set, (Register.Rdi, 7), (Register.Rsi, Payload.Data)).Of(version);

        start.WithWords(Payload.Data, Payload.Data + 0x100, 0x100).RunToEnd();
        Assert.Equal(13, start.WithWords(Payload.Data, Payload.Data + 0x100, 0x80).RunToEvent().Vector);
        Assert.Equal(13, start.WithWords(Payload.Data, Payload.Data + 0x100, 0x100).With(Payload.Data + 0x110, 1).RunToEvent().Vector);
        Assert.Equal(vector, start.WithWords(Payload.Data, 0x7000_0000, 0x100).RunToEvent().Vector);
    }

    /// <summary>After an emulated instruction RF is clear, and a single step traps at once.</summary>
    [Fact]
    public void EmulatedInstructionsEndLikeOthers()
    {
        TestCase start = Payload.Kernel("0F 20 C0 90").ByIret();
        start = start with { Registers = start.Registers with { Rflags = 0x1_0302 } };
        Event e = start.RunToEvent();

        Assert.Equal((1, start.Code.Address + 3, 0x302UL), (e.Vector, e.Field("rip"), e.Field("rflags")));
    }

    /// <summary>CPUID behind the prefix shows Xen's leaves; any other instruction there, and half a prefix, is #UD at the prefix.</summary>
    [Fact]
    public void ForcedEmulation()
    {
        TestCase start = Payload.User("0F 0B 78 65 6E 0F A2 90", (Register.Rax, 0x4000_0000));
        RegisterState end = start.RunToEnd().Registers!;

        Assert.Equal((0x566e_6558UL, 0x4d4d_566eUL), (end.Gpr[3], end.Gpr[2]));
        Assert.Equal(0x4_0011UL, (start with { Registers = start.Registers.With(Register.Rax, 0x4000_0001) }).Of("4.17.7").RunToEnd().Registers!.Gpr[0]);
        foreach (string code in (string[])["0F 0B 78 65 6E 90 90", "0F 0B 78 65 6E", "0F 0B"])
        {
            Assert.Equal((6, Payload.User(code).Code.Address), (Payload.User(code).RunToEvent().Vector, Payload.User(code).RunToEvent().Field("rip")));
        }
    }

    /// <summary>UMIP is not offered: what the profile states is shown, else the model does not guess.</summary>
    [Fact]
    public void SystemTablesAreTheHosts() => Assert.Equal(EndKind.Unsupported, Payload.User("0F 01 0C 24").RunAny(CpuProfile.DefaultAmd).End);
}
