using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>The one constant map that generated cases use: places that a Linux process, a KVM guest, a PVM guest and a Xen PV guest can all map.</summary>
/// <remarks>
/// <para>
/// Two copies of the same block of slots exist, one below 4 GiB (also for compatibility mode) and one far above. Every slot is surrounded by pages that are not present.
/// Access rights belong to the slots, so that no page table changes from case to case.
/// </para>
/// <para>Code ends at the end of its slot: the page after it is a guard, so running off the end is a fetch #PF with RIP = CR2 = <c>end</c>.</para>
/// </remarks>
public static class AddressMap
{
    /// <summary>Base of the block below 4 GiB.</summary>
    public const ulong LowBlock = 0x0040_0000;

    /// <summary>Base of the block above 4 GiB.</summary>
    public const ulong HighBlock = 0x2aaa_aaa0_0000;

    /// <summary>Offset in a block: two pages of code, readable and executable.</summary>
    public const ulong Code = 0;

    /// <summary>Offset in a block of the guard page right after the code: generated code ends here.</summary>
    public const ulong CodeEnd = 0x2000;

    /// <summary>Offset in a block: two writable pages.</summary>
    public const ulong Data = 0x1_0000;

    /// <summary>Offset in a block: a writable page, then a read-only one.</summary>
    public const ulong WritableThenReadOnly = 0x2_0000;

    /// <summary>Offset in a block: a read-only page, then a writable one.</summary>
    public const ulong ReadOnlyThenWritable = 0x3_0000;

    /// <summary>Offset in a block: two pages with all rights.</summary>
    public const ulong WritableCode = 0x4_0000;

    /// <summary>Offset in a block: two writable pages for the stack; RSP starts around their middle.</summary>
    public const ulong Stack = 0x5_0000;

    /// <summary>Offset in a block, kept free for supervisor pages.</summary>
    public const ulong Supervisor = 0x6_0000;

    /// <summary>The lowest page of the map, writable.</summary>
    public const ulong Lowest = 0x1_0000;

    /// <summary>Two writable pages that meet at 2 GiB, where a 32-bit displacement changes sign.</summary>
    public const ulong SignEdge = 0x7fff_f000;

    /// <summary>Two writable pages that meet at 4 GiB, where 32-bit addresses wrap.</summary>
    public const ulong FourGigabyteEdge = 0xffff_f000;

    /// <summary>The highest page of the map, writable; nothing is mapped above it.</summary>
    public const ulong Highest = 0x7fff_ffff_d000;

    /// <summary>Where targets that share the payload's address space keep their agent, stacks and results. Never given to a payload.</summary>
    public const ulong AgentFirst = 0x7e00_0000_0000;

    /// <summary>The last byte of the agent's range.</summary>
    public const ulong AgentLast = 0x7e00_ffff_ffff;

    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;
    private const PageAccess ReadExecute = PageAccess.Read | PageAccess.Execute;

    /// <summary>The layout of every generated user-mode case.</summary>
    public static PageLayout Standard { get; } = PageLayout.Create(
    [
        .. Block(LowBlock),
        .. Block(HighBlock),
        new PageRange(Lowest, 1, ReadWrite),
        new PageRange(SignEdge, 2, ReadWrite),
        new PageRange(FourGigabyteEdge, 2, ReadWrite),
        new PageRange(Highest, 1, ReadWrite),
    ]);

    private static ImmutableArray<PageRange> Block(ulong at) =>
    [
        new PageRange(at + Code, 2, ReadExecute),
        new PageRange(at + Data, 2, ReadWrite),
        new PageRange(at + WritableThenReadOnly, 1, ReadWrite),
        new PageRange(at + WritableThenReadOnly + PageLayout.PageSize, 1, PageAccess.Read),
        new PageRange(at + ReadOnlyThenWritable, 1, PageAccess.Read),
        new PageRange(at + ReadOnlyThenWritable + PageLayout.PageSize, 1, ReadWrite),
        new PageRange(at + WritableCode, 2, ReadWrite | PageAccess.Execute),
        new PageRange(at + Stack, 2, ReadWrite),
    ];
}
