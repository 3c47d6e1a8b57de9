using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>What a payload may do with a page. A page without <see cref="Read"/> is not present.</summary>
[Flags]
public enum PageAccess : byte
{
    /// <summary>Not present.</summary>
    None = 0,

    /// <summary>Present and readable.</summary>
    Read = 1,

    /// <summary>Writable; needs <see cref="Read"/>.</summary>
    Write = 2,

    /// <summary>Executable; needs <see cref="Read"/>.</summary>
    Execute = 4,

    /// <summary>Present, but only for CPL0 to CPL2.</summary>
    Supervisor = 8,
}

/// <summary>Adjacent pages with the same access.</summary>
/// <param name="Address">Linear address of the first byte, a multiple of 4096.</param>
/// <param name="Pages">Number of 4 KiB pages, at least 1.</param>
/// <param name="Access">Rights of all of them.</param>
public readonly record struct PageRange(ulong Address, int Pages, PageAccess Access)
{
    /// <summary>The last byte of the range.</summary>
    public ulong Last => Address + ((ulong)Pages * PageLayout.PageSize) - 1;
}

/// <summary>All pages that a case may touch, sorted by address and without overlap. Everything else is not present.</summary>
/// <remarks>Targets keep the layout of the last case mapped and compare by reference first, so share one instance.</remarks>
public sealed class PageLayout : IEquatable<PageLayout>
{
    /// <summary>Bytes in a page.</summary>
    public const int PageSize = 4096;

    private PageLayout(ImmutableArray<PageRange> ranges) => Ranges = ranges;

    /// <summary>The ranges in address order.</summary>
    public ImmutableArray<PageRange> Ranges { get; }

    /// <summary>Makes a layout.</summary>
    /// <param name="ranges">Page-aligned ranges in any order; equal neighbours are joined.</param>
    /// <exception cref="ArgumentException">A range is unaligned, empty, non-canonical or overlaps another; the message names its address.</exception>
    public static PageLayout Create(IEnumerable<PageRange> ranges)
    {
        ImmutableArray<PageRange>.Builder joined = ImmutableArray.CreateBuilder<PageRange>();
        foreach (PageRange range in ranges.OrderBy(r => r.Address))
        {
            if (range.Address % PageSize != 0 || range.Pages < 1 || range.Last < range.Address)
            {
                throw new ArgumentException($"page {range.Address:x}: not page-aligned, empty or past the end of the address space", nameof(ranges));
            }

            if (!Canonical(range.Address) || !Canonical(range.Last) || (range.Address >> 63) != (range.Last >> 63))
            {
                throw new ArgumentException($"page {range.Address:x}: not a canonical address", nameof(ranges));
            }

            if (joined.Count > 0 && joined[^1].Last >= range.Address)
            {
                throw new ArgumentException($"page {range.Address:x}: overlaps page {joined[^1].Address:x}", nameof(ranges));
            }

            if (joined.Count > 0 && joined[^1].Last + 1 == range.Address && joined[^1].Access == range.Access)
            {
                joined[^1] = joined[^1] with { Pages = joined[^1].Pages + range.Pages };
            }
            else
            {
                joined.Add(range);
            }
        }

        return new PageLayout(joined.ToImmutable());
    }

    /// <summary>Rights at an address; <see cref="PageAccess.None"/> where no page is.</summary>
    public PageAccess AccessAt(ulong address)
    {
        int low = 0;
        int high = Ranges.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            PageRange range = Ranges[middle];
            if (address < range.Address)
            {
                high = middle - 1;
            }
            else if (address > range.Last)
            {
                low = middle + 1;
            }
            else
            {
                return range.Access;
            }
        }

        return PageAccess.None;
    }

    /// <inheritdoc/>
    public bool Equals(PageLayout? other) => ReferenceEquals(this, other) || (other is not null && Ranges.AsSpan().SequenceEqual(other.Ranges.AsSpan()));

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as PageLayout);

    /// <inheritdoc/>
    public override int GetHashCode() => Ranges.Length == 0 ? 0 : HashCode.Combine(Ranges.Length, Ranges[0], Ranges[^1]);

    private static bool Canonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
