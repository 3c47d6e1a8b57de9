using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Where things lie in the guest. Offsets count from the start of the memory that harness and guest share, and are guest physical addresses too.</summary>
/// <remarks>
/// The guest sees byte <c>n</c> at linear address <see cref="Base"/> + n, with the rights given here, and the payload's pages once more at the addresses of
/// the case. No payload is ever given an address of this range.
/// </remarks>
internal static class GuestMap
{
    /// <summary>Linear address of the first byte.</summary>
    public const ulong Base = AddressMap.AgentFirst;

    /// <summary>Page tables; the root comes first.</summary>
    public const int Tables = 0;

    /// <summary>Room for page tables.</summary>
    public const int TablesSize = 0x20_0000;

    /// <summary>GDT, supervisor only.</summary>
    public const int Gdt = TablesSize;

    /// <summary>IDT of the mode that leaves the guest at each event.</summary>
    public const int SingleIdt = Gdt + 0x1000;

    /// <summary>IDT of the mode that stays in the guest.</summary>
    public const int BatchIdt = Gdt + 0x2000;

    /// <summary>TSS.</summary>
    public const int Tss = Gdt + 0x3000;

    /// <summary>Stack of CPL0, one page: the processor pushes its frames here.</summary>
    public const int Ring0Stack = Gdt + 0x4000;

    /// <summary>Handlers of <see cref="SingleIdt"/>.</summary>
    public const int SingleStubs = Gdt + 0x5000;

    /// <summary>Handlers of <see cref="BatchIdt"/>.</summary>
    public const int BatchStubs = Gdt + 0x6000;

    /// <summary>Where SYSCALL lands when each event leaves the guest; executable at CPL3 too, for hosts whose SYSCALL stays there.</summary>
    public const int SingleLanding = Gdt + 0x7000;

    /// <summary>The code at CPL3 by which a case alone is entered.</summary>
    public const int SingleEntry = SingleLanding + 0x10;

    /// <summary>Code at CPL3 that stores the selectors that the processor has, then rings the doorbell: not every KVM tells them.</summary>
    public const int SingleSelectors = SingleLanding + 0x80;

    /// <summary>Prepared IRETQ frames, one for each vector and one for SYSCALL; readable at CPL3.</summary>
    public const int Frames = Gdt + 0x8000;

    /// <summary>Clean x87 and vector state for XRSTOR; readable at CPL3.</summary>
    public const int CleanState = Gdt + 0xb000;

    /// <summary>The mailbox and the agent's stack, one page; see <see cref="Mailbox"/>. Writable at CPL3.</summary>
    public const int MailboxPage = Gdt + 0xc000;

    /// <summary>The agent's code, executable at CPL3.</summary>
    public const int Agent = Gdt + 0x1_0000;

    /// <summary>Room for the agent's code.</summary>
    public const int AgentSize = 0x1_0000;

    /// <summary>Encoded cases, readable at CPL3.</summary>
    public const int Request = 0x40_0000;

    /// <summary>Room for encoded cases: more than the largest single one.</summary>
    public const int RequestSize = 0x40_0000;

    /// <summary>Results, writable at CPL3.</summary>
    public const int Results = Request + RequestSize;

    /// <summary>Room for results: more than the largest single one. Only what is used takes memory.</summary>
    public const int ResultsSize = 0x300_0000;

    /// <summary>The payload's pages, writable ones first; writable at CPL3.</summary>
    public const int Pool = Results + ResultsSize;

    /// <summary>Room for the payload's pages.</summary>
    public const int PoolSize = TestCase.MaximumPages * PageLayout.PageSize;

    /// <summary>Size of the shared memory.</summary>
    public const int Size = Pool + PoolSize;

    /// <summary>Linear offset, behind the memory, of a page that shows <see cref="Ring0Stack"/> read-only to CPL3.</summary>
    public const int Ring0View = Size;

    /// <summary>Linear offset of a page without memory: a store there leaves the guest.</summary>
    public const int Doorbell = Size + 0x1000;

    /// <summary>Guest physical address of the doorbell.</summary>
    public const ulong DoorbellPhysical = 0x1000_0000;

    /// <summary>Guest physical address of what older Intel processors need for real mode.</summary>
    public const ulong TssPhysical = 0x2000_0000;

    /// <summary>RSP at CPL0 before the processor pushes, as an offset in the stack's page; aligned by 16.</summary>
    public const int StackTop = 0x800;

    /// <summary>Selector of code at CPL0.</summary>
    public const ushort KernelCode = 0x10;

    /// <summary>Selector of data at CPL0.</summary>
    public const ushort KernelData = 0x18;

    /// <summary>Selector of the TSS.</summary>
    public const ushort TaskState = 0x40;

    /// <summary>Pseudo vector of SYSCALL.</summary>
    public const int SyscallVector = 256;

    /// <summary>Number of the prepared frame that leads to <see cref="SingleSelectors"/>.</summary>
    public const int SelectorsFrame = SyscallVector + 1;

    /// <summary>Distance between two handlers.</summary>
    public const int StubSize = 16;

    /// <summary>The linear address at which SYSCALL lands, as reported.</summary>
    public const ulong Landing = Base + Agent;

    /// <summary>True for linear addresses that belong to the agent.</summary>
    public static bool IsAgent(ulong address) => address is >= AddressMap.AgentFirst and <= AddressMap.AgentLast;
}

/// <summary>Fields of the mailbox page.</summary>
internal static class Mailbox
{
    /// <summary>Number of the case that runs, counted from 1.</summary>
    public const int Sequence = 0x00;

    /// <summary>What harness and agent say about the batch.</summary>
    public static BatchFields Batch => new(0x08);

    /// <summary>CR2 of the last #PF.</summary>
    public const int Extra = 0x48;

    /// <summary>RAX, kept while a landing needs it.</summary>
    public const int LandingRax = 0x50;

    /// <summary>RSP of the payload at SYSCALL.</summary>
    public const int LandingRsp = 0x58;

    /// <summary>CS where SYSCALL landed.</summary>
    public const int LandingCs = 0x60;

    /// <summary>A <see cref="Context"/> that a response changes; in the other mode the frame of the entry.</summary>
    public const int Scratch = 0x100;

    /// <summary>DS, ES, FS and GS as <see cref="GuestMap.SingleSelectors"/> found them, 16 bits each.</summary>
    public const int Selectors = 0x1c0;

    /// <summary>Bytes that nobody writes: a payload that did shows here.</summary>
    public const int Canary = 0x200;

    /// <summary>Where the agent's stack begins, growing down.</summary>
    public const int StackTop = 0x1000;

    /// <summary>The agent's stack needs no more.</summary>
    public const int StackSize = 0x80;
}

/// <summary>What <see cref="GuestMap.SingleEntry"/> loads, at <see cref="Mailbox.Scratch"/>: the five words of IRETQ, then these.</summary>
internal static class EntryFrame
{
    /// <summary>DS, ES, FS and GS, 16 bits each.</summary>
    public const int Selectors = 40;

    /// <summary>FS base.</summary>
    public const int FsBase = 48;

    /// <summary>GS base.</summary>
    public const int GsBase = 56;

    /// <summary>RAX, which the code needs for itself.</summary>
    public const int Rax = 64;

    /// <summary>Size of selectors and bases, which lie here as in a <see cref="Context"/>.</summary>
    public const int SegmentsSize = 24;
}

/// <summary>A machine state: general registers in encoding order, then the five words that IRETQ takes, then the rest.</summary>
internal static class Context
{
    /// <summary>Sixteen registers; the place of RSP is not used.</summary>
    public const int Gpr = 0;

    /// <summary>RIP, and with what follows the frame as the processor pushes and pops it.</summary>
    public const int Rip = 128, Cs = 136, Rflags = 144, Rsp = 152, Ss = 160;

    /// <summary>Selectors, 16 bits each.</summary>
    public const int Ds = 168, Es = 170, Fs = 172, Gs = 174;

    /// <summary>Segment bases.</summary>
    public const int FsBase = 176, GsBase = 184;

    /// <summary>What of it a case or a response gives.</summary>
    public const int SizeOfInput = 192;

    /// <summary>CR2 of a #PF.</summary>
    public const int Extra = 192;

    /// <summary>The word that lies below the frame: an error code where the vector has one; of a system call the CS where it landed.</summary>
    public const int Below = 200;

    /// <summary>Vector, or <see cref="GuestMap.SyscallVector"/>.</summary>
    public const int Vector = 208;

    /// <summary>Size in a result.</summary>
    public const int Size = 216;

    /// <summary>The same for what agents have in common.</summary>
    public static ContextLayout Layout { get; } = new()
    {
        Gpr = [.. Enumerable.Range(0, GprFile.Count).Select(GprAt)],
        Rip = Rip,
        Rflags = Rflags,
        Cs = Cs,
        Ss = Ss,
        FrameSelectorWidth = 8,
        Segments = Ds,
        SizeOfInput = SizeOfInput,
        Size = Size,
    };

    /// <summary>Place of a general register.</summary>
    public static int GprAt(int number) => number == 4 ? Rsp : Gpr + (number * 8);
}
