using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Control and debug registers of supervisor code.</summary>
public sealed class ControlRegisterTests
{
    /// <summary>MOV RAX,CRn.</summary>
    [Theory]
    [InlineData("0F 20 C0", 0x8005_0033UL)]
    [InlineData("0F 20 D8", PvmMap.SupervisorRoot)]
    [InlineData("0F 20 E0", 0x1_0620UL)]
    [InlineData("44 0F 20 C0", 0UL)]
    [InlineData("0F 21 F8", 0x400UL)]
    [InlineData("0F 21 F0", 0xffff_0ff0UL)]
    public void RegistersHaveTheirValues(string code, ulong value) => Assert.Equal(value, Payload.Supervisor(code).RunToEnd().Registers!.Gpr[0]);

    /// <summary>CR0 has one value: any other is #GP(0). CLTS and LMSW of what is there change nothing.</summary>
    [Fact]
    public void Cr0IsFixed()
    {
        Assert.Equal(EndKind.ReachedEnd, Payload.Supervisor("0F 22 C0", (Register.Rax, 0x8005_0033)).Run().End);
        Assert.Equal(13, Payload.Supervisor("0F 22 C0", (Register.Rax, 0x8005_003b)).Run().Only().Vector);
        Assert.Equal(13, Payload.Supervisor("0F 22 C0", (Register.Rax, 0x0005_0033)).Run().Only().Vector);
        Assert.Equal(0x8005_0033UL, Payload.Supervisor("0F 06 0F 01 F0", (Register.Rax, 0x33)).RunToEnd().System[SystemRegister.Cr0]);
        Assert.Equal(13, Payload.Supervisor("0F 01 F0", (Register.Rax, 0x3b)).Run().Only().Vector);
    }

    /// <summary>CR4: SMEP, SMAP, VME and PVI cannot be set, PAE and FSGSBASE not cleared, PKS not without PKE; OSXSAVE, UMIP and OSXMMEXCPT are the host's, LA57 stays, VMXE and bit 31 are not there.</summary>
    [Theory]
    [InlineData(0x1_0620UL, true)]
    [InlineData(0x1_06a0UL, true)]
    [InlineData(0x11_0620UL, false)]
    [InlineData(0x21_0620UL, false)]
    [InlineData(0x1_0621UL, false)]
    [InlineData(0x1_0622UL, false)]
    [InlineData(0x1_0600UL, false)]
    [InlineData(0x0_0620UL, false)]
    [InlineData(0x5_0620UL, false)]
    [InlineData(0x1_1620UL, false)]
    [InlineData(0x1_2620UL, false)]
    [InlineData(0x8001_0620UL, false)]
    [InlineData(0x3_0620UL, true)]
    [InlineData(0x1_0e20UL, false)]
    [InlineData(0x1_0220UL, false)]
    [InlineData(0x101_0620UL, false)]
    [InlineData(0x141_0620UL, true)]
    [InlineData(0x41_0620UL, true)]
    public void Cr4HasFixedBits(ulong value, bool accepted)
    {
        Outcome outcome = Payload.Supervisor("0F 22 E0", (Register.Rax, value)).Run(Payload.Keys);

        Assert.Equal(accepted ? EndKind.ReachedEnd : EndKind.Event, outcome.End);
        Assert.Equal(accepted ? value : 0x1_0620, outcome.System[SystemRegister.Cr4]);
    }

    /// <summary>PKE needs the host's.</summary>
    [Fact]
    public void PkeNeedsTheHosts() => Assert.Equal(EndKind.Event, Payload.Supervisor("0F 22 E0", (Register.Rax, 0x41_0620)).Run().End);

    /// <summary>CR2 and CR8 keep what is written; CR8 has four bits.</summary>
    [Fact]
    public void Cr2AndCr8AreKept()
    {
        Assert.Equal(0x1234UL, Payload.Supervisor("0F 22 D0", (Register.Rax, 0x1234)).RunToEnd().System[SystemRegister.Cr2]);
        Assert.Equal(15UL, Payload.Supervisor("44 0F 22 C0", (Register.Rax, 15)).RunToEnd().System[SystemRegister.Cr8]);
        Assert.Equal(13, Payload.Supervisor("44 0F 22 C0", (Register.Rax, 16)).Run().Only().Vector);
    }

    /// <summary>CR3 can be what it is, with bit 63 only under CR4.PCIDE; a root that the case does not have ends the run.</summary>
    [Fact]
    public void Cr3NeedsARootOfTheCase()
    {
        TestCase keeping = Payload.Supervisor("0F 22 D8", (Register.Rax, PvmMap.SupervisorRoot | (1UL << 63)));
        Assert.Equal(EndKind.ReachedEnd, Payload.Supervisor("0F 22 D8", (Register.Rax, PvmMap.SupervisorRoot)).Run().End);
        Assert.Equal(EndKind.ReachedEnd, keeping.With((SystemRegister.Cr4, 0x3_0620)).Run().End);
        Assert.Equal(13, keeping.Run().Only().Vector);
        Assert.Equal(EndKind.Unsupported, Payload.Supervisor("0F 22 D8", (Register.Rax, 0x5000)).RunAny().End);
    }

    /// <summary>A data breakpoint that supervisor code arms itself: MOV DR0, MOV DR7, then a store there. #DB after the store.</summary>
    [Fact]
    public void SupervisorCodeArmsBreakpoints()
    {
        TestCase testCase = Payload.Supervisor("0F 23 C0 0F 23 FB 48 89 00 90", (Register.Rax, Payload.Data), (Register.Rbx, 0x9_0401));

        Event what = testCase.Run().Only();

        Assert.Equal((1, testCase.Code.End - 1), (what.Vector, what.Frame("rip")));
    }

    /// <summary>MOV SS from a watched word: #DB after the NOP behind it, but nothing when an INT3 or a SYSCALL is behind it.</summary>
    [Fact]
    public void AWatchpointOfMovSsIsDiscardedByAnEntry()
    {
        Event trapped = Watched("90 90").Run().Only();
        Outcome entered = Watched("CC 90").Answer(Payload.Back(ReturnKind.Erets)).Run();
        Outcome called = Watched("0F 05 90").Run();

        Assert.Equal(1, trapped.Vector);
        Assert.Equal((3, EndKind.ReachedEnd), (entered.Only().Vector, entered.End));
        Assert.Equal((0, EndKind.ReachedEnd), (called.Events.Length, called.End));

        static TestCase Watched(string behind) => Payload
            .Supervisor("0F 23 C0 0F 23 FB 8E 10" + behind, (Register.Rax, Payload.Data), (Register.Rbx, 0x3_0401))
            .With(Payload.Data, (byte)Selectors.UserData, 0);
    }

    /// <summary>A breakpoint outside the address ranges is not active: nothing traps at ffff800000000000, and the store there is a #PF.</summary>
    [Fact]
    public void BreakpointsOutsideTheRangesAreNotActive()
    {
        ulong dr7 = Paging.Confine(new DebugRegisters(0x1000, 0xffff_8000_0000_0000, 0xffff_c980_0000_0000, 0xffff_ffff_ffff_0000, 0xff), 0xffff_ffff_ffb3_ff93).Dr7;

        Assert.Equal(0x33UL, dr7);
    }

    /// <summary>DR6 and DR7 with upper halves are #GP(0); DR4 is DR6 without CR4.DE and #UD with it.</summary>
    [Fact]
    public void DebugRegistersHaveConstraints()
    {
        Assert.Equal(13, Payload.Supervisor("0F 23 F8", (Register.Rax, 1UL << 32)).Run().Only().Vector);
        Assert.Equal(0xffff_0ff0UL, Payload.Supervisor("0F 21 E0").RunToEnd().Registers!.Gpr[0]);
        Assert.Equal(6, Payload.Supervisor("0F 21 E0").With((SystemRegister.Cr4, 0x1_0628)).Run().Only().Vector);
        Assert.Equal(0xffff_0ff1UL, Payload.Supervisor("0F 23 F0", (Register.Rax, 1)).RunToEnd().System[SystemRegister.Dr6]);
    }

    /// <summary>DR7.GD makes the next access to a debug register a #DB, which is not modelled: the model says so when the bit is set.</summary>
    [Fact]
    public void GeneralDetectIsUnsupported()
    {
        Assert.Equal(EndKind.Unsupported, Payload.Supervisor("0F 23 F8", (Register.Rax, 0x2000)).RunAny().End);
        Assert.Equal(0x400UL, Payload.Supervisor("0F 23 F8", (Register.Rax, 0)).RunToEnd().System[SystemRegister.Dr7]);
    }
}
