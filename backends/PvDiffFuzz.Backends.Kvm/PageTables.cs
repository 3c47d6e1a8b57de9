using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Builds four-level page tables in the guest's memory (SDM vol.3A 4.5). Accessed and dirty bits are set beforehand, so that no walk writes to them.</summary>
internal unsafe ref struct PageTables
{
    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong User = 4;
    private const ulong AccessedDirty = 0x60;
    private const ulong Large = 0x80;
    private const ulong NoExecute = 1UL << 63;
    private const ulong AddressBits = 0x000f_ffff_ffff_f000;
    private const int LargeSize = 0x20_0000;

    private readonly byte* _memory;
    private int _next;

    private PageTables(byte* memory)
    {
        _memory = memory;
        _next = GuestMap.Tables + PageLayout.PageSize;
    }

    /// <summary>Counts the tables that a layout needs at most.</summary>
    public static int Needed(PageLayout layout)
    {
        HashSet<ulong> tables = [];
        foreach (PageRange range in layout.Ranges)
        {
            for (ulong at = range.Address & ~(ulong)(LargeSize - 1); at <= range.Last && at >= (range.Address & ~(ulong)(LargeSize - 1)); at += LargeSize)
            {
                tables.Add((at >> 21) + 1);
                tables.Add((at >> 30) | (1UL << 62));
                tables.Add((at >> 39) | (1UL << 63));
            }
        }

        return tables.Count;
    }

    /// <summary>Tables that are left for the pages of a case.</summary>
    public const int Available = (GuestMap.TablesSize / PageLayout.PageSize) - 16;

    /// <summary>Writes the tables for the agent and, when there is one, a layout.</summary>
    /// <param name="memory">The guest's memory; the room for tables is cleared first.</param>
    /// <param name="layout">A layout that <see cref="Needed"/> no more than <see cref="Available"/> tables, or null.</param>
    public static void Write(byte* memory, LayoutMap? layout)
    {
        // SAFETY: the room for tables lies in the guest's memory, and the caller has counted.
        new Span<byte>(memory + GuestMap.Tables, GuestMap.TablesSize).Clear();
        PageTables tables = new(memory);
        tables.MapAgent();
        foreach (LayoutMap.Range range in layout is null ? [] : layout.Ranges)
        {
            ulong rights = (range.Access & PageAccess.Supervisor) != 0 ? 0 : User;
            rights |= (range.Access & PageAccess.Write) != 0 ? Writable : 0;
            rights |= (range.Access & PageAccess.Execute) != 0 ? 0 : NoExecute;
            for (ulong at = range.First; at <= range.Last && at >= range.First; at += PageLayout.PageSize)
            {
                tables.Map(at, GuestMap.Pool + range.PoolOffset + (at - range.First), rights);
            }
        }
    }

    private void MapAgent()
    {
        const ulong userData = User | Writable | NoExecute;
        MapOwn(GuestMap.Gdt, 1, Writable | NoExecute);
        MapOwn(GuestMap.SingleIdt, 2, NoExecute);
        MapOwn(GuestMap.Tss, 2, Writable | NoExecute);
        MapOwn(GuestMap.SingleStubs, 2, 0);
        MapOwn(GuestMap.SingleLanding, 1, User);
        MapOwn(GuestMap.Frames, 4, User | NoExecute);
        MapOwn(GuestMap.MailboxPage, 1, userData);
        MapOwn(GuestMap.Agent, GuestMap.AgentSize / PageLayout.PageSize, User);
        for (int at = GuestMap.Request; at < GuestMap.Size; at += LargeSize)
        {
            *Entry(GuestMap.Base + (ulong)at, 1) = (uint)at | (at < GuestMap.Results ? User | NoExecute : userData) | Present | AccessedDirty | Large;
        }

        Map(GuestMap.Base + GuestMap.Ring0View, GuestMap.Ring0Stack, User | NoExecute);
        Map(GuestMap.Base + GuestMap.Doorbell, GuestMap.DoorbellPhysical, userData);
    }

    private void MapOwn(int offset, int pages, ulong rights)
    {
        for (int i = 0; i < pages; i++)
        {
            Map(GuestMap.Base + (ulong)(offset + (i * PageLayout.PageSize)), (ulong)(offset + (i * PageLayout.PageSize)), rights);
        }
    }

    private void Map(ulong linear, ulong physical, ulong rights) => *Entry(linear, 0) = physical | rights | Present | AccessedDirty;

    /// <summary>The entry for an address: level 0 maps 4 KiB, level 1 maps 2 MiB. Tables above are made when missing; rights are decided at the end.</summary>
    private ulong* Entry(ulong linear, int level)
    {
        int table = GuestMap.Tables;
        for (int at = 3; ; at--)
        {
            // SAFETY: tables lie in the room for tables, and an index has nine bits.
            ulong* entry = (ulong*)(_memory + table) + ((linear >> (12 + (9 * at))) & 0x1ff);
            if (at == level)
            {
                return entry;
            }

            if (*entry == 0)
            {
                if (_next >= GuestMap.Tables + GuestMap.TablesSize)
                {
                    throw new InvalidOperationException("the layout was not counted: no room for page tables");
                }

                *entry = (ulong)_next | Present | Writable | User | AccessedDirty;
                _next += PageLayout.PageSize;
            }

            table = (int)(*entry & AddressBits);
        }
    }
}
