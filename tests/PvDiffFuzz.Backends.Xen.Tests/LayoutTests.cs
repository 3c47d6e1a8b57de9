using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>Pages of cases in the pool, and their page tables.</summary>
public sealed class LayoutTests
{
    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;
    private const ulong FirstFrame = 0x8000;

    private static readonly PageLayout Kernel = PageLayout.Create([new(0x40_0000, 1, PageAccess.Read | PageAccess.Execute), new(0x40_2000, 1, ReadWrite), new(0x40_4000, 1, ReadWrite)]);
    private static readonly PageLayout User = PageLayout.Create([new(0x40_2000, 1, PageAccess.Read), new(0x40_6000, 1, ReadWrite)]);

    /// <summary>A page that both roots have is one page; those that can be written come first.</summary>
    [Fact]
    public void PagesOfBothRootsShareThePool()
    {
        LayoutMap map = LayoutMap.Create(Kernel, User);

        Assert.Equal(3, map.WritablePages);
        Assert.Equal([0x40_0000UL, 0x40_2000, 0x40_4000, 0x40_6000], map.Pages.ToArray().Select(p => p.Address));
        Assert.Equal([3, 0, 1, 2], map.Pages.ToArray().Select(p => p.Index));
        Assert.Equal(0x1008, map.OffsetOf(0x40_4008));
        Assert.Equal(-1, map.OffsetOf(0x40_1000));
        Assert.Equal(0x40_4000UL, map.AddressOf(0x1ff8));
        Assert.Equal([true, true, false, false, false], new uint[] { 0, 0x3000, 0x4000, 0x1008, 0xffff_f000 }.Select(map.HasPageAt));
    }

    /// <summary>The entry of the read-only page: the pool's frame, present, not writable, not executable under the user root; and the walk from the root to it.</summary>
    [Fact]
    public void TablesHaveTheRightsOfTheirRoot()
    {
        LayoutMap map = LayoutMap.Create(Kernel, User);

        PageTables tables = PageTables.Build(map, [], FirstFrame);

        ulong pool = (FirstFrame << 12) + GuestMap.Pool;
        ulong kernel = Walk(tables, tables.KernelRoot[0], 0x40_2000);
        ulong user = Walk(tables, EntryOf(tables, tables.UserRoot, 0), 0x40_2000);
        Assert.Equal(pool, kernel & 0x000f_ffff_ffff_f000);
        Assert.Equal(kernel & 0x000f_ffff_ffff_f000, user & 0x000f_ffff_ffff_f000);
        Assert.Equal((3UL, 1UL), (kernel & 3, user & 3));
        Assert.Equal(1UL, user >> 63);
        Assert.Equal(0UL, Walk(tables, EntryOf(tables, tables.UserRoot, 0), 0x40_4000));
        Assert.Equal(tables.KernelRoot[0], EntryOf(tables, tables.SharedRoot, 0));
    }

    /// <summary>Xen makes pages with the U bit global. What the roots have differently must not be, or the wrong rights would stay in the TLB.</summary>
    [Fact]
    public void PagesThatDifferAreNotGlobal()
    {
        const ulong userBit = 4;
        PageLayout same = PageLayout.Create([new(0x40_0000, 1, ReadWrite), new(0x40_2000, 1, ReadWrite)]);
        PageLayout other = PageLayout.Create([new(0x40_0000, 1, ReadWrite), new(0x40_2000, 1, PageAccess.Read)]);

        PageTables tables = PageTables.Build(LayoutMap.Create(same, other), [], FirstFrame);

        Assert.Equal(userBit, Walk(tables, tables.KernelRoot[0], 0x40_0000) & userBit);
        Assert.Equal(0UL, Walk(tables, tables.KernelRoot[0], 0x40_2000) & userBit);
    }

    [Theory]
    [InlineData(AddressMap.AgentFirst, "the target's agent")]
    public void PagesThatAGuestCannotHaveAreNamed(ulong address, string reason)
    {
        PageLayout layout = PageLayout.Create([new(address, 1, ReadWrite)]);

        Assert.Contains(reason, LayoutMap.Trouble(layout, layout, PortPlan.None), StringComparison.Ordinal);
    }

    [Fact]
    public void TheLayoutsOfGeneratedCasesFit() =>
        Assert.Null(LayoutMap.Trouble(XenMap.KernelLayout(Abi.XenPv64), XenMap.UserLayout(Abi.XenPv64)!, PortPlan.None));

    /// <summary>The usual table needs no pages; one at another base needs that page and a callback's, and what is in the way is named.</summary>
    [Fact]
    public void EntriesElsewhereNeedPagesOfTheirOwn()
    {
        const ulong elsewhere = 0xffff_ffff_8010_2000;
        LayoutMap map = LayoutMap.Create(Kernel, User);
        PortPlan usual = PortPlan.Of(new XenState(XenMap.Traps, []));
        PortPlan other = PortPlan.Of(new XenState(XenTrapTable.At(elsewhere, XenMap.FlatCode64), [new XenCallback(XenCallbackKind.Event, false, XenMap.FlatCode64, elsewhere + 0x1000)]));
        PortPlan inTheWay = PortPlan.Of(new XenState(XenTrapTable.At(0x40_2000, XenMap.FlatCode64), []));

        Assert.True(usual.IsEmpty);
        Assert.Equal([elsewhere, elsewhere + 0x1000], other.Pages);
        Assert.Null(other.Trouble(map));
        Assert.Equal(elsewhere + 0x2000, other.Annex(map));
        Assert.Contains("402000", inTheWay.Trouble(map), StringComparison.Ordinal);
    }

    private static ulong EntryOf(PageTables tables, int frame, int index) => BinaryPrimitives.ReadUInt64LittleEndian(tables.Frames[frame].AsSpan(index * 8));

    private static ulong Walk(PageTables tables, ulong entry, ulong address)
    {
        for (int shift = 30; shift >= 12; shift -= 9)
        {
            if ((entry & 1) == 0)
            {
                return 0;
            }

            int frame = (int)((((entry & 0x000f_ffff_ffff_f000) >> 12) - FirstFrame - (GuestMap.Tables / PageLayout.PageSize)));
            entry = EntryOf(tables, frame, (int)(address >> shift) & 0x1ff);
        }

        return entry;
    }
}
