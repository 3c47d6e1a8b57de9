using System.Collections.Immutable;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Fields of the mailbox page, by which harness and agent talk; 8 bytes each unless said.</summary>
internal static class Mailbox
{
    /// <summary>What harness and agent say about the batch.</summary>
    public static BatchFields Batch => new(0);

    /// <summary>Linear address of the per-VCPU structure.</summary>
    public const int Structure = 0x40;

    /// <summary>MSR_KERNEL_GS_BASE as it is now.</summary>
    public const int KernelGsBase = 0x48;

    /// <summary>MSR_PVM_SUPERVISOR_REDZONE as it is now.</summary>
    public const int Redzone = 0x50;

    /// <summary>RCX, RSP and R15 of an event, until the agent has registers of its own.</summary>
    public const int SavedRcx = 0x58, SavedRsp = 0x60, SavedR15 = 0x68;

    /// <summary>Where an entry into the payload jumps to when all registers are loaded.</summary>
    public const int Target = 0x70;

    /// <summary>Not 0 for a case that runs alone: the agent leaves the guest at its end, and everything is left as it is.</summary>
    public const int Alone = 0x78;

    /// <summary>Addresses of the entries: MSR_PVM_EVENT_ENTRY and MSR_LSTAR of the plan.</summary>
    public const int EventEntry = 0xa0, Lstar = 0xa8;

    /// <summary>Address of the <see cref="Context"/> of the event that is being answered.</summary>
    public const int Event = 0x80;

    /// <summary>Address of its response, and of the next hypercall of it.</summary>
    public const int Response = 0x88, NextCall = 0x90;

    /// <summary>Hypercalls of it that are left, 32 bits; and 1 while the agent makes one, 32 bits.</summary>
    public const int CallsLeft = 0x98, Calling = 0x9c;

    /// <summary>A <see cref="Context"/> that a response changes.</summary>
    public const int Scratch = 0x100;

    /// <summary>Where the agent's stack begins, growing down.</summary>
    public const int StackTop = 0x1000;
}

/// <summary>A machine state. Of its beginning a case or a response gives <see cref="SizeOfInput"/> bytes.</summary>
internal static class Context
{
    /// <summary>Selectors, 16 bits each.</summary>
    public const int Ds = 128, Es = 130, Fs = 132, Gs = 134;

    /// <summary>Segment bases.</summary>
    public const int FsBase = 136, GsBase = 144;

    /// <summary>The instruction that goes to the payload: a synthetic return, or the agent's IRETQ.</summary>
    public const int Target = 152;

    /// <summary>What of it a case or a response gives.</summary>
    public const int SizeOfInput = 160;

    /// <summary>RFLAGS as PUSHF shows them.</summary>
    public const int Rflags = 160;

    /// <summary>The <see cref="AgentPort"/> that names the place, 32 bits.</summary>
    public const int Port = 168;

    /// <summary>The per-VCPU structure.</summary>
    public const int Structure = 176;

    /// <summary>The bytes from RSP on, where the entry has a frame there.</summary>
    public const int Frame = Structure + 128;

    /// <summary>MSR_PVM_VCPU_STRUCT, where the record asks for it.</summary>
    public const int StructureAt = Frame + EventReader.FrameSize;

    /// <summary>Size in a result.</summary>
    public const int Size = StructureAt + sizeof(ulong);

    /// <summary>Places of the general registers, in encoding order.</summary>
    public static ImmutableArray<int> Gpr { get; } = [.. Enumerable.Range(0, GprFile.Count).Select(GprAt)];

    /// <summary>Place of a general register, by its number in encodings.</summary>
    public static int GprAt(int number) => number * sizeof(ulong);
}

/// <summary>An encoded case: header, initial <see cref="Context"/>, structure, frame of the first entry, memory runs, responses.</summary>
internal static class Record
{
    /// <summary>Length in bytes, 32 bits, a multiple of 8.</summary>
    public const int Length = 0;

    /// <summary>Number of responses, 32 bits.</summary>
    public const int Responses = 4;

    /// <summary>Address right after user code; <see cref="NoEnd"/> for supervisor code.</summary>
    public const int End = 8;

    /// <summary>Number of memory runs, 32 bits.</summary>
    public const int Runs = 16;

    /// <summary>Distance from the record to its responses, 32 bits.</summary>
    public const int ResponsesAt = 20;

    /// <summary>MSR_KERNEL_GS_BASE.</summary>
    public const int KernelGsBase = 24;

    /// <summary>MSR_PVM_SUPERVISOR_REDZONE.</summary>
    public const int Redzone = 32;

    /// <summary>Initial registers.</summary>
    public const int Initial = 40;

    /// <summary>The per-VCPU structure.</summary>
    public const int Structure = Initial + Context.SizeOfInput;

    /// <summary>Not 0 when the payload may change MSR_PVM_VCPU_STRUCT, so that it is read at each event, 64 bits.</summary>
    public const int AsksStructure = Structure + 128;

    /// <summary>RIP, CS, RFLAGS, RSP and SS for the IRETQ that starts supervisor code.</summary>
    public const int StartFrame = AsksStructure + sizeof(ulong);

    /// <summary>The runs: pool offset, 32 bits; number of bytes, 31 bits, and <see cref="ReadOnlyRun"/>; then the bytes, padded to quadwords.</summary>
    public const int FirstRun = StartFrame + 40;

    /// <summary>Set in a run's length when the payload cannot write its page, so that the agent clears it after the case.</summary>
    public const uint ReadOnlyRun = 0x8000_0000;

    /// <summary>Bytes of a patch: place, 32 bits; which of <see cref="OfContext"/>, <see cref="OfStructure"/> and <see cref="OfFrame"/> it is in, 16 bits; 2, 4 or 8 bytes wide, 16 bits; value, 64 bits.</summary>
    public const int PatchSize = 16;

    /// <summary>What a patch changes: registers, the per-VCPU structure, or the frame by which supervisor mode is returned to.</summary>
    public const int OfContext = 0, OfStructure = 1, OfFrame = 2;

    /// <summary>No address of user code.</summary>
    public const ulong NoEnd = 1UL << 63;
}

/// <summary>A response: this header, its hypercalls, its patches.</summary>
internal static class Answer
{
    /// <summary>Number of patches, 32 bits.</summary>
    public const int Patches = 0;

    /// <summary>The <see cref="Core.ReturnKind"/>, 8 bits.</summary>
    public const int Return = 4;

    /// <summary>Number of hypercalls, 8 bits.</summary>
    public const int Calls = 5;

    /// <summary>Not 0 when the harness makes something pending right before the return, 8 bits.</summary>
    public const int Injects = 6;

    /// <summary>Not 0 when the payload may have changed the MSR that says where the return is, 8 bits.</summary>
    public const int Checked = 7;

    /// <summary>Address of the instruction that returns.</summary>
    public const int Target = 8;

    /// <summary>Size of the header.</summary>
    public const int HeaderSize = 16;

    /// <summary>Bytes of a hypercall: number, how many arguments are given, RBX, R10 and RDX; 64 bits each.</summary>
    public const int CallSize = 40;
}

/// <summary>A result: header, events (<see cref="Context"/> each), then non-zero quadwords of writable pages as pairs of pool offset and value.</summary>
internal static class Result
{
    /// <summary>Number of events, 32 bits; the arrival at the stub of supervisor code counts as one here, and the end of a hypercall.</summary>
    public const int Events = 0;

    /// <summary>Bits of <see cref="AtEnd"/>, <see cref="Debug"/>, <see cref="Refused"/> and <see cref="TakenAway"/>, 32 bits.</summary>
    public const int Status = 4;

    /// <summary>Linear address of the end of the result.</summary>
    public const int EndAt = 8;

    /// <summary>DR6 at the end, when there was a #DB.</summary>
    public const int Dr6 = 16;

    /// <summary>Size of the header.</summary>
    public const int HeaderSize = 24;

    /// <summary>User code reached its end.</summary>
    public const uint AtEnd = 1;

    /// <summary>There was a #DB.</summary>
    public const uint Debug = 2;

    /// <summary>Something came while the agent ran: the case has to run alone.</summary>
    public const uint Refused = 4;

    /// <summary>The payload took away the SYSCALL by which a response returns.</summary>
    public const uint TakenAway = 8;
}
