using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Where things lie in the memory that harness and agent share. Offsets count from the start of the shared file.</summary>
internal static class Shared
{
    /// <summary>The mailbox, one page; see <see cref="Mailbox"/>.</summary>
    public const int MailboxAt = 0;

    /// <summary>The list of system calls that the agent makes at start-up and on a change of layout.</summary>
    public const int CallsAt = 0x1000;

    /// <summary>Room for that list.</summary>
    public const int CallsSize = 0x8_f000;

    /// <summary>Alternate signal stack. A frame takes 1 to 12 KiB, and at most two nest.</summary>
    public const int SignalStackAt = 0x9_0000;

    /// <summary>Size of the alternate signal stack.</summary>
    public const int SignalStackSize = 0x1_0000;

    /// <summary>The agent's own stack, which it uses outside of signal handlers.</summary>
    public const int AgentStackAt = 0xa_0000;

    /// <summary>Size of the agent's own stack.</summary>
    public const int AgentStackSize = 0x1_0000;

    /// <summary>Encoded cases.</summary>
    public const int RequestAt = 0x10_0000;

    /// <summary>Room for encoded cases: more than the largest single one.</summary>
    public const int RequestSize = 0x40_0000;

    /// <summary>Results.</summary>
    public const int ResultAt = RequestAt + RequestSize;

    /// <summary>Room for results: more than the largest single one. Only what is used takes memory.</summary>
    public const int ResultSize = 0x300_0000;

    /// <summary>The payload's pages, writable ones first. The agent and the harness see them here, the payload at the addresses of the layout.</summary>
    public const int PoolAt = ResultAt + ResultSize;

    /// <summary>Room for the payload's pages.</summary>
    public const int PoolSize = TestCase.MaximumPages * PageLayout.PageSize;

    /// <summary>Size of the shared file.</summary>
    public const int Size = PoolAt + PoolSize;

    /// <summary>Distance from the agent's first byte of code to the shared memory in the child.</summary>
    public const int DistanceFromCode = 0x10_0000;
}

/// <summary>Fields of the mailbox page.</summary>
internal static class Mailbox
{
    /// <summary>Number of the case that runs, counted from 1 since the child started; the harness watches it.</summary>
    public const int Sequence = 0x00;

    /// <summary>Number of the case that the harness wants stopped.</summary>
    public const int Victim = 0x08;

    /// <summary>What harness and agent say about the batch.</summary>
    public static BatchFields Batch => new(0x10);

    /// <summary>Number of system calls to make before the next case.</summary>
    public const int Calls = 0x50;

    /// <summary>Result of the system call that failed (a negative error number), else 0.</summary>
    public const int CallError = 0x58;

    /// <summary>Address of the vDSO before it was unmapped, or 0.</summary>
    public const int Vdso = 0x60;

    /// <summary>Address of the payload's vector state in the signal frame of the last event.</summary>
    public const int VectorState = 0x70;

    /// <summary>Eight bytes that are read from the command pipe and written to the reply pipe.</summary>
    public const int Word = 0x68;

    /// <summary>Five quadwords that IRETQ takes: RIP, CS, RFLAGS, RSP, SS.</summary>
    public const int IretFrame = 0x80;

    /// <summary>A <see cref="Context"/> that a response changes.</summary>
    public const int Scratch = 0x100;

    /// <summary>Structures that system calls of the start-up read.</summary>
    public const int StartupData = 0x400;
}

/// <summary>A saved machine state: the general registers in the order of Linux' <c>sigcontext</c>, then what the agent adds.</summary>
internal static class Context
{
    public const int R8 = 0, R9 = 8, R10 = 16, R11 = 24, R12 = 32, R13 = 40, R14 = 48, R15 = 56;
    public const int Rdi = 64, Rsi = 72, Rbp = 80, Rbx = 88, Rdx = 96, Rax = 104, Rcx = 112, Rsp = 120;
    public const int Rip = 128, Rflags = 136;

    /// <summary>CS; SS is the last of the four words here.</summary>
    public const int Cs = 144, Ss = 150;

    public const int Error = 152, Trap = 160, Cr2 = 176;
    public const int Ds = 184, Es = 186, Fs = 188, Gs = 190;
    public const int FsBase = 192, GsBase = 200;

    /// <summary>Signal number, 32 bits, then the architecture of a refused system call, 32 bits.</summary>
    public const int Signal = 208, Architecture = 212;

    /// <summary>Size in a result.</summary>
    public const int Size = 216;

    /// <summary>What of it <c>sigcontext</c> holds in this order.</summary>
    public const int SizeFromFrame = 184;

    /// <summary>What of it a case or a response gives: all but the signal.</summary>
    public const int SizeOfInput = 208;

    /// <summary>The same for what agents have in common.</summary>
    public static ContextLayout Layout { get; } = new()
    {
        Gpr = [Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15],
        Rip = Rip,
        Rflags = Rflags,
        Cs = Cs,
        Ss = Ss,
        FrameSelectorWidth = 2,
        Segments = Ds,
        SizeOfInput = SizeOfInput,
        Size = Size,
    };
}
