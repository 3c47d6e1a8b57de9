using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Where everything of the kernel lies. It is one contiguous piece of the guest's memory and of the machine's.</summary>
/// <remarks>Offsets are from <see cref="Base"/>; Xen loads the image there and puts its own structures behind it.</remarks>
internal static class GuestMap
{
    /// <summary>Linear address of the kernel: the range that no case uses.</summary>
    public const ulong Base = AddressMap.AgentFirst;

    /// <summary>The agent's code.</summary>
    public const int Agent = 0;

    /// <summary>The page that Xen fills with its hypercall stubs.</summary>
    public const int HypercallPage = 0x1_f000;

    /// <summary>What harness and agent tell each other.</summary>
    public const int MailboxPage = 0x2_0000;

    /// <summary>Where the agent sees the page that it shares with Xen.</summary>
    public const int SharedInfo = 0x2_1000;

    /// <summary>Clean x87 and vector state, as FXRSTOR takes it.</summary>
    public const int CleanState = 0x2_2000;

    /// <summary>Which page-table entries tell that a page of the case was written: <see cref="DirtyEntry"/> each.</summary>
    public const int DirtyList = 0x2_4000;

    /// <summary>Where the agent lists the entries whose marks it clears.</summary>
    public const int Updates = 0x3_0000;

    /// <summary>Frames for page tables.</summary>
    public const int Tables = 0x4_0000;

    /// <summary>Number of them.</summary>
    public const int TableFrames = 96;

    /// <summary>Frames of the guest's part of the GDT.</summary>
    public const int Gdt = 0xa_0000;

    /// <summary>Number of them: all that a guest can have.</summary>
    public const int GdtFrames = 14;

    /// <summary>Pages for entries at other places; see <see cref="Ports"/>.</summary>
    public const int PortPages = 0xb_0000;

    /// <summary>Entries of the trap table, then those of callbacks, then <see cref="End"/>.</summary>
    public const int Entries = (int)(XenMap.Handlers - Base);

    /// <summary>Where the stub behind kernel-mode code jumps to.</summary>
    public const int End = (int)(XenMap.Callbacks - Base) + ((int)XenCallbackKind.Nmi + 1) * XenTrap.HandlerSize;

    /// <summary>Encoded cases of the first slot; those of the second follow.</summary>
    public const int Requests = 0x40_0000;

    /// <summary>Size of one.</summary>
    public const int RequestSize = 0x18_0000;

    /// <summary>Results of the first slot; those of the second follow.</summary>
    public const int Results = 0x80_0000;

    /// <summary>Size of one.</summary>
    public const int ResultsSize = 0x40_0000;

    /// <summary>Pages of cases.</summary>
    public const int Pool = 0x100_0000;

    /// <summary>Number of them.</summary>
    public const int PoolPages = 0x400;

    /// <summary>Size of all.</summary>
    public const int Size = Pool + (PoolPages * PageLayout.PageSize);

    /// <summary>Cases and results in flight: one slot is filled and emptied while the guest works on the other.</summary>
    public const int Slots = 2;

    /// <summary>True for the address of an entry.</summary>
    public static bool IsEntry(ulong linear) => linear - At(Entries) < End - Entries && linear % XenTrap.HandlerSize == 0;

    /// <summary>Encoded cases of a slot.</summary>
    public static int RequestsOf(int slot) => Requests + (slot * RequestSize);

    /// <summary>Results of a slot.</summary>
    public static int ResultsOf(int slot) => Results + (slot * ResultsSize);

    /// <summary>True for an address of the kernel.</summary>
    public static bool IsKernel(ulong linear) => linear - Base < Size;

    /// <summary>Linear address of an offset.</summary>
    public static ulong At(int offset) => Base + (ulong)offset;
}

/// <summary>Numbers of entries: vectors first, then these.</summary>
internal static class EntryNumber
{
    /// <summary>The first callback; the others follow in the order of <see cref="XenCallbackKind"/>.</summary>
    public const int FirstCallback = 256;

    /// <summary>No door of Xen's: where the stub behind kernel-mode code jumps to.</summary>
    public const int End = FirstCallback + (int)XenCallbackKind.Nmi + 1;

    /// <summary>No door of Xen's: where the agent records the result of a hypercall.</summary>
    public const int HypercallReturn = End + 1;
}

/// <summary>Fields of <see cref="GuestMap.MailboxPage"/>.</summary>
internal static class Mailbox
{
    /// <summary>The agent's word that it runs; see <see cref="MagicValue"/>.</summary>
    public const int Magic = 0;

    /// <summary>Linear address of Xen's start_info.</summary>
    public const int StartInfo = 0x08;

    /// <summary>Number of records begun since the start.</summary>
    public const int Sequence = 0x10;

    /// <summary>The record that runs.</summary>
    public const int Record = 0x18;

    /// <summary>Next free byte of results.</summary>
    public const int Result = 0x20;

    /// <summary>Header of the result that is written.</summary>
    public const int Header = 0x28;

    /// <summary>The next response.</summary>
    public const int NextResponse = 0x30;

    /// <summary>Responses left, 32 bits.</summary>
    public const int ResponsesLeft = 0x38;

    /// <summary>Hypercalls left in the response, 32 bits.</summary>
    public const int HypercallsLeft = 0x3c;

    /// <summary>The next hypercall of the response.</summary>
    public const int NextHypercall = 0x40;

    /// <summary>The event that is answered.</summary>
    public const int Answered = 0x48;

    /// <summary>RCX at an entry.</summary>
    public const int EntryRcx = 0x50;

    /// <summary>RSP at an entry.</summary>
    public const int EntryRsp = 0x58;

    /// <summary>Where kernel-mode code begins.</summary>
    public const int Target = 0x60;

    /// <summary>Number of entries in <see cref="GuestMap.DirtyList"/>.</summary>
    public const int DirtyCount = 0x68;

    /// <summary>The slot that is worked on.</summary>
    public const int Slot = 0x70;

    /// <summary>How long the agent looks for work before it sleeps.</summary>
    public const int Patience = 0x78;

    /// <summary>CR4 as the agent needs it.</summary>
    public const int AgentCr4 = 0x80;

    /// <summary>Flags of the record that runs, see <see cref="RecordFlags"/>.</summary>
    public const int Flags = 0x88;

    /// <summary>1 while a record is run.</summary>
    public const int Busy = 0x90;

    /// <summary>Where the agent's last HYPERVISOR_iret counts as made (ADR 9): the entry of the event that it answers, or 0 at the start of a case.</summary>
    public const int ReturnsFrom = 0x98;

    /// <summary>Selectors of LDTR and, in bits 31:16, of TR, as Xen has loaded them, 32 bits; 0 where a guest may not see them.</summary>
    public const int TableSelectors = 0xa0;

    /// <summary>1 when a case has loaded LDTR or TR. The agent does not go on until the snapshot is loaded.</summary>
    public const int Torn = 0xa8;

    /// <summary>DR7 of the payload while the agent has breakpoints out of force, else 0.</summary>
    public const int Breakpoints = 0xb0;

    /// <summary>The first slot: <see cref="SlotState"/> and what follows; the second lies <see cref="SlotStride"/> bytes behind.</summary>
    public const int FirstSlot = 0x100;

    /// <summary>Distance between slots.</summary>
    public const int SlotStride = 0x40;

    /// <summary>In a slot: <see cref="Idle"/>; <see cref="Ready"/> once the harness has put records there; <see cref="Full"/> when results have to be taken before the agent can go on.</summary>
    public const int SlotState = 0;

    /// <summary>In a slot: address of the first record.</summary>
    public const int SlotFirst = 8;

    /// <summary>In a slot: address right after the last record.</summary>
    public const int SlotEnd = 16;

    /// <summary>In a slot: address of its results.</summary>
    public const int SlotResults = 24;

    /// <summary>In a slot: no result begins behind this address.</summary>
    public const int SlotLimit = 32;

    /// <summary>In a slot: number of records that were run.</summary>
    public const int SlotFinished = 40;

    /// <summary>An <see cref="Initial"/> that a response changes.</summary>
    public const int Scratch = 0x200;

    /// <summary>The argument of SCHEDOP_poll.</summary>
    public const int Poll = 0x300;

    /// <summary>The operation of mmuext_op that flushes the TLB.</summary>
    public const int Flush = 0x350;

    /// <summary>The first word of vcpu_info as the payload has it, while the agent keeps events away.</summary>
    public const int VcpuInfo = 0x318;

    /// <summary>Arguments of a response's hypercall, six words.</summary>
    public const int Arguments = 0x320;

    /// <summary>Bytes that nobody writes: a payload that did shows here.</summary>
    public const int Canary = 0x400;

    /// <summary>Where the agent's stack begins, growing down.</summary>
    public const int StackTop = 0x1000;

    /// <summary>The agent's stack needs no more.</summary>
    public const int StackSize = 0x100;

    /// <summary>What the agent writes to <see cref="Magic"/>, in two halves, so that the file of the kernel does not hold it.</summary>
    public const ulong MagicValue = 0x5850_5644_4b45_524e;

    /// <summary>The harness has the slot.</summary>
    public const ulong Idle = 0;

    /// <summary>The agent has the slot.</summary>
    public const ulong Ready = 1;

    /// <summary>The harness has the slot, and the agent waits for it.</summary>
    public const ulong Full = 2;
}

/// <summary>The registers that a payload is entered with.</summary>
internal static class Initial
{
    /// <summary>Sixteen general registers; RAX, RCX, RSP and R11 are in the frame as well.</summary>
    public const int Gpr = 0;

    /// <summary>The frame as <c>HYPERVISOR_iret</c> reads it.</summary>
    public const int Frame = 128, Rax = 128, R11 = 136, Rcx = 144, Flags = 152, Rip = 160, Cs = 168, Rflags = 176, Rsp = 184, Ss = 192;

    /// <summary>Selectors, 16 bits each.</summary>
    public const int Ds = 200, Es = 202, Fs = 204, Gs = 206;

    /// <summary>Segment bases of the mode that is entered.</summary>
    public const int FsBase = 208, GsBase = 216;

    /// <summary>Size.</summary>
    public const int Size = 224;
}

/// <summary>An event as the agent records it.</summary>
internal static class Context
{
    /// <summary>Sixteen general registers.</summary>
    public const int Gpr = 0;

    /// <summary>RFLAGS as PUSHF shows them.</summary>
    public const int Rflags = 128;

    /// <summary>The number of the entry, see <see cref="EntryNumber"/>.</summary>
    public const int Entry = 136;

    /// <summary>Selectors, 16 bits each, in this order.</summary>
    public const int Cs = 144, Ss = 146, Ds = 148, Es = 150, Fs = 152, Gs = 154;

    /// <summary>Segment bases.</summary>
    public const int FsBase = 160, GsBase = 168;

    /// <summary>The first 16 bytes of vcpu_info: pending, mask, padding; then the selector of pending words.</summary>
    public const int VcpuInfo = 176;

    /// <summary>The address of the last #PF, from vcpu_info.</summary>
    public const int Cr2 = 192;

    /// <summary>Eight words from RSP on; the last one is not read when the frame has seven.</summary>
    public const int Frame = 200;

    /// <summary>Size.</summary>
    public const int Size = 264;
}

/// <summary>An encoded case: header, <see cref="Xen.Initial"/>, hypercalls that prepare it, memory runs, responses.</summary>
internal static class Record
{
    /// <summary>Length in bytes, 32 bits, a multiple of 8.</summary>
    public const int Length = 0;

    /// <summary><see cref="RecordFlags"/>, 32 bits.</summary>
    public const int Flags = 4;

    /// <summary>Address right after the code.</summary>
    public const int End = 8;

    /// <summary>Number of hypercalls, 32 bits.</summary>
    public const int Hypercalls = 16;

    /// <summary>Number of memory runs, 32 bits.</summary>
    public const int Runs = 20;

    /// <summary>Distance from the record to its runs, 32 bits.</summary>
    public const int RunsAt = 24;

    /// <summary>Number of responses, 32 bits.</summary>
    public const int Responses = 28;

    /// <summary>Distance from the record to its responses, 32 bits.</summary>
    public const int ResponsesAt = 32;

    /// <summary>Distance from the record to where its entries lie, 32 bits; unused without responses.</summary>
    public const int EntriesAt = 36;

    /// <summary>
    /// Size of the head of that list, and of each of its items. The head is the address of the handler for vector 0 and how many items follow; an item is the number of an entry that lies elsewhere, and its address.
    /// </summary>
    public const int EntrySize = 16;

    /// <summary>The first 24 bytes of vcpu_info at the start: pending, mask and padding; the selector of pending words; CR2.</summary>
    public const int VcpuInfo = 40;

    /// <summary>CR4 of the payload.</summary>
    public const int Cr4 = 64;

    /// <summary>Initial registers.</summary>
    public const int Initial = 72;

    /// <summary>The hypercalls that prepare the case, <see cref="HypercallSize"/> each: number, over which the result is written, and six arguments.</summary>
    public const int FirstHypercall = Initial + Xen.Initial.Size;

    /// <summary>Size of a hypercall.</summary>
    public const int HypercallSize = 56;

    /// <summary>Size of the head of a memory run: pool offset and number of quadwords, 32 bits each. The quadwords follow.</summary>
    public const int RunHead = 8;

    /// <summary>Size of a patch: place in <see cref="Xen.Initial"/>, 32 bits; 2 or 8 bytes wide, 32 bits; value, 64 bits.</summary>
    public const int PatchSize = 16;

    /// <summary>
    /// Size of the head of a response: bits to set in the first word of vcpu_info, the flags word of the return, number of patches and of hypercalls, 32 bits each. Patches follow, then hypercalls.
    /// </summary>
    public const int ResponseHead = 24;

    /// <summary>Size of the head of a response's hypercall: its number, and how many arguments follow.</summary>
    public const int CallHead = 16;
}

/// <summary>What is special about a record.</summary>
[Flags]
internal enum RecordFlags
{
    /// <summary>Kernel mode, entered by a jump.</summary>
    None = 0,

    /// <summary>Entered by <c>HYPERVISOR_iret</c>.</summary>
    ByIret = 1,

    /// <summary>The payload can change CR0.TS, which must be clear when the agent looks at memory.</summary>
    ClearTaskSwitched = 2,

    /// <summary>There is no payload: only the hypercalls count.</summary>
    NoPayload = 4,

    /// <summary>The virtual CR2 becomes what <see cref="Record.VcpuInfo"/> has.</summary>
    LoadCr2 = 8,

    /// <summary>The payload has its own CR4, <see cref="Record.Cr4"/>.</summary>
    OwnCr4 = 32,

    /// <summary>User code can run, so that the marks under its root count too.</summary>
    UserMode = 16,

    /// <summary>Breakpoints may be in force, which the agent must not meet when it reads a frame.</summary>
    Breakpoints = 64,
}

/// <summary>A result: header, events (<see cref="Context"/> each), then what written pages hold.</summary>
internal static class Result
{
    /// <summary>Number of contexts, 32 bits.</summary>
    public const int Events = 0;

    /// <summary>Number of pages that were found written, 32 bits.</summary>
    public const int DirtyPages = 4;

    /// <summary>Address of the end of the result in the guest.</summary>
    public const int EndAt = 8;

    /// <summary>Size of the header.</summary>
    public const int HeaderSize = 16;

    /// <summary>Size of an item of memory: pool offset and value. An odd offset begins a page and has no value: everything of that page that is not zero follows.</summary>
    public const int WordSize = 16;
}

/// <summary>An entry of <see cref="GuestMap.DirtyList"/>.</summary>
internal static class DirtyEntry
{
    /// <summary>Addresses of the page-table entries, in both roots, that map a page.</summary>
    public const int First = 0, Second = 8;

    /// <summary>Pool offset of the page.</summary>
    public const int Offset = 16;

    /// <summary>Machine addresses of the entries, and their values while the page is not written, as mmu_update takes them.</summary>
    public const int FirstUpdate = 24, SecondUpdate = 40;

    /// <summary>Size.</summary>
    public const int Size = 56;

    /// <summary>Most of them.</summary>
    public const int Maximum = 0x300;
}
