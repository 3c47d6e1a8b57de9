using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Where the pages of a case lie in the pool of shared memory: those that a payload can write first, each kind in address order.</summary>
internal sealed class LayoutMap
{
    private readonly Page[] _pages;
    private readonly ulong[] _addresses;

    private LayoutMap(Page[] pages, int writablePages)
    {
        _pages = pages;
        _addresses = new ulong[pages.Length];
        foreach (Page page in pages)
        {
            _addresses[page.Index] = page.Address;
        }

        WritablePages = writablePages;
    }

    /// <summary>Number of pages at the start of the pool that a payload can write.</summary>
    public int WritablePages { get; }

    /// <summary>The pages in address order.</summary>
    public ReadOnlySpan<Page> Pages => _pages;

    /// <summary>Most bytes that a result of a case can take: all writable memory changed, all events, all hypercalls.</summary>
    public int WorstResult =>
        Result.HeaderSize + ((TestCase.MaximumResponses + 1) * (Response.MaximumHypercalls + 1) * Context.Size)
        + (WritablePages * ((PageLayout.PageSize * 2) + Result.WordSize)) + 64;

    /// <summary>Finds places for the pages of two roots.</summary>
    /// <param name="kernel">What the kernel's root maps.</param>
    /// <param name="user">What the user root maps; the same object when both are the same.</param>
    public static LayoutMap Create(PageLayout kernel, PageLayout user)
    {
        SortedDictionary<ulong, (PageAccess Kernel, PageAccess User)> all = [];
        foreach (PageRange range in kernel.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                all[range.Address + ((ulong)i * PageLayout.PageSize)] = (range.Access, PageAccess.None);
            }
        }

        foreach (PageRange range in user.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                ulong address = range.Address + ((ulong)i * PageLayout.PageSize);
                all[address] = (all.TryGetValue(address, out (PageAccess Kernel, PageAccess User) page) ? page.Kernel : PageAccess.None, range.Access);
            }
        }

        int writable = all.Values.Count(p => ((p.Kernel | p.User) & PageAccess.Write) != 0);
        int nextWritable = 0;
        int nextOther = writable;
        List<Page> pages = [];
        foreach ((ulong address, (PageAccess inKernel, PageAccess inUser)) in all)
        {
            bool writes = ((inKernel | inUser) & PageAccess.Write) != 0;
            pages.Add(new Page(address, writes ? nextWritable++ : nextOther++, inKernel, inUser));
        }

        return new LayoutMap([.. pages], writable);
    }

    /// <summary>Tells why a guest cannot have these pages.</summary>
    /// <param name="kernel">What the kernel's root maps.</param>
    /// <param name="user">What the user root maps.</param>
    /// <param name="ports">Entries at other places than the usual one.</param>
    /// <returns>Null when it can.</returns>
    public static string? Trouble(PageLayout kernel, PageLayout user, PortPlan ports)
    {
        foreach (PageRange range in ReferenceEquals(kernel, user) ? kernel.Ranges : kernel.Ranges.AddRange(user.Ranges))
        {
            if (range.Access == PageAccess.None)
            {
                continue;
            }

            if (range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }
        }

        LayoutMap map = Create(kernel, user);
        return map.Pages.Length > GuestMap.PoolPages ? $"{map.Pages.Length} pages; at most {GuestMap.PoolPages}"
            : map.WritablePages > DirtyEntry.Maximum ? $"{map.WritablePages} pages that can be written; at most {DirtyEntry.Maximum}"
            : ports.Trouble(map) is string trouble ? trouble
            : PageTables.Needed(map, ports.IsEmpty ? [] : [.. ports.Pages, ports.Annex(map)]) > GuestMap.TableFrames
                ? $"the pages lie so far apart that they need more than {GuestMap.TableFrames} page tables"
            : null;
    }

    /// <summary>Where a byte of the case lies in the pool.</summary>
    /// <returns>-1 when no page is there.</returns>
    public int OffsetOf(ulong address)
    {
        int low = 0;
        int high = _pages.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            ulong page = _pages[middle].Address;
            if (address < page)
            {
                high = middle - 1;
            }
            else if (address - page >= PageLayout.PageSize)
            {
                low = middle + 1;
            }
            else
            {
                return (_pages[middle].Index * PageLayout.PageSize) + (int)(address - page);
            }
        }

        return -1;
    }

    /// <summary>True for the offset of a page of the case in the pool.</summary>
    public bool HasPageAt(uint poolOffset) => poolOffset % PageLayout.PageSize == 0 && poolOffset / PageLayout.PageSize < _addresses.Length;

    /// <summary>The payload's address of the page at an offset of the pool.</summary>
    public ulong AddressOf(uint poolOffset) => _addresses[poolOffset / PageLayout.PageSize];

    /// <summary>A page of a case.</summary>
    /// <param name="Address">Its linear address.</param>
    /// <param name="Index">Its place in the pool, in pages.</param>
    /// <param name="Kernel">Rights under the kernel's root.</param>
    /// <param name="User">Rights under the user root.</param>
    public readonly record struct Page(ulong Address, int Index, PageAccess Kernel, PageAccess User)
    {
        /// <summary>True when a payload can write here.</summary>
        public bool Writable => ((Kernel | User) & PageAccess.Write) != 0;
    }
}
