using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>EVENT_RETURN_USER and EVENT_RETURN_SUPERVISOR, by payloads and by responses.</summary>
public sealed class ReturnTests
{
    private const string JumpToRetu = "48 B8 10 00 4D 00 00 00 00 00 FF E0";
    private const string JumpToRets = "48 B8 20 00 4D 00 00 00 00 00 FF E0";

    /// <summary>An event and its return by EVENT_RETURN_USER restore every register of the context: INT3 in the middle changes nothing that code after it sees.</summary>
    [Fact]
    public void AReturnToUserModeRestoresTheContext()
    {
        (Register, ulong)[] registers = [(Register.Rcx, 0xc1), (Register.R11, 0x11), (Register.Rflags, 0x240ed7), (Register.Rax, 0xa1), (Register.FsBase, 0x3000)];

        RegisterState plain = Interrupted(Payload.User("90", registers).RunToEnd());
        RegisterState answered = Interrupted(Payload.User("CC", registers).Answer(Payload.Back(ReturnKind.Eretu)).RunToEnd());

        Assert.Empty(RegisterState.Differences(plain, answered));
    }

    /// <summary>A supervisor event and EVENT_RETURN_SUPERVISOR likewise, the interrupt flag included.</summary>
    [Theory]
    [InlineData("CC")]
    [InlineData("CD 80")]
    public void AReturnToSupervisorModeRestoresTheContext(string code)
    {
        TestCase testCase = Payload.Supervisor(code, (Register.Rcx, 0xc1), (Register.R11, 0x11), (Register.Rflags, 0x240cd7)).InterruptsOn();

        Outcome outcome = testCase.Answer(Payload.Back(ReturnKind.Erets)).RunToEnd();

        Assert.Empty(RegisterState.Differences(testCase.Registers with { Rip = testCase.Code.End }, outcome.Registers!));
        Assert.Equal(0x200UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>RFLAGS are standardized: IOPL, VM, VIF and VIP cleared, IF and bit 1 set. GS base has bits 63:47 of bit 47. RSP is saved in its MSR, the pending flag cleared.</summary>
    [Fact]
    public void AReturnToUserModeConvertsFlagsAndGsBase()
    {
        TestCase testCase = Payload.User("CC", (Register.Rflags, 0x1a_3000), (Register.GsBase, 0x1234_8000_0000_0000)).With((SystemRegister.PvcsEventFlags, 0x100));

        Event what = testCase.Run().Only();

        Payload.Same([0x202, 0xffff_8000_0000_0000, 0], [what.Frame("eflags"), what.Frame("user-gsbase"), what.Frame("event-flags")]);
    }

    /// <summary>A payload of supervisor code that jumps to the SYSCALL at MSR_PVM_RETU_RIP goes to user mode; its RSP is what the next event gives back.</summary>
    [Fact]
    public void SupervisorCodeReturnsByTheSyscallAtRetuRip()
    {
        TestCase testCase = Payload.Supervisor(JumpToRetu, (Register.Rsp, Payload.Stack - 0x100)).With(
            (SystemRegister.PvcsRip, 0x10), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202), (SystemRegister.PvcsRsp, 0x99));

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((14, EntryPoint.PvmUser, 0x10UL, 0x99UL, Payload.Stack - 0x100), (what.Vector, what.Entry, what.Frame("rip"), what.Frame("rsp"), what.Registers.Gpr[4]));
        Assert.Equal(Payload.Stack - 0x100, outcome.System[SystemRegister.PvmSupervisorRsp]);
    }

    /// <summary>One byte earlier a REX prefix stands: a SYSCALL that does not start at MSR_PVM_RETU_RIP is a hypercall.</summary>
    [Fact]
    public void APrefixedSyscallIsAHypercall()
    {
        // To RETU_RIP - 1 with an unknown request; UD2 follows the SYSCALL there.
        Event what = Payload.Supervisor("48 B9 0F 00 4D 00 00 00 00 00 48 C7 C0 FF FF FF FF FF E1").Run().Only();

        Assert.Equal((6, PvmMap.RetuRip + 2, unchecked((ulong)-1000)), (what.Vector, what.Frame("rip"), what.Registers.Gpr[0]));
    }

    /// <summary>EVENT_RETURN_SUPERVISOR ignores error code, CS and SS of the frame and takes the rest; IF becomes the structure's flag.</summary>
    [Fact]
    public void SupervisorCodeReturnsByTheFrameAtRsp()
    {
        ulong end = AddressMap.LowBlock + PvmMap.CodeEnd;
        TestCase testCase = Payload.Supervisor(JumpToRets, (Register.Rsp, Payload.Data + 3)).With((SystemRegister.PvcsEventFlags, 0x100))
            .With(Payload.Data + 3, Payload.Words(0xeeee, end, 0xdead, 0x1a_3247, 0x1234, 0xbeef, 0xc1, 0x11));

        Outcome outcome = testCase.RunToEnd();

        RegisterState registers = outcome.Registers!;
        Payload.Same([0x1234, 0xc1, 0x11, 0x247], [registers.Gpr[4], registers.Gpr[1], registers.Gpr[11], registers.Rflags]);
        Assert.Equal((Selectors.UserCode64, Selectors.UserData), (registers.Cs, registers.Ss));
        Assert.Equal(0x200UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    [Fact]
    public void AFrameThatCannotBeReadKillsTheGuest() => Assert.Equal(EndKind.Crash, Payload.Supervisor(JumpToRets, (Register.Rsp, 0x10)).Run().End);

    /// <summary>A RIP that is not canonical faults in user mode, at that RIP, #GP(0).</summary>
    [Fact]
    public void ABadTargetFaultsWhereItIs()
    {
        Event what = Payload.User("90", (Register.Rip, 0x8000_0000_0000)).Run().Only();

        Assert.Equal((13, (uint?)0, 0x8000_0000_0000UL, EntryPoint.PvmUser), (what.Vector, what.ErrorCode, what.Frame("rip"), what.Entry));
    }

    /// <summary>RPL is forced: CS 30 and SS 28 run as 33 and 2b. Others are not defined.</summary>
    [Fact]
    public void UserSelectorsGetTheirRpl()
    {
        Event what = Payload.User("CC", (Register.Cs, 0x30), (Register.Ss, 0x28)).Run().Only();

        Assert.Equal((0x33UL, 0x2bUL), (what.Frame("user-cs"), what.Frame("user-ss")));
        Assert.Equal(EndKind.Unsupported, Payload.User("CC", (Register.Cs, 0x10)).RunAny().End);
    }

    /// <summary>Patches go where the return takes the register from, the others in place: the code after INT3 is skipped, RAX and RCX are new.</summary>
    [Fact]
    public void PatchesReachTheContext()
    {
        TestCase testCase = Payload.User("CC B8 01 00 00 00");
        Response skip = Payload.Back(ReturnKind.Eretu, (Register.Rip, testCase.Code.End), (Register.Rax, 0xa1), (Register.Rcx, 0xc1), (Register.GsBase, 0x5000));

        Event last = testCase.Answer(skip).RunToEnd().Events[^1];

        Payload.Same([0xa1, 0xc1, 0x5000], [last.Registers.Gpr[0], last.Frame("rcx"), last.Frame("user-gsbase")]);
    }

    /// <summary>A patch for EVENT_RETURN_SUPERVISOR after a low vector changes the frame on the stack, which is memory of the case.</summary>
    [Fact]
    public void PatchesOfAPushedFrameAreStores()
    {
        TestCase testCase = Payload.Supervisor("CC", (Register.Rcx, 0xc1));

        Outcome outcome = testCase.Answer(Payload.Back(ReturnKind.Erets, (Register.Rcx, 0x77))).RunToEnd();

        Assert.Equal(0x77UL, outcome.Registers!.Gpr[1]);
        Assert.Contains(new MemoryWord(Payload.Stack - Payload.Redzone - 16, 0x77), outcome.Memory);
    }

    /// <summary>WRMSR gives MSR_PVM_RETU_RIP the address of the SYSCALL by which answers return to supervisor mode: that is no such return any more. Another address leaves it alone.</summary>
    [Theory]
    [InlineData("20 00 4D 00", EndKind.Unsupported)]
    [InlineData("30 00 4D 00", EndKind.ReachedEnd)]
    public void AnswersNeedTheirSyscall(string address, EndKind end)
    {
        TestCase testCase = Payload.Supervisor($"B9 F5 4D 56 4B B8 {address} 31 D2 0F 30 CC");

        Assert.Equal(PvmMap.RetsRip, testCase.System[SystemRegister.PvmRetsRip]);
        Assert.Equal(end, testCase.Answer(Payload.Back(ReturnKind.Erets)).RunAny().End);
    }

    /// <summary>The return to user mode may or may not set MSR_KERNEL_GS_BASE to the supervisor's GS base: two outcomes where they differ.</summary>
    [Fact]
    public void KernelGsBaseIsNormallySaved()
    {
        TestCase testCase = Payload.Supervisor(JumpToRetu, (Register.GsBase, 0x9000)).With(
            (SystemRegister.PvcsRip, 0x10), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202));

        Outcome outcome = testCase.Run();

        Assert.Equal(0x9000UL, outcome.Only().Registers.GsBase);
        Assert.Equal(Payload.KernelGsBase, Assert.Single(outcome.Alternatives).Only().Registers.GsBase);
        Assert.Empty(Payload.User("CC").Run().Alternatives);
    }

    private static RegisterState Interrupted(Outcome outcome)
    {
        Event last = outcome.Events[^1];
        return (last.Registers with { Rip = last.Frame("rip"), Rflags = last.Frame("eflags"), GsBase = last.Frame("user-gsbase") })
            .With(Register.Rsp, last.Frame("rsp")).With(Register.Rcx, last.Frame("rcx")).With(Register.R11, last.Frame("r11"));
    }
}
