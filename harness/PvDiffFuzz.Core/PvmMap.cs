using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>What generated PVM cases add to <see cref="AddressMap"/>: supervisor slots, two roots, and where a target's agent takes events.</summary>
/// <remarks>
/// The supervisor root maps the user pages too, as a KPTI kernel does; supervisor slots exist in the low and in the high block. Guest-physical numbers are part of the map, so that
/// CR3 and the like read the same everywhere: a target puts its tables and the per-VCPU structure there.
/// </remarks>
public static class PvmMap
{
    /// <summary>Offset in a block: two pages of supervisor code, readable and executable.</summary>
    public const ulong Code = AddressMap.Supervisor;

    /// <summary>Offset in a block at which generated supervisor code ends; <see cref="TestCase.StubLength"/> bytes remain for a target's jump stub.</summary>
    public const ulong CodeEnd = Code + 0x2000 - TestCase.StubLength;

    /// <summary>Offset in a block: two writable supervisor pages for the stack.</summary>
    public const ulong Stack = 0x7_0000;

    /// <summary>Offset in a block: a writable supervisor page, then a read-only one.</summary>
    public const ulong Data = 0x8_0000;

    /// <summary>Offset in the low block of the page at which the supervisor sees the per-VCPU structure. No page of the case.</summary>
    public const ulong Pvcs = 0x9_0000;

    /// <summary>Offset in a block: two writable pages that only the user root has.</summary>
    public const ulong UserOnly = 0xa_0000;

    /// <summary>Offset in a block: a writable supervisor page that both roots have.</summary>
    public const ulong SupervisorInBoth = 0xb_0000;

    /// <summary>Offset in a block: a page that is writable under the supervisor root and read-only under the user root.</summary>
    public const ulong WritableForSupervisor = 0xc_0000;

    /// <summary>Offset in the low block: an executable supervisor page with the SYSCALL instructions that are synthetic returns.</summary>
    public const ulong Returns = 0xd_0000;

    /// <summary>Linear address of the SYSCALL that is EVENT_RETURN_USER; a REX prefix stands before it.</summary>
    public const ulong RetuRip = AddressMap.LowBlock + Returns + 0x10;

    /// <summary>Linear address of the SYSCALL that is EVENT_RETURN_SUPERVISOR.</summary>
    public const ulong RetsRip = AddressMap.LowBlock + Returns + 0x20;

    /// <summary>Linear address at which the supervisor sees the per-VCPU structure.</summary>
    public const ulong PvcsAddress = AddressMap.LowBlock + Pvcs;

    /// <summary>MSR_PVM_EVENT_ENTRY: in the agent's range.</summary>
    public const ulong EventEntry = AddressMap.AgentFirst + 0x10_0000;

    /// <summary>MSR_LSTAR: in the agent's range.</summary>
    public const ulong Lstar = AddressMap.AgentFirst + 0x10_1000;

    /// <summary>Guest-physical address of the supervisor root's top table: CR3 in supervisor mode.</summary>
    public const ulong SupervisorRoot = 0x1000;

    /// <summary>Guest-physical address of the user root's top table.</summary>
    public const ulong UserRoot = 0x2000;

    /// <summary>Guest-physical address of the per-VCPU structure.</summary>
    public const ulong VcpuStruct = 0x8000;

    /// <summary>MSR_STAR: kernel CS 0x10, user CS from 0x23.</summary>
    public const ulong Star = 0x0023_0010_0000_0000;

    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;

    /// <summary>The pages of the supervisor root.</summary>
    public static PageLayout SupervisorLayout { get; } = PageLayout.Create(
    [
        .. AddressMap.Standard.Ranges,
        .. Supervisor(AddressMap.LowBlock),
        .. Supervisor(AddressMap.HighBlock),
        new PageRange(AddressMap.LowBlock + Returns, 1, PageAccess.Read | PageAccess.Execute | PageAccess.Supervisor),
    ]);

    /// <summary>The pages of the user root.</summary>
    public static PageLayout UserLayout { get; } = PageLayout.Create([.. AddressMap.Standard.Ranges, .. User(AddressMap.LowBlock), .. User(AddressMap.HighBlock)]);

    /// <summary>Contents of the page of <see cref="Returns"/>.</summary>
    public static MemoryContents ReturnInstructions { get; } =
        new(RetuRip - 1, [0x48, 0x0f, 0x05, 0x0f, 0x0b, .. Enumerable.Repeat((byte)0x90, 12), 0x0f, 0x05, 0x0f, 0x0b]);

    private static ImmutableArray<PageRange> Supervisor(ulong at) =>
    [
        new PageRange(at + Code, 2, PageAccess.Read | PageAccess.Execute | PageAccess.Supervisor),
        new PageRange(at + Stack, 2, ReadWrite | PageAccess.Supervisor),
        new PageRange(at + Data, 1, ReadWrite | PageAccess.Supervisor),
        new PageRange(at + Data + PageLayout.PageSize, 1, PageAccess.Read | PageAccess.Supervisor),
        new PageRange(at + SupervisorInBoth, 1, ReadWrite | PageAccess.Supervisor),
        new PageRange(at + WritableForSupervisor, 1, ReadWrite),
    ];

    private static ImmutableArray<PageRange> User(ulong at) =>
    [
        new PageRange(at + UserOnly, 2, ReadWrite),
        new PageRange(at + SupervisorInBoth, 1, ReadWrite | PageAccess.Supervisor),
        new PageRange(at + WritableForSupervisor, 1, PageAccess.Read),
    ];
}
