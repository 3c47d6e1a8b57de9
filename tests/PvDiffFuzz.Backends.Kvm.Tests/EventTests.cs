using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.Tests.Payload;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>One hand-checkable fact for each class of event.</summary>
public sealed class EventTests : KvmTests
{
    private const ulong ReadOnly = AddressMap.HighBlock + AddressMap.ReadOnlyThenWritable;
    private const ulong NonCanonical = 0x8000_0000_0000;
    private const ulong Kernel = 0xffff_8000_0000_0000;

    /// <summary>MOV RAX,RBX; the fetch after the code is a user-mode fetch of a page that is not present.</summary>
    [KvmFact]
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
    [KvmTheory]
    [InlineData("0f 0b", 6, null, "UD2")]
    [InlineData("f7 f0", 0, null, "DIV by zero")]
    [InlineData("f4", 13, 0u, "HLT")]
    [InlineData("fa", 13, 0u, "CLI")]
    [InlineData("ec", 13, 0u, "IN without permission")]
    [InlineData("0f 20 c0", 13, 0u, "MOV from CR0")]
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
    [KvmTheory]
    [InlineData("cc", 3)]
    [InlineData("cd 03", 3)]
    [InlineData("cd 04", 4)]
    public void TrapsShowTheAddressAfter(string code, byte vector)
    {
        Event e = Only(Case(code, (Register.Rdx, ulong.MaxValue)), code);

        Assert.Equal((EventKind.Trap, vector, (uint?)null, EntryPoint.Idt), (e.Kind, e.Vector, e.ErrorCode, e.Entry));
        Assert.Equal(End, e.Registers.Rip);
        Assert.Equal(0UL, e.Registers.Rflags & RflagsBits.RF);
        Assert.Equal(ulong.MaxValue, e.Registers.Gpr[2]);
    }

    /// <summary>MOV EAX,[RAX] or MOV [RAX],EAX: the error code has P for a present page, W for a write, U always.</summary>
    [KvmTheory]
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
    [KvmFact]
    public void SplitAccessFaultsAtItsSecondPage()
    {
        Event e = Only(Case("48 8b 00", (Register.Rax, Data + 0x1ffc)), "split");

        Assert.Equal((14, 4u, Data + 0x2000), (e.Vector, e.ErrorCode!.Value, e.Cr2!.Value));
    }

    /// <summary>Non-canonical accesses: #GP(0) through DS, #SS(0) through SS.</summary>
    [KvmTheory]
    [InlineData("8b 00", 13)]
    [InlineData("36 8b 45 00", 12)]
    [InlineData("8b 45 00", 12)]
    [InlineData("ff e0", 13)]
    public void NonCanonicalAddressesAreNoPageFaults(string code, byte vector)
    {
        Event e = Only(Case(code, (Register.Rax, NonCanonical), (Register.Rbp, NonCanonical)), code);

        Assert.Equal((vector, (uint?)0, (ulong?)null), (e.Vector, e.ErrorCode, e.Cr2));
    }

    /// <summary>TF set by the entry: the trap comes after the first instruction.</summary>
    [KvmFact]
    public void TrapFlagTrapsAfterOneInstruction()
    {
        Event e = Only(Case("90 90", (Register.Rflags, 0x302)), "TF");

        Assert.Equal((EventKind.Trap, (byte)1, End - 1, 0x302UL), (e.Kind, e.Vector, e.Registers.Rip, e.Registers.Rflags));
    }

    /// <summary>AC with CR0.AM: an unaligned read is #AC(0).</summary>
    [KvmFact]
    public void AlignmentCheckFaults()
    {
        Event e = Only(Case("8b 00", (Register.Rax, Data + 1), (Register.Rflags, 0x202 | RflagsBits.AC)), "AC");

        Assert.Equal((17, (uint?)0, End - 2), (e.Vector, e.ErrorCode, e.Registers.Rip));
    }

    /// <summary>FS and GS base are loaded and recorded; WRFSBASE changes FS base.</summary>
    [KvmFact]
    public void SegmentBasesAreLoadedAndRecorded()
    {
        const ulong high = 0xffff_8765_4321_0000;
        Event e = Only(Case("f3 48 0f ae d0", (Register.Rax, 0x1234_5000), (Register.FsBase, Data), (Register.GsBase, high)), "WRFSBASE");

        Assert.Equal((0x1234_5000UL, high), (e.Registers.FsBase, e.Registers.GsBase));
        Assert.Equal(0UL, Only(Case("90"), "clean").Registers.FsBase);
    }

    /// <summary>MOV to DS, ES and FS changes the selectors, and the next case starts clean.</summary>
    [KvmFact]
    public void SelectorsAreRecordedAndReset()
    {
        Event e = Only(Case("8e d8 8e c0 8e e0", (Register.Rax, Selectors.UserData)), "selectors");

        Assert.Equal((Selectors.UserData, Selectors.UserData, Selectors.UserData, (ushort)0), (e.Registers.Ds, e.Registers.Es, e.Registers.Fs, e.Registers.Gs));
        Event clean = Only(Case("90", (Register.Gs, Selectors.UserData)), "clean");
        Assert.Equal(((ushort)0, (ushort)0, (ushort)0, Selectors.UserData), (clean.Registers.Ds, clean.Registers.Es, clean.Registers.Fs, clean.Registers.Gs));
    }

    /// <summary>A kernel selector cannot be loaded: #GP with the selector as error code.</summary>
    [KvmFact]
    public void LoadingAKernelSelectorFaults()
    {
        Event e = Only(Case("8e d8", (Register.Rax, 0x10)), "MOV DS,10h");

        Assert.Equal((13, (uint?)0x10), (e.Vector, e.ErrorCode));
    }

    /// <summary>RSP may be anything: the handler has its own stack.</summary>
    [KvmTheory]
    [InlineData(0UL)]
    [InlineData(1UL)]
    [InlineData(NonCanonical)]
    [InlineData(ulong.MaxValue)]
    public void GarbageInRspDoesNoHarm(ulong rsp)
    {
        Event e = Only(Case("0f 0b", (Register.Rsp, rsp)), "RSP");

        Assert.Equal((6, rsp), (e.Vector, e.Registers.Gpr[4]));
    }

}
