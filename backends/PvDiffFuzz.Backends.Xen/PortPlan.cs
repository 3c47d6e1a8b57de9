using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Entries that a case has elsewhere than generated cases: the agent needs pages of its own there.</summary>
/// <param name="Base">Where a whole trap table's handlers lie; null when that is the usual place, or there is none.</param>
/// <param name="Others">Single entries with their numbers, by address.</param>
internal sealed record PortPlan(ulong? Base, ImmutableArray<(ulong Address, int Number)> Others)
{
    /// <summary>Most pages with entries.</summary>
    public const int MaximumPages = 6;

    /// <summary>No entry is elsewhere.</summary>
    public static PortPlan None { get; } = new(null, []);

    /// <summary>True when the agent needs no pages.</summary>
    public bool IsEmpty => Base is null && Others.IsEmpty;

    /// <summary>The plan of a case.</summary>
    public static PortPlan Of(XenState xen)
    {
        ulong? first = xen.Traps.Base is XenMap.Handlers ? null : xen.Traps.Base;
        List<(ulong, int)> others = [];
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            ulong offset = (ulong)(trap.Vector * XenTrap.HandlerSize);
            if (trap.Address != 0 && trap.Address != XenMap.Handlers + offset && trap.Address != first + offset)
            {
                others.Add((trap.Address, trap.Vector));
            }
        }

        foreach (XenCallback callback in xen.Callbacks)
        {
            if (callback.Address != XenMap.CallbackAddress(Abi.XenPv64, callback.Kind))
            {
                others.Add((callback.Address, EntryNumber.FirstCallback + (int)callback.Kind));
            }
        }

        return first is null && others.Count == 0 ? None : new PortPlan(first, [.. others.Order()]);
    }

    /// <summary>All entries, by address.</summary>
    public IEnumerable<(ulong Address, int Number)> Entries
    {
        get
        {
            IEnumerable<(ulong, int)> table = Base is ulong first ? Enumerable.Range(0, EntryNumber.FirstCallback).Select(v => (first + (ulong)(v * XenTrap.HandlerSize), v)) : [];
            return table.Concat(Others).Order();
        }
    }

    /// <summary>The pages that the entries lie in.</summary>
    public IReadOnlyList<ulong> Pages => [.. Entries.SelectMany(e => (ulong[])[e.Address, e.Address + XenTrap.HandlerSize - 1]).Select(a => a & ~0xfffUL).Distinct().Order()];

    /// <summary>Tells why the agent cannot have its entries there.</summary>
    /// <param name="map">The pages of the case.</param>
    /// <returns>Null when it can.</returns>
    public string? Trouble(LayoutMap map)
    {
        (ulong Address, int Number)? before = null;
        foreach ((ulong address, int number) in Entries)
        {
            if (before is { } other && address - other.Address < XenTrap.HandlerSize)
            {
                return $"entries at {other.Address:x} and {address:x}: the agent needs {XenTrap.HandlerSize} bytes for each";
            }

            ulong last = address + XenTrap.HandlerSize - 1;
            if (map.OffsetOf(address) >= 0 || map.OffsetOf(last) >= 0 || GuestMap.IsKernel(address) || (address < XenMap.PrivateLast && last >= XenMap.PrivateFirst) || !IsCanonical(address) || !IsCanonical(last))
            {
                return $"an entry at {address:x}: the agent cannot have its code there";
            }

            before = (address, number);
        }

        return Pages.Count > MaximumPages ? $"the entries lie in {Pages.Count} pages; at most {MaximumPages}" : null;
    }

    /// <summary>Finds a page near the entries that nothing is in, for what does not fit into the entries themselves.</summary>
    /// <param name="map">The pages of the case.</param>
    public ulong Annex(LayoutMap map)
    {
        IReadOnlyList<ulong> pages = Pages;
        ulong page = pages[0];
        while (pages.Contains(page) || map.OffsetOf(page) >= 0)
        {
            page += PageLayout.PageSize;
        }

        return page;
    }

    /// <inheritdoc/>
    public bool Equals(PortPlan? other) => ReferenceEquals(this, other) || (other is not null && Base == other.Base && Others.AsSpan().SequenceEqual(other.Others.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Base, Others.Length);

    private static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
