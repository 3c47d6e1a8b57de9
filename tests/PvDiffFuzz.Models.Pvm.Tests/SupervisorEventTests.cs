using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Events in supervisor mode.</summary>
public sealed class SupervisorEventTests
{
    /// <summary>INT3: 64 bytes below RSP - 128, aligned; CS 10 and SS 18 from MSR_STAR; the interrupt flag saved in IF and cleared.</summary>
    [Fact]
    public void LowVectorsPushAFrameBelowTheRedZone()
    {
        TestCase testCase = Payload.Supervisor("CC", (Register.Rsp, Payload.Stack + 8), (Register.Rcx, 0xc1), (Register.R11, 0x11)).InterruptsOn();

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        ulong at = Payload.Stack - Payload.Redzone - 64;
        Assert.Equal((3, EntryPoint.PvmSupervisor, PvmMap.EventEntry + 256, at, 2UL), (what.Vector, what.Entry, what.Registers.Rip, what.Registers.Gpr[4], what.Registers.Rflags));
        Assert.Equal((PvmMap.EventEntry + 256, 0x202UL), (what.Registers.Gpr[1], what.Registers.Gpr[11]));
        Payload.Same(
            [0, 3, testCase.Code.End, 0x10, 0x202, Payload.Stack + 8, 0x18, 0xc1, 0x11],
            [
                what.Frame("errcode"), what.Frame("vector"), what.Frame("rip"), what.Frame("cs"), what.Frame("rflags"), what.Frame("rsp"), what.Frame("ss"), what.Frame("rcx"), what.Frame("r11"),
            ]);
        Assert.Equal(0UL, outcome.System[SystemRegister.PvcsEventFlags]);
        Assert.Contains(new MemoryWord(at + 8, testCase.Code.End), outcome.Memory);
    }

    /// <summary>The structure's vector and error code stay as they are; CR2 is written for a #PF, whose U bit is clear.</summary>
    [Fact]
    public void APageFaultOfSupervisorCodeHasUClear()
    {
        TestCase testCase = Payload.Supervisor("48 89 04 25 10 00 00 00").With((SystemRegister.PvcsEventVector, 0xee), (SystemRegister.PvcsEventErrcode, 0x1234));

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((14, (uint?)2, (ulong?)0x10, 2UL), (what.Vector, what.ErrorCode, what.Cr2, what.Frame("errcode")));
        Assert.Equal((0xeeUL, 0x1234UL, 0x10UL), (outcome.System[SystemRegister.PvcsEventVector], outcome.System[SystemRegister.PvcsEventErrcode], outcome.System[SystemRegister.PvcsCr2]));
        Assert.Equal(0x10UL, outcome.System[SystemRegister.Cr2]);
    }

    /// <summary>INT 80h: the context goes to the structure, nothing to the stack, and RSP skips the red zone.</summary>
    [Fact]
    public void HighVectorsGoByTheStructure()
    {
        TestCase testCase = Payload.Supervisor("CD 80", (Register.Rsp, Payload.Stack + 8), (Register.Rcx, 0xc1), (Register.R11, 0x11))
            .With((SystemRegister.PvcsEventErrcode, 0x1234), (SystemRegister.PvcsUserCs, 0x23), (SystemRegister.PvcsUserGsBase, 0x77)).InterruptsOn();

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((0x80, EntryPoint.PvmSupervisorHigh, PvmMap.EventEntry + 512, Payload.Stack - Payload.Redzone), (what.Vector, what.Entry, what.Registers.Rip, what.Registers.Gpr[4]));
        Payload.Same(
            [0x80, 0x1234, testCase.Code.End, Payload.Stack + 8, 0x202, 0xc1, 0x11, 0x23, 0x77],
            [
                what.Frame("event-vector"), what.Frame("event-errcode"), what.Frame("rip"), what.Frame("rsp"), what.Frame("eflags"), what.Frame("rcx"), what.Frame("r11"), what.Frame("user-cs"),
                what.Frame("user-gsbase"),
            ]);
        Assert.Equal(0UL, outcome.System[SystemRegister.PvcsEventFlags]);
        Assert.Empty(outcome.Memory);
    }

    /// <summary>A high vector needs no stack; a low one dies without.</summary>
    [Fact]
    public void OnlyLowVectorsNeedAStack()
    {
        Assert.Equal(0x80, Payload.Supervisor("CD 80", (Register.Rsp, 0x10)).Run().Only().Vector);
        Assert.Equal(EndKind.Crash, Payload.Supervisor("CC", (Register.Rsp, 0x10)).Run().End);
    }

    /// <summary>A stack that is read-only, or whose address is not canonical, is none.</summary>
    [Theory]
    [InlineData(AddressMap.LowBlock + PvmMap.Data + 0x1800)]
    [InlineData(0x8000_0000_0000_0100)]
    public void AFrameThatDoesNotFitKillsTheGuest(ulong rsp) => Assert.Equal(EndKind.Crash, Payload.Supervisor("CC", (Register.Rsp, rsp)).Run().End);

    /// <summary>Without the structure low vectors other than #PF are delivered, with interrupts off; #PF and high vectors are not.</summary>
    [Theory]
    [InlineData("CC", EndKind.Event)]
    [InlineData("CD 80", EndKind.Crash)]
    [InlineData("48 8B 04 25 00 00 00 00", EndKind.Crash)]
    public void WithoutTheStructureTheStackRemains(string code, EndKind end) => Assert.Equal(end, Payload.Supervisor(code).With((SystemRegister.PvmVcpuStruct, 0)).Run().End);

    /// <summary>POPF with TF, then two NOPs: #DB after the first NOP, TF in the frame and not in the handler; DR6.BS.</summary>
    [Fact]
    public void SingleStepTrapsAfterTheNextInstruction()
    {
        TestCase testCase = Payload.Supervisor("9C 48 81 0C 24 00 01 00 00 9D 90 90");

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((1, testCase.Code.End - 1, 0x100UL, 2UL), (what.Vector, what.Frame("rip"), what.Frame("rflags") & RflagsBits.TF, what.Registers.Rflags));
        Assert.Equal(0xffff_4ff0UL, outcome.System[SystemRegister.Dr6]);
    }

    /// <summary>POPF with TF, CLI, NOP: the instruction that the hypervisor carries out traps like a native one.</summary>
    [Fact]
    public void SingleStepTrapsAfterAnEmulatedInstruction()
    {
        TestCase testCase = Payload.Supervisor("9C 48 81 0C 24 00 01 00 00 9D FA 90");

        Event what = testCase.Run().Only();

        Assert.Equal((1, testCase.Code.End - 1), (what.Vector, what.Frame("rip")));
    }

    /// <summary>INT1 is #DB after itself and leaves DR6 as it is.</summary>
    [Fact]
    public void Int1LeavesDr6()
    {
        TestCase testCase = Payload.Supervisor("F1");

        Outcome outcome = testCase.Run();

        Assert.Equal((1, testCase.Code.End), (outcome.Only().Vector, outcome.Only().Frame("rip")));
        Assert.Equal(0xffff_0ff0UL, outcome.System[SystemRegister.Dr6]);
    }

    /// <summary>A single step is due after HLT, so that the guest does not stay halted.</summary>
    [Fact]
    public void SingleStepWakesFromHlt()
    {
        Event what = Payload.Supervisor("9C 48 81 0C 24 00 01 00 00 9D F4").Run().Only();

        Assert.Equal(1, what.Vector);
    }

    /// <summary>A payload that has moved the entry goes on where its handler is: MOV to the MSR, INT3, and at the new entry + 256 the code writes 7 to RAX and runs to the end.</summary>
    [Fact]
    public void AnEntryThatWasMovedIsAJump()
    {
        // ecx=4b564df4 eax=lo edx=0 wrmsr int3 ... at entry+256: mov eax,7, jmp end
        ulong end = AddressMap.LowBlock + PvmMap.CodeEnd;
        ulong handler = end - 5;
        ulong entry = handler - 256;
        string code = $"B9 F4 4D 56 4B B8 {Convert.ToHexString(BitConverter.GetBytes((uint)entry))} 31 D2 0F 30 CC {string.Concat(Enumerable.Repeat("90", 300))} B8 07 00 00 00";

        Outcome outcome = Payload.Supervisor(code).RunToEnd();

        Assert.Empty(outcome.Events);
        Assert.Equal((7UL, entry), (outcome.Registers!.Gpr[0], outcome.System[SystemRegister.PvmEventEntry]));
    }

    /// <summary>A payload that goes to an entry by itself is run by no model.</summary>
    [Fact]
    public void AJumpToAnEntryIsUnsupported()
    {
        string code = $"48 B8 {Convert.ToHexString(BitConverter.GetBytes(PvmMap.EventEntry))} FF E0";

        Assert.Equal(EndKind.Unsupported, Payload.Supervisor(code).RunAny().End);
    }
}
