using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Builds four-level page tables in the guest's memory (SDM vol.3A 4.5). Accessed and dirty bits are set beforehand, so that no walk writes to them.</summary>
/// <param name="memory">The guest's memory from physical address 0 on.</param>
internal ref struct PageTables(Span<byte> memory)
{
    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong User = 4;
    private const ulong AccessedDirty = 0x60;
    private const ulong NoExecute = 1UL << 63;
    private const ulong AddressBits = 0x000f_ffff_ffff_f000;
    private const int Levels = 4;

    private readonly Span<byte> _memory = memory;
    private int _next = GuestMap.Tables;

    /// <summary>End of the tables that were made.</summary>
    public readonly int End => _next;

    /// <summary>Tables that there is room for, besides the roots.</summary>
    public const int Available = (GuestMap.TablesEnd - GuestMap.Tables) / PageLayout.PageSize;

    /// <summary>Counts the tables that layouts need at most, with what the agent needs.</summary>
    public static int Needed(params ReadOnlySpan<PageLayout> layouts)
    {
        const int agents = 32;
        int count = agents;
        foreach (PageLayout layout in layouts)
        {
            HashSet<ulong> tables = [];
            foreach (PageRange range in layout.Ranges)
            {
                for (ulong block = range.Address >> 21; block <= range.Last >> 21; block++)
                {
                    tables.Add(block);
                    tables.Add((block >> 9) | (1UL << 62));
                    tables.Add((block >> 18) | (1UL << 63));
                }
            }

            count += tables.Count;
        }

        return count;
    }

    /// <summary>Rights of an entry that maps a page.</summary>
    public static ulong Rights(PageAccess access) =>
        ((access & PageAccess.Supervisor) != 0 ? 0 : User) | ((access & PageAccess.Write) != 0 ? Writable : 0) | ((access & PageAccess.Execute) != 0 ? 0 : NoExecute);

    /// <summary>Maps all pages of a layout.</summary>
    /// <param name="root">Physical address of the top table.</param>
    /// <param name="layout">Pages with their rights.</param>
    /// <param name="pages">Where they lie in the pool.</param>
    public void Map(int root, PageLayout layout, CasePages pages)
    {
        foreach (PageRange range in layout.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                ulong address = range.Address + ((ulong)i * PageLayout.PageSize);
                Map(root, address, GuestMap.Pool + (pages.IndexOf(address) * PageLayout.PageSize), range.Access);
            }
        }
    }

    /// <summary>Maps a page. Tables above are made when missing; rights are decided at the end.</summary>
    /// <param name="root">Physical address of the top table.</param>
    /// <param name="linear">Linear address.</param>
    /// <param name="physical">Physical address.</param>
    /// <param name="access">Rights.</param>
    /// <exception cref="InvalidOperationException">There is no room for a table: the layouts were not counted.</exception>
    public void Map(int root, ulong linear, int physical, PageAccess access)
    {
        int table = root;
        for (int level = Levels - 1; level > 0; level--)
        {
            Span<byte> above = Entry(table, linear, level);
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(above);
            if (value == 0)
            {
                if (_next >= GuestMap.TablesEnd)
                {
                    throw new InvalidOperationException("the layouts were not counted: no room for page tables");
                }

                value = (uint)_next | Present | Writable | User | AccessedDirty;
                BinaryPrimitives.WriteUInt64LittleEndian(above, value);
                _next += PageLayout.PageSize;
            }

            table = (int)(value & AddressBits);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(Entry(table, linear, 0), (uint)physical | Rights(access) | Present | AccessedDirty);
    }

    private readonly Span<byte> Entry(int table, ulong linear, int level) => _memory.Slice(table + ((int)((linear >> (12 + (9 * level))) & 0x1ff) * sizeof(ulong)), sizeof(ulong));
}
