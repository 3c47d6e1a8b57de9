using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>One hand-checkable fact for each class of event.</summary>
public sealed class EventTests : NativeTests
{
    private const ulong ReadOnly = AddressMap.HighBlock + AddressMap.ReadOnlyThenWritable;
    private const ulong NonCanonical = 0x8000_0000_0000;
    private const ulong Kernel = 0xffff_8000_0000_0000;

    /// <summary>MOV RAX,RBX; the fetch after the code is a user-mode fetch of a page that is not present.</summary>
    [NativeFact]
    public void RunningOffTheEndIsTheLastEvent()
    {
        Outcome outcome = Run(Case("48 89 d8", (Register.Rbx, 0x1234_5678_9abc_def0)));

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Event e = Assert.Single(outcome.Events);
        Assert.Equal(new Event(EventKind.Fault, 14, 0x14, End, EntryPoint.Idt, outcome.Registers!), e);
        Assert.Equal(End, e.Registers.Rip);
        Assert.Equal(0x1234_5678_9abc_def0UL, e.Registers.Gpr[0]);
        Assert.Equal(RflagsBits.Fixed1 | RflagsBits.IF | RflagsBits.RF, e.Registers.Rflags);
        Assert.Equal(Selectors.UserCode64, e.Registers.Cs);
        Assert.Equal(Selectors.UserData, e.Registers.Ss);
    }

    /// <summary>Faults show the instruction, and RF in the frame.</summary>
    [NativeTheory]
    [InlineData("0f 0b", 6, null, "UD2")]
    [InlineData("f7 f0", 0, null, "DIV by zero")]
    [InlineData("f4", 13, 0u, "HLT")]
    [InlineData("fa", 13, 0u, "CLI")]
    [InlineData("ec", 13, 0u, "IN without permission")]
    [InlineData("0f 20 c0", 13, 0u, "MOV from CR0")]
    [InlineData("cd 01", 13, 0x0au, "INT 1: its gate has DPL 0")]
    [InlineData("cd 40", 13, 0x202u, "INT 40h")]
    [InlineData("cd ff", 13, 0x7fau, "INT FFh")]
    [InlineData("8e d0", 13, 0u, "MOV SS,0")]
    [InlineData("06", 6, null, "PUSH ES is no instruction in 64-bit mode")]
    public void FaultsShowTheInstruction(string code, byte vector, uint? errorCode, string what)
    {
        TestCase testCase = Case(code);
        Event e = Only(testCase, what);

        Assert.Equal((EventKind.Fault, vector, errorCode), (e.Kind, e.Vector, e.ErrorCode));
        Assert.Null(e.Cr2);
        Assert.Equal(testCase.Code.Address, e.Registers.Rip);
        Assert.NotEqual(0UL, e.Registers.Rflags & RflagsBits.RF);
    }

    /// <summary>Traps show the address after the instruction, and no RF.</summary>
    [NativeTheory]
    [InlineData("cc", 3)]
    [InlineData("cd 03", 3)]
    [InlineData("cd 04", 4)]
    [InlineData("cd 80", 0x80)]
    public void TrapsShowTheAddressAfter(string code, byte vector)
    {
        Event e = Only(Case(code, (Register.Rdx, ulong.MaxValue)), code);

        Assert.Equal((EventKind.Trap, vector, (uint?)null, EntryPoint.Idt), (e.Kind, e.Vector, e.ErrorCode, e.Entry));
        Assert.Equal(End, e.Registers.Rip);
        Assert.Equal(0UL, e.Registers.Rflags & RflagsBits.RF);
        Assert.Equal(ulong.MaxValue, e.Registers.Gpr[2]);
    }

    /// <summary>MOV EAX,[RAX] or MOV [RAX],EAX: the error code has P for a present page, W for a write, U always.</summary>
    [NativeTheory]
    [InlineData("8b 00", 0x20_0000UL, 4u)]
    [InlineData("89 00", 0x20_0000UL, 6u)]
    [InlineData("89 00", ReadOnly, 7u)]
    [InlineData("ff e0", Data, 0x15u)]
    [InlineData("ff e0", 0x20_0000UL, 0x14u)]
    [InlineData("8b 00", 0x7fff_ffff_e000UL, 4u)]
    public void PageFaultsTellErrorCodeAndAddress(string code, ulong address, uint errorCode)
    {
        Event e = Only(Case(code, (Register.Rax, address)), code);

        Assert.Equal((14, errorCode, address), (e.Vector, e.ErrorCode!.Value, e.Cr2!.Value));
    }

    /// <summary>MOV RAX,[RAX] over a page edge: CR2 is the first byte that is missing, not the first that is accessed.</summary>
    [NativeFact]
    public void SplitAccessFaultsAtItsSecondPage()
    {
        Event e = Only(Case("48 8b 00", (Register.Rax, Data + 0x1ffc)), "split");

        Assert.Equal((14, 4u, Data + 0x2000), (e.Vector, e.ErrorCode!.Value, e.Cr2!.Value));
    }

    /// <summary>Linux shows P in the error code above user addresses; a mask row says so.</summary>
    [NativeFact]
    public void KernelAddressesAreMaskedWhereLinuxHidesThem()
    {
        Event e = Only(Case("8b 00", (Register.Rax, Kernel)), "kernel address");

        Assert.Equal((14, Kernel), (e.Vector, e.Cr2!.Value));
        TargetMask mask = Assert.Single(Target.Info.Masks, m => m.Applies(e) && m.Field is null);
        Assert.Equal(4u, e.ErrorCode!.Value & ~(uint)mask.Bits);
    }

    /// <summary>Non-canonical accesses: #GP(0) through DS, #SS(0) through SS.</summary>
    [NativeTheory]
    [InlineData("8b 00", 13)]
    [InlineData("36 8b 45 00", 12)]
    [InlineData("8b 45 00", 12)]
    [InlineData("ff e0", 13)]
    public void NonCanonicalAddressesAreNoPageFaults(string code, byte vector)
    {
        Event e = Only(Case(code, (Register.Rax, NonCanonical), (Register.Rbp, NonCanonical)), code);

        Assert.Equal((vector, (uint?)0, (ulong?)null), (e.Vector, e.ErrorCode, e.Cr2));
    }

    /// <summary>SYSCALL: RCX is the return address, R11 is RFLAGS, and RAX is what the payload had, also when it is a number that Linux knows.</summary>
    [NativeTheory]
    [InlineData(60UL)]
    [InlineData(15UL)]
    [InlineData(231UL)]
    [InlineData(0xdead_beef_0000_0001UL)]
    public void SystemCallsAreEvents(ulong number)
    {
        Event e = Only(Case("0f 05", (Register.Rax, number), (Register.Rdi, 9), (Register.Rflags, 0x202 | RflagsBits.CF | RflagsBits.ID)), "syscall");

        Assert.Equal((EventKind.SystemCall, (byte)0, EntryPoint.Lstar, (uint?)null), (e.Kind, e.Vector, e.Entry, e.ErrorCode));
        Assert.Empty(e.Frame);
        Assert.Equal((number, End, End), (e.Registers.Gpr[0], e.Registers.Gpr[1], e.Registers.Rip));
        Assert.Equal((0x202 | RflagsBits.CF | RflagsBits.ID, e.Registers.Rflags), (e.Registers.Gpr[11], e.Registers.Rflags));
    }

    /// <summary>INT 0x80 loses the upper half of RAX on Linux, nothing else; a mask row says so.</summary>
    [NativeFact]
    public void Int80KeepsAllButTheMaskedHalfOfRax()
    {
        const ulong value = 0xdead_beef_1234_5678;
        (Register, ulong)[] registers = [.. Enumerable.Range(0, 16).Where(i => i != 4).Select(i => ((Register)i, value + (ulong)i))];
        Event e = Only(Case("cd 80", registers), "int 80h");

        TargetMask mask = Assert.Single(Target.Info.Masks, m => m.Applies(e) && m.Field == Register.Rax);
        Assert.Equal(value & ~mask.Bits, e.Registers.Gpr[0] & ~mask.Bits);
        Assert.All(Enumerable.Range(1, 15).Where(i => i != 4), i => Assert.Equal(value + (ulong)i, e.Registers.Gpr[i]));
    }

    /// <summary>TF set by the entry: the trap comes after the first instruction.</summary>
    [NativeFact]
    public void TrapFlagTrapsAfterOneInstruction()
    {
        Event e = Only(Case("90 90", (Register.Rflags, 0x302)), "TF");

        Assert.Equal((EventKind.Trap, (byte)1, End - 1, 0x302UL), (e.Kind, e.Vector, e.Registers.Rip, e.Registers.Rflags));
    }

    /// <summary>AC with CR0.AM: an unaligned read is #AC(0).</summary>
    [NativeFact]
    public void AlignmentCheckFaults()
    {
        Event e = Only(Case("8b 00", (Register.Rax, Data + 1), (Register.Rflags, 0x202 | RflagsBits.AC)), "AC");

        Assert.Equal((17, (uint?)0, End - 2), (e.Vector, e.ErrorCode, e.Registers.Rip));
    }

    /// <summary>All flags that a case may choose arrive, and stay for the next event.</summary>
    [NativeFact]
    public void AllLoadableFlagsArrive()
    {
        const ulong flags = 0x202 | (RflagsBits.UserLoadable & ~(RflagsBits.TF | RflagsBits.AC));
        Event e = Only(Case("90", (Register.Rflags, flags)), "flags");

        Assert.Equal(flags | RflagsBits.RF, e.Registers.Rflags);
    }

    /// <summary>NT makes IRETQ in the payload fault, and does not harm the agent's own.</summary>
    [NativeFact]
    public void NestedTaskFlagStopsThePayloadOnly()
    {
        TestCase testCase = Case("48 cf", (Register.Rflags, 0x202 | RflagsBits.NT | RflagsBits.DF));

        Assert.Equal(13, Only(testCase, "NT").Vector);
        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
    }

    /// <summary>FS and GS base are loaded and recorded; WRFSBASE changes FS base.</summary>
    [NativeFact]
    public void SegmentBasesAreLoadedAndRecorded()
    {
        const ulong high = 0xffff_8765_4321_0000;
        Event e = Only(Case("f3 48 0f ae d0", (Register.Rax, 0x1234_5000), (Register.FsBase, Data), (Register.GsBase, high)), "WRFSBASE");

        Assert.Equal((0x1234_5000UL, high), (e.Registers.FsBase, e.Registers.GsBase));
        Assert.Equal(0UL, Only(Case("90"), "clean").Registers.FsBase);
    }

    /// <summary>MOV to DS, ES and FS changes the selectors, and the next case starts clean.</summary>
    [NativeFact]
    public void SelectorsAreRecordedAndReset()
    {
        Event e = Only(Case("8e d8 8e c0 8e e0", (Register.Rax, Selectors.UserData)), "selectors");

        Assert.Equal((Selectors.UserData, Selectors.UserData, Selectors.UserData, (ushort)0), (e.Registers.Ds, e.Registers.Es, e.Registers.Fs, e.Registers.Gs));
        Event clean = Only(Case("90", (Register.Gs, Selectors.UserData)), "clean");
        Assert.Equal(((ushort)0, (ushort)0, (ushort)0, Selectors.UserData), (clean.Registers.Ds, clean.Registers.Es, clean.Registers.Fs, clean.Registers.Gs));
    }

    /// <summary>A kernel selector cannot be loaded: #GP with the selector as error code.</summary>
    [NativeFact]
    public void LoadingAKernelSelectorFaults()
    {
        Event e = Only(Case("8e d8", (Register.Rax, 0x10)), "MOV DS,10h");

        Assert.Equal((13, (uint?)0x10), (e.Vector, e.ErrorCode));
    }

    /// <summary>RSP may be anything: the handler has its own stack.</summary>
    [NativeTheory]
    [InlineData(0UL)]
    [InlineData(1UL)]
    [InlineData(NonCanonical)]
    [InlineData(ulong.MaxValue)]
    public void GarbageInRspDoesNoHarm(ulong rsp)
    {
        Event e = Only(Case("0f 0b", (Register.Rsp, rsp)), "RSP");

        Assert.Equal((6, rsp), (e.Vector, e.Registers.Gpr[4]));
    }

    /// <summary>Compatibility mode: INTO, BOUND and INT 0x80 exist there.</summary>
    [NativeTheory]
    [InlineData("ce", 4, true)]
    [InlineData("cd 80", 0x80, true)]
    [InlineData("62 00", 5, false)]
    public void CompatibilityModeHasItsOwnEvents(string code, byte vector, bool trap)
    {
        const ulong bounds = AddressMap.LowBlock + AddressMap.Data;
        TestCase testCase = Case32(code, (Register.Rax, bounds), (Register.Rflags, 0x202 | RflagsBits.OF)) with
        {
            Contents = [new MemoryContents(bounds, [1, 0, 0, 0, 2, 0, 0, 0])],
        };
        Event e = Only(testCase, code);

        Assert.Equal((vector, trap ? LowEnd : testCase.Code.Address), (e.Vector, e.Registers.Rip));
        Assert.Equal((Selectors.UserCode32, bounds), (e.Registers.Cs, e.Registers.Gpr[0]));
    }

    /// <summary>A far jump from compatibility mode to 64-bit code: CS is recorded as it is then.</summary>
    [NativeFact]
    public void FarJumpChangesTheMode()
    {
        Event e = Only(Case32("ea 00 00 60 00 33 00"), "far jump");

        Assert.Equal((14, 0x60_0000UL, Selectors.UserCode64), (e.Vector, e.Registers.Rip, e.Registers.Cs));
    }
}
