using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Where the pages of a layout lie in the pool of shared memory: writable ones first, each kind in address order.</summary>
internal sealed class LayoutMap
{
    /// <summary>The first address that a process cannot map (TASK_SIZE_MAX with four levels of page tables).</summary>
    public const ulong UserEnd = 0x7fff_ffff_f000;

    private readonly Range[] _ranges;
    private readonly ulong[] _pageAddress;

    private LayoutMap(PageLayout layout, Range[] ranges, ulong[] pageAddress, int writablePages)
    {
        Layout = layout;
        _ranges = ranges;
        _pageAddress = pageAddress;
        WritablePages = writablePages;
    }

    /// <summary>The layout.</summary>
    public PageLayout Layout { get; }

    /// <summary>Number of pages at the start of the pool that a payload can write.</summary>
    public int WritablePages { get; }

    /// <summary>The present ranges in address order.</summary>
    public ReadOnlySpan<Range> Ranges => _ranges;

    /// <summary>Most bytes that a result of a case can take: all writable memory changed, and all events.</summary>
    public int WorstResult => Result.HeaderSize + ((TestCase.MaximumResponses + 1) * Context.Size) + (WritablePages * PageLayout.PageSize * 2) + 64;

    /// <summary>Finds places for the pages of a layout.</summary>
    /// <param name="layout">A layout for which <see cref="Trouble"/> finds nothing.</param>
    public static LayoutMap Create(PageLayout layout)
    {
        List<Range> ranges = [];
        List<ulong> pages = [];
        int writablePages = 0;
        foreach (bool writable in (ReadOnlySpan<bool>)[true, false])
        {
            foreach (PageRange range in layout.Ranges)
            {
                if (range.Access != PageAccess.None && ((range.Access & PageAccess.Write) != 0) == writable)
                {
                    ranges.Add(new Range(range.Address, range.Last, (uint)(pages.Count * PageLayout.PageSize), range.Access));
                    for (int i = 0; i < range.Pages; i++)
                    {
                        pages.Add(range.Address + ((ulong)i * PageLayout.PageSize));
                    }
                }
            }

            if (writable)
            {
                writablePages = pages.Count;
            }
        }

        ranges.Sort((a, b) => a.First.CompareTo(b.First));
        return new LayoutMap(layout, [.. ranges], [.. pages], writablePages);
    }

    /// <summary>Tells why a process of this host cannot have a layout.</summary>
    /// <param name="layout">Any layout.</param>
    /// <param name="lowest">The lowest address that the host lets a process map.</param>
    /// <returns>Null when it can.</returns>
    public static string? Trouble(PageLayout layout, ulong lowest)
    {
        int pages = 0;
        foreach (PageRange range in layout.Ranges)
        {
            if ((range.Access & PageAccess.Supervisor) != 0)
            {
                return $"page {range.Address:x}: a Linux process has no supervisor pages";
            }

            if (range.Access == PageAccess.None)
            {
                continue;
            }

            pages += range.Pages;
            if (range.Address < lowest)
            {
                return $"page {range.Address:x}: this host lets a process map pages from {lowest:x} (vm.mmap_min_addr)";
            }

            if (range.Last >= UserEnd)
            {
                return $"page {range.Address:x}: Linux lets a process map pages below {UserEnd:x}";
            }

            if (range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }
        }

        return pages <= TestCase.MaximumPages ? null : $"{pages} pages; at most {TestCase.MaximumPages}";
    }

    /// <summary>The range that holds an address, or null.</summary>
    public Range? Find(ulong address)
    {
        int low = 0;
        int high = _ranges.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            ref readonly Range range = ref _ranges[middle];
            if (address < range.First)
            {
                high = middle - 1;
            }
            else if (address > range.Last)
            {
                low = middle + 1;
            }
            else
            {
                return range;
            }
        }

        return null;
    }

    /// <summary>The payload's address of a byte of the pool.</summary>
    public ulong AddressOf(uint poolOffset) => _pageAddress[poolOffset >> 12] | (poolOffset & 0xfff);

    /// <summary>Adjacent pages with the same access, adjacent in the pool too.</summary>
    /// <param name="First">Address of the first byte.</param>
    /// <param name="Last">Address of the last byte.</param>
    /// <param name="PoolOffset">Where the first byte lies in the pool.</param>
    /// <param name="Access">Rights.</param>
    public readonly record struct Range(ulong First, ulong Last, uint PoolOffset, PageAccess Access)
    {
        /// <summary>True when the payload can write here.</summary>
        public bool Writable => (Access & PageAccess.Write) != 0;
    }
}
