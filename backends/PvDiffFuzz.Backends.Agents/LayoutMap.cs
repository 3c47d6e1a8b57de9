using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

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

    /// <summary>The present ranges in address order.</summary>
    public ReadOnlySpan<Range> Ranges => _ranges;

    /// <summary>Finds places for the pages of a layout.</summary>
    /// <param name="layout">A layout of which the backend has found that it can have it.</param>
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
