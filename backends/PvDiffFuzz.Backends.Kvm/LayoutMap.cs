using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Where the pages of a layout lie in the pool of shared memory: those that the payload can write first, each kind in address order.</summary>
internal sealed class LayoutMap
{
    private readonly Range[] _ranges;
    private readonly ulong[] _pageAddress;

    private LayoutMap(Range[] ranges, ulong[] pageAddress, int writablePages)
    {
        _ranges = ranges;
        _pageAddress = pageAddress;
        WritablePages = writablePages;
    }

    /// <summary>Number of pages at the start of the pool that a payload can write.</summary>
    public int WritablePages { get; }

    /// <summary>Number of pages in use in the pool.</summary>
    public int Pages => _pageAddress.Length;

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
                if (range.Access != PageAccess.None && PayloadWrites(range.Access) == writable)
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
        return new LayoutMap([.. ranges], [.. pages], writablePages);
    }

    /// <summary>Tells why a guest cannot have a layout.</summary>
    /// <param name="layout">Any layout.</param>
    /// <param name="upperHalf">True when the guest's CPL3 can have pages in the upper half of the address space.</param>
    /// <returns>Null when it can.</returns>
    public static string? Trouble(PageLayout layout, bool upperHalf)
    {
        int pages = 0;
        foreach (PageRange range in layout.Ranges)
        {
            if (range.Access == PageAccess.None)
            {
                continue;
            }

            pages += range.Pages;
            if (range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }

            if (!upperHalf && (long)range.Address < 0)
            {
                return $"page {range.Address:x}: this host's own kernel has the upper half of the address space";
            }
        }

        return pages > TestCase.MaximumPages ? $"{pages} pages; at most {TestCase.MaximumPages}"
            : PageTables.Needed(layout) > PageTables.Available ? $"the pages lie so far apart that they need more than {PageTables.Available} page tables"
            : null;
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

    private static bool PayloadWrites(PageAccess access) => (access & (PageAccess.Write | PageAccess.Supervisor)) == PageAccess.Write;

    /// <summary>Adjacent pages with the same access, adjacent in the pool too.</summary>
    /// <param name="First">Address of the first byte.</param>
    /// <param name="Last">Address of the last byte.</param>
    /// <param name="PoolOffset">Where the first byte lies in the pool.</param>
    /// <param name="Access">Rights.</param>
    public readonly record struct Range(ulong First, ulong Last, uint PoolOffset, PageAccess Access)
    {
        /// <summary>True when the payload can write here.</summary>
        public bool Writable => PayloadWrites(Access);
    }
}
