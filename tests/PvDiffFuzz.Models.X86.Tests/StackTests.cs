using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about the stack instructions.</summary>
public sealed class StackTests
{
    /// <summary>PUSH RSP stores the old value, POP RSP keeps the popped one.</summary>
    [Fact]
    public void PushAndPopOfTheStackPointer()
    {
        Assert.Contains(new MemoryWord(Stack - 8, Stack), Case("54").Run().Memory);
        Assert.Equal(0x1234UL, Case("5c").With(Stack, 0x34, 0x12).RunToEnd()[Register.Rsp]);
    }

    /// <summary>POP [RSP] stores at the incremented RSP; into a read-only page it faults with RSP unchanged.</summary>
    [Fact]
    public void PopToMemoryAddressesWithTheNewStackPointer()
    {
        Assert.Equal(new MemoryWord(Stack + 8, 0x77), Assert.Single(Case("8f 04 24").With(Stack, 0x77).Run().Memory));
        Event fault = Case("8f 03", 0, (Register.Rbx, AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable)).Run().Only();
        Assert.Equal(7u, fault.ErrorCode);
        Assert.Equal(Stack, fault.Registers[Register.Rsp]);
    }

    /// <summary>POPF at CPL3 loads TF, DF, NT, AC, ID and status but keeps IF; its TF traps after the next instruction.</summary>
    [Fact]
    public void PopFlagsArmsTheSingleStepForTheNextInstruction()
    {
        Event trap = Case("9d 90 90", 0).With(Stack, 0x01, 0x01).Run().Only();

        Assert.Equal((byte)1, trap.Vector);
        Assert.Equal(End - 1, trap.Registers.Rip);
        Assert.Equal(Fixed1 | IF | TF | CF, trap.Registers.Rflags);
    }

    /// <summary>A POPF that clears TF still traps itself; PUSHF stores RF as 0.</summary>
    [Fact]
    public void PopFlagsThatClearsTheTrapFlagStillTraps()
    {
        Assert.Equal(End - 1, Case("9d 90", TF).Run().Only().Registers.Rip);
        Assert.Contains(new MemoryWord(Stack - 8, Fixed1 | IF | ZF), Case("9c", RF | ZF).Run().Memory);
    }

    /// <summary>ENTER 16, 2 pushes RBP, the outer frame pointer and the new one. LEAVE undoes it.</summary>
    [Fact]
    public void EnterCopiesTheOuterFrame()
    {
        Outcome outcome = Case("c8 10 00 02", 0, (Register.Rbp, Data)).With(Data - 8, 0x55).Run();

        Assert.Equal((MemoryWord[])[new MemoryWord(Stack - 24, Stack - 8), new MemoryWord(Stack - 16, 0x55), new MemoryWord(Stack - 8, Data)], outcome.Memory.ToArray());
        Assert.Equal(Stack - 8, outcome.Registers![Register.Rbp]);
        Assert.Equal(Stack - 24 - 16, outcome.Registers[Register.Rsp]);
        RegisterState end = Case("c8 10 00 02 c9", 0, (Register.Rbp, Data)).RunToEnd();
        Assert.Equal((Data, Stack), (end[Register.Rbp], end[Register.Rsp]));
    }

    /// <summary>ENTER probes its final stack pointer: 0x2000 below the stack nothing is mapped, and nothing changes.</summary>
    [Fact]
    public void EnterProbesTheFinalStackPointer()
    {
        Event fault = Case("c8 00 20 00").Run().Only();

        Assert.Equal(((byte)14, 6u, Stack - 8 - 0x2000), (fault.Vector, fault.ErrorCode!.Value, fault.Cr2!.Value));
        Assert.Equal(Stack, fault.Registers[Register.Rsp]);
    }

    /// <summary>PUSHAD then POPAD gives every register back, ESP too.</summary>
    [Fact]
    public void PushAllAndPopAllAreInverse()
    {
        RegisterState end = Case(CpuMode.Compatibility32, "60 31 c0 31 ed 61", 0, (Register.Rax, 1), (Register.Rbp, 2), (Register.Rdi, 3)).RunToEnd();

        Assert.Equal((1UL, 2UL, 3UL, Stack), (end[Register.Rax], end[Register.Rbp], end[Register.Rdi], end[Register.Rsp]));
    }

    /// <summary>A push to a non-canonical address is #SS(0).</summary>
    [Fact]
    public void PushToANonCanonicalStackIsAStackFault()
    {
        Event fault = Case("6a 01", 0, (Register.Rsp, 0x8000_0000_0010)).Run().Only();

        Assert.Equal(((byte)12, 0u), (fault.Vector, fault.ErrorCode!.Value));
    }
}
