using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Events in user mode.</summary>
public sealed class UserEventTests
{
    /// <summary>The whole context, and the registers that every entry of the supervisor has: RIP and RCX the entry, R11 202, RFLAGS 2.</summary>
    [Fact]
    public void AVectorEventSavesTheContextAndEntersTheSupervisor()
    {
        TestCase testCase = Payload.User("CC", (Register.Rcx, 0xc1), (Register.R11, 0x11), (Register.Rax, 0xa1)).With((SystemRegister.PvcsEventErrcode, 0x1234), (SystemRegister.PvcsCr2, 0xc2));

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((EventKind.Trap, (byte)3, EntryPoint.PvmUser, (uint?)null, (ulong?)null), (what.Kind, what.Vector, what.Entry, what.ErrorCode, what.Cr2));
        Payload.Same(
            [PvmMap.EventEntry, PvmMap.EventEntry, 0x202, 2, Payload.Stack, Payload.KernelGsBase, 0xa1],
            [what.Registers.Rip, what.Registers.Gpr[1], what.Registers.Gpr[11], what.Registers.Rflags, what.Registers.Gpr[4], what.Registers.GsBase, what.Registers.Gpr[0]]);
        Assert.Equal((Selectors.UserCode64, Selectors.UserData), (what.Registers.Cs, what.Registers.Ss));
        Payload.Same(
            [testCase.Code.End, Payload.UserStack, 0xc1, 0x11, 0x202, 0x33, 0x2b, Payload.UserGsBase, 3, 0x1234, 0xc2],
            [
                what.Frame("rip"), what.Frame("rsp"), what.Frame("rcx"), what.Frame("r11"), what.Frame("eflags"), what.Frame("user-cs"), what.Frame("user-ss"), what.Frame("user-gsbase"),
                what.Frame("event-vector"), what.Frame("event-errcode"), what.Frame("cr2"),
            ]);
        Assert.Equal(0UL, outcome.System[SystemRegister.PvmUserMode]);
    }

    /// <summary>CR3 is the supervisor's again after an event, and the user's is in the MSR.</summary>
    [Fact]
    public void TheRootsChangePlacesWithTheMode()
    {
        Outcome outcome = Payload.User("CC").Run();

        Assert.Equal((PvmMap.SupervisorRoot, PvmMap.UserRoot), (outcome.System[SystemRegister.Cr3], outcome.System[SystemRegister.PvmSwitchCr3]));
    }

    /// <summary>MOV RAX,[0]: error code 4 (user, not present, read), CR2 0, RF in the saved flags of a fault.</summary>
    [Fact]
    public void APageFaultBringsErrorCodeAndAddress()
    {
        Event what = Payload.User("48 8B 04 25 00 00 00 00").Run().Only();

        Assert.Equal((EventKind.Fault, (byte)14, (uint?)4, (ulong?)0), (what.Kind, what.Vector, what.ErrorCode, what.Cr2));
        Payload.Same([14, 4, 0, 0x10202], [what.Frame("event-vector"), what.Frame("event-errcode"), what.Frame("cr2"), what.Frame("eflags")]);
    }

    /// <summary>The code ends where nothing is mapped: a fetch #PF that is an event and the end.</summary>
    [Fact]
    public void UserCodeEndsWithTheFaultAfterIt()
    {
        Outcome outcome = Payload.User("90").RunToEnd();

        Event what = outcome.Only();
        Assert.Equal((14, (uint?)0x14, (ulong?)(AddressMap.LowBlock + AddressMap.CodeEnd)), (what.Vector, what.ErrorCode, what.Cr2));
        Assert.Same(what.Registers, outcome.Registers);
    }

    /// <summary>SYSCALL goes to MSR_LSTAR; vector, error code and CR2 of the structure stay; RCX and R11 are what the instruction left.</summary>
    [Fact]
    public void SyscallKeepsTheEventFields()
    {
        TestCase testCase = Payload.User("0F 05 90", (Register.Rflags, 0x247)).With((SystemRegister.PvcsEventVector, 0xee), (SystemRegister.PvcsEventErrcode, 0x1234), (SystemRegister.PvcsCr2, 0xc2));

        Event what = testCase.Run().Only();

        Assert.Equal((EventKind.SystemCall, EntryPoint.Lstar, PvmMap.Lstar, PvmMap.Lstar, 0x202UL), (what.Kind, what.Entry, what.Registers.Rip, what.Registers.Gpr[1], what.Registers.Gpr[11]));
        Payload.Same(
            [testCase.Code.Address + 2, testCase.Code.Address + 2, 0x247, 0x247, 0xee, 0x1234, 0xc2],
            [what.Frame("rip"), what.Frame("rcx"), what.Frame("r11"), what.Frame("eflags"), what.Frame("event-vector"), what.Frame("event-errcode"), what.Frame("cr2")]);
    }

    /// <summary>TF is saved, and the supervisor starts without it: no #DB for the SYSCALL.</summary>
    [Fact]
    public void SyscallUnderTfDoesNotTrap()
    {
        Event what = Payload.User("0F 05 90", (Register.Rflags, 0x302)).Run().Only();

        Assert.Equal((EntryPoint.Lstar, 0x302UL, 2UL), (what.Entry, what.Frame("eflags"), what.Registers.Rflags));
    }

    /// <summary>The interrupt flag does not change, so IF reads 1 at entry.</summary>
    [Theory]
    [InlineData("CC")]
    [InlineData("0F 05")]
    public void EventsOfUserModeKeepTheInterruptFlag(string code)
    {
        Outcome outcome = Payload.User(code).InterruptsOn().Run();

        Assert.Equal(0x202UL, outcome.Only().Registers.Rflags);
        Assert.Equal(0x200UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>Privileged instructions are #GP(0) in user mode: CLI, HLT, RDMSR, MOV RAX,CR3, INVLPG [RAX] and the first half of the synthetic CPUID.</summary>
    [Theory]
    [InlineData("FA")]
    [InlineData("F4")]
    [InlineData("0F 32")]
    [InlineData("0F 20 D8")]
    [InlineData("0F 01 38")]
    [InlineData("0F 01 3C 25 50 56 4D FF 0F A2")]
    [InlineData("E4 40")]
    public void PrivilegedInstructionsFaultInUserMode(string code)
    {
        TestCase testCase = Payload.User(code);

        Event what = testCase.Run().Only();

        Assert.Equal((13, (uint?)0, testCase.Code.Address), (what.Vector, what.ErrorCode, what.Frame("rip")));
    }

    /// <summary>Without the structure an event in user mode is a triple fault; a dead guest shows no registers and no memory.</summary>
    [Fact]
    public void WithoutTheStructureTheGuestDies()
    {
        Outcome outcome = Payload.User("CC").With((SystemRegister.PvmVcpuStruct, 0)).Run();

        Assert.Equal(EndKind.Crash, outcome.End);
        Assert.Null(outcome.Registers);
        Assert.Empty(outcome.Events);
    }

    /// <summary>Compatibility mode: CS 23 is saved, and INT 80h is the way to call.</summary>
    [Fact]
    public void CompatibilityModeCallsByInt80()
    {
        Event what = Payload.User("CD 80", (Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Es, Selectors.UserData)).Run().Only();

        Assert.Equal((0x80, EntryPoint.PvmUser, 0x23UL, Selectors.UserCode64), (what.Vector, what.Entry, what.Frame("user-cs"), what.Registers.Cs));
    }

    /// <summary>INTO is #OF by the gate of vector 4; INT 4 is not allowed.</summary>
    [Fact]
    public void IntoIsAllowedThoughInt4IsNot()
    {
        (Register, ulong)[] registers = [(Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Es, Selectors.UserData), (Register.Rflags, 0xa02)];

        Assert.Equal(4, Payload.User("CE", registers).Run().Only().Vector);
        Assert.Equal((13, (uint?)0x22), (Payload.User("CD 04", registers).Run().Only() is { } e ? (e.Vector, e.ErrorCode) : default));
    }

    /// <summary>SYSCALL of compatibility mode: AMD has the instruction, Intel does not.</summary>
    [Fact]
    public void SyscallOfCompatibilityModeIsTheProcessorsAffair()
    {
        TestCase testCase = Payload.User("0F 05 90", (Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Es, Selectors.UserData));

        Event amd = testCase.Run(CpuProfile.DefaultAmd).Only();
        Event intel = testCase.Run(CpuProfile.DefaultIntel).Only();

        Assert.Equal((EntryPoint.Lstar, 0x23UL, testCase.Code.Address + 2), (amd.Entry, amd.Frame("user-cs"), amd.Frame("rcx")));
        Assert.Equal((EntryPoint.PvmUser, 6), (intel.Entry, intel.Vector));
    }
}
