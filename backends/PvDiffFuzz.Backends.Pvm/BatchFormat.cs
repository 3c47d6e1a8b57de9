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

    /// <summary>Size in a result.</summary>
    public const int Size = Frame + EventReader.FrameSize;

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

    /// <summary>RIP, CS, RFLAGS, RSP and SS for the IRETQ that starts supervisor code.</summary>
    public const int StartFrame = Structure + 128;

    /// <summary>The runs: pool offset, 32 bits; number of bytes, 31 bits, and <see cref="ReadOnlyRun"/>; then the bytes, padded to quadwords.</summary>
    public const int FirstRun = StartFrame + 40;

    /// <summary>Set in a run's length when the payload cannot write its page, so that the agent clears it after the case.</summary>
    public const uint ReadOnlyRun = 0x8000_0000;

    /// <summary>Bytes of a patch: place, 32 bits; 1 for the structure and 0 for the context, 16 bits; 2, 4 or 8 bytes wide, 16 bits; value, 64 bits.</summary>
    public const int PatchSize = 16;

    /// <summary>No address of user code.</summary>
    public const ulong NoEnd = 1UL << 63;
}

/// <summary>A result: header, events (<see cref="Context"/> each), then non-zero quadwords of writable pages as pairs of pool offset and value.</summary>
internal static class Result
{
    /// <summary>Number of events, 32 bits; the arrival at the stub of supervisor code counts as one here.</summary>
    public const int Events = 0;

    /// <summary>Bits of <see cref="AtEnd"/>, <see cref="Debug"/> and <see cref="Refused"/>, 32 bits.</summary>
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
}
