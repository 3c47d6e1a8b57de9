using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>The page tables of a layout, as they will lie in <see cref="GuestMap.Tables"/> before Xen has looked at them.</summary>
/// <remarks>
/// A PV guest writes its own tables, with machine frames in them; Xen checks them when they are put to use, and from then on changes them only on request.
/// The kernel's root is the one that Xen made, so only its entries are listed. The user root is a table of ours.
/// </remarks>
internal sealed class PageTables
{
    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong User = 4;

    /// <summary>The processor's mark of a page that was used.</summary>
    public const ulong Accessed = 0x20;

    /// <summary>The processor's mark of a page that was written.</summary>
    public const ulong Dirty = 0x40;

    private const ulong NoExecute = 1UL << 63;
    private const ulong Table = Present | Writable | User | Accessed;
    private const int Levels = 4;

    /// <summary>Address bits below those that choose a table of the first level.</summary>
    private const int RegionShift = 21;

    private readonly ulong _firstFrame;
    private readonly Dictionary<(bool User, int Level, ulong Prefix), int> _tables = [];
    private readonly List<byte[]> _frames = [];
    private readonly SortedDictionary<int, ulong> _kernelRoot = [];
    private readonly List<int> _entries = [];

    private PageTables(ulong firstFrame) => _firstFrame = firstFrame;

    /// <summary>Contents of the frames of <see cref="GuestMap.Tables"/>, in order.</summary>
    public IReadOnlyList<byte[]> Frames => _frames;

    /// <summary>Entries for the kernel's root, by index.</summary>
    public IReadOnlyDictionary<int, ulong> KernelRoot => _kernelRoot;

    /// <summary>Number of the frame with the user root.</summary>
    public int UserRoot { get; private set; }

    /// <summary>Number of the frame with a user root that maps what the kernel's root maps.</summary>
    public int SharedRoot { get; private set; }

    /// <summary>Which page-table entries tell that a page was written: offsets from <see cref="GuestMap.Base"/> under both roots, and pool offset.</summary>
    public IReadOnlyList<(int First, int Second, int PoolOffset)> Watched { get; private set; } = [];

    /// <summary>Places of the entries of the first level, offsets from <see cref="GuestMap.Base"/>.</summary>
    public IReadOnlyList<int> Entries => _entries;

    /// <summary>Number of frames that a layout needs.</summary>
    public static int Needed(LayoutMap map, IReadOnlyList<ulong> extra) => Build(map, extra, 0)._frames.Count;

    /// <summary>Makes the tables.</summary>
    /// <param name="map">The pages.</param>
    /// <param name="extra">Addresses of the pages from <see cref="GuestMap.PortPages"/> on, under the kernel's root.</param>
    /// <param name="firstFrame">Machine frame number of the kernel's first page.</param>
    public static PageTables Build(LayoutMap map, IReadOnlyList<ulong> extra, ulong firstFrame)
    {
        PageTables tables = new(firstFrame);
        tables.UserRoot = tables.Allocate();
        tables.SharedRoot = tables.Allocate();
        List<(int, int, int)> watched = [];
        HashSet<ulong> different = [];
        foreach (LayoutMap.Page page in map.Pages)
        {
            if (page.Kernel != page.User)
            {
                different.Add(page.Address >> RegionShift);
            }
        }

        for (int i = 0; i < extra.Count; i++)
        {
            different.Add(extra[i] >> RegionShift);
            tables.MapAt(extra[i], user: false, GuestMap.PortPages + (i * PageLayout.PageSize), Present | Accessed);
        }

        foreach (LayoutMap.Page page in map.Pages)
        {
            // Where both roots are the same they share the last table, of which fewer have to be looked at.
            bool alike = !different.Contains(page.Address >> RegionShift);

            // Xen makes the guest's user pages global, so what the two roots have differently must be none.
            bool same = page.Kernel == page.User;
            int kernel = tables.Map(page, user: false, page.Kernel, same);
            if (alike)
            {
                tables.Share(page.Address);
            }

            int user = alike ? kernel : tables.Map(page, user: true, page.User, same);
            if (page.Writable)
            {
                watched.Add((kernel == 0 ? user : kernel, user == 0 ? kernel : user, page.Index * PageLayout.PageSize));
            }
        }

        foreach ((int index, ulong entry) in tables._kernelRoot)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(tables._frames[tables.SharedRoot].AsSpan(index * 8), entry);
        }

        tables.Watched = watched;
        return tables;
    }

    /// <summary>Maps one page.</summary>
    /// <returns>Where its entry lies, from <see cref="GuestMap.Base"/>; 0 when the root does not have it.</returns>
    private int Map(LayoutMap.Page page, bool user, PageAccess access, bool global)
    {
        if (access == PageAccess.None)
        {
            return 0;
        }

        ulong flags = Present | Accessed
            | (global ? User : 0)
            | ((access & PageAccess.Write) != 0 ? Writable : 0)
            | ((access & PageAccess.Execute) == 0 ? NoExecute : 0);
        return MapAt(page.Address, user, GuestMap.Pool + (page.Index * PageLayout.PageSize), flags);
    }

    private int MapAt(ulong address, bool user, int offset, ulong flags)
    {
        int table = TableFor(address, user, lastLevel: 2);
        int slot = (int)(address >> 12) & 0x1ff;
        BinaryPrimitives.WriteUInt64LittleEndian(_frames[table].AsSpan(slot * 8), Entry(offset, flags));
        int place = GuestMap.Tables + (table * PageLayout.PageSize) + (slot * 8);
        _entries.Add(place);
        return place;
    }

    /// <summary>Makes the user root use the kernel's table of the first level for a region.</summary>
    private void Share(ulong address)
    {
        int table = TableFor(address, user: true, lastLevel: 3);
        int index = (int)(address >> RegionShift) & 0x1ff;
        int shared = _tables[(false, 2, address >> RegionShift)];
        BinaryPrimitives.WriteUInt64LittleEndian(_frames[table].AsSpan(index * 8), Entry(GuestMap.Tables + (shared * PageLayout.PageSize), Table));
    }

    /// <summary>Walks down from a root, making the tables that are missing.</summary>
    private int TableFor(ulong address, bool user, int lastLevel)
    {
        int table = user ? UserRoot : -1;
        for (int level = Levels; level >= lastLevel; level--)
        {
            int shift = 12 + (9 * (level - 1));
            int index = (int)(address >> shift) & 0x1ff;
            if (!_tables.TryGetValue((user, level, address >> shift), out int next))
            {
                next = Allocate();
                _tables[(user, level, address >> shift)] = next;
                ulong entry = Entry(GuestMap.Tables + (next * PageLayout.PageSize), Table);
                if (table < 0)
                {
                    _kernelRoot[index] = entry;
                }
                else
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(_frames[table].AsSpan(index * 8), entry);
                }
            }

            table = next;
        }

        return table;
    }

    private ulong Entry(int offset, ulong flags) => ((_firstFrame << 12) + (ulong)offset) | flags;

    private int Allocate()
    {
        _frames.Add(new byte[PageLayout.PageSize]);
        return _frames.Count - 1;
    }
}
