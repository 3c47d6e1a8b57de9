using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>What code that runs under a view may do beside what the pages say.</summary>
[Flags]
internal enum ViewRights
{
    /// <summary>User code: supervisor pages are refused.</summary>
    User = 0,

    /// <summary>Supervisor pages can be used as others.</summary>
    SupervisorPages = 1,

    /// <summary>The code counts as supervisor code: error codes have U clear.</summary>
    SupervisorCode = 2,

    /// <summary>Pages that are not supervisor pages are not executable (SMEP).</summary>
    NoUserFetch = 4,
}

/// <content>Several views of the same frames: page tables that differ in pages or in rights, between which a switch costs a few stores.</content>
// SAFETY: tables and overflow pages of a view are allocated by Build, hold only frames of this memory, and are released by FreeViews before the frames are.
internal sealed unsafe partial class GuestMemory
{
    private const int ViewKinds = 8;

    /// <summary>Views by layout (first, second) and rights; null until one is selected. Empty while there is one view, which <see cref="Map"/> has made.</summary>
    private readonly View?[] _views = new View?[2 * ViewKinds];
    private readonly Dictionary<ulong, nint> _hosts = [];
    private PageLayout? _secondLayout;
    private bool _oneLayout;
    private ulong? _privatePage;
    private byte* _private;
    private View? _home;
    private View? _view;

    /// <summary>The private page of <see cref="Load(TestCase, PageLayout, PageLayout, ulong?)"/>, all 4096 bytes. What is stored here needs no putting back.</summary>
    public Span<byte> Private => new(_private, PageSize);

    /// <summary>Brings the memory to the initial state of a case with two layouts over the same frames. A view has to be selected next.</summary>
    /// <param name="testCase">The case; its contents and code lie in pages of either layout.</param>
    /// <param name="first">One layout.</param>
    /// <param name="second">The other; the same instance when there is one only. A page that both have is one page of memory.</param>
    /// <param name="privatePage">Address of a writable supervisor page that the first layout has beside its own, whose changes are not listed; null for none.</param>
    public void Load(TestCase testCase, PageLayout first, PageLayout second, ulong? privatePage)
    {
        bool one = ReferenceEquals(first, second);
        if (!ReferenceEquals(_layout, first) || !ReferenceEquals(_secondLayout, second) || _privatePage != privatePage || _home is null)
        {
            if (!first.Equals(_layout) || !second.Equals(_secondLayout) || one != _oneLayout || _privatePage != privatePage || _home is null)
            {
                MapFrames(first, second, privatePage);
            }

            _oneLayout = one;
            _layout = first;
            _secondLayout = second;
            _privatePage = privatePage;
            _home = ViewOf(0, ViewRights.SupervisorPages | ViewRights.SupervisorCode);
        }

        Use(_home);
        foreach (MemoryContents run in testCase.Contents)
        {
            Poke(run.Address, run.Bytes.AsSpan());
        }

        Poke(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
    }

    /// <summary>Switches to a view.</summary>
    /// <param name="layout">0 for the first layout, 1 for the second.</param>
    /// <param name="rights">What the code that runs may do.</param>
    public void Select(int layout, ViewRights rights) => Use(ViewOf(layout, rights));

    private View ViewOf(int layout, ViewRights rights)
    {
        int index = (layout * ViewKinds) + (int)rights;
        return _views[index] ??= Build(layout == 0 ? _layout! : _secondLayout!, rights, index);
    }

    /// <summary>A page that some view has; null when none has it.</summary>
    private Page* FindAnywhere(ulong number)
    {
        Page* page = Find(number);
        return page != null || _home is null ? page : FindInOthers(number);
    }

    private Page* FindInOthers(ulong number)
    {
        Page* found = null;
        for (int layout = 0; layout < 2 && found == null; layout++)
        {
            found = Find(ViewOf(layout, layout == 0 ? ViewRights.SupervisorPages | ViewRights.SupervisorCode : ViewRights.User), number);
        }

        return found;
    }

    private void Use(View view)
    {
        if (ReferenceEquals(view, _view))
        {
            return;
        }

        // What was decoded under another view may not be executable here, or not be there at all. Back under this one it is good again.
        CodeVersion = (CodeVersion & ~(CodeStep - 1)) | (uint)view.Index;
        _view = view;
        _table = view.Table;
        _extra = view.Extra;
        _overflow = view.Overflow;
        UserBit = (view.Rights & ViewRights.SupervisorCode) == 0 ? PageFault.User : 0;
    }

    [SuppressMessage("Reliability", "CA2020", Justification = "Page counts are small.")]
    private void MapFrames(PageLayout first, PageLayout second, ulong? privatePage)
    {
        // SAFETY: one frame for each page that either layout has, and one for the private page, all in one block.
        FreeViews();
        NativeMemory.AlignedFree(_frames);
        NativeMemory.AlignedFree(_table);
        NativeMemory.AlignedFree(_extra);
        _layout = first;
        _secondLayout = second;
        _privatePage = privatePage;
        foreach (PageRange range in first.Ranges.AddRange(second.Ranges))
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                _hosts.TryAdd((range.Address >> 12) + (uint)i, _hosts.Count);
            }
        }

        nuint bytes = (nuint)(_hosts.Count + 1) * PageSize;
        _frames = (byte*)NativeMemory.AlignedAlloc(bytes, PageSize);
        NativeMemory.Clear(_frames, bytes);
        foreach (ulong number in _hosts.Keys.ToArray())
        {
            _hosts[number] = (nint)(_frames + (_hosts[number] * PageSize));
        }

        _private = _frames + ((nuint)_hosts.Count * PageSize);
    }

    private View Build(PageLayout layout, ViewRights rights, int index)
    {
        // SAFETY: the overflow block has room for every page of the layout and the private one.
        View? now = _view;
        int pages = 1;
        foreach (PageRange range in layout.Ranges)
        {
            pages += range.Pages;
        }

        View view = new(rights, index)
        {
            Table = (Page*)NativeMemory.AlignedAlloc((nuint)(TableEntries * sizeof(Page)), LineSize),
            Extra = (Page*)NativeMemory.AlignedAlloc((nuint)(pages * sizeof(Page)), LineSize),
        };
        Vacate(view.Table);
        _table = view.Table;
        _extra = view.Extra;
        _overflow = view.Overflow;
        foreach (PageRange range in layout.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                ulong number = (range.Address >> 12) + (uint)i;
                Add(number, Effective(range.Access, rights) | (IsCode(number) ? HoldsCode : PageAccess.None), (byte*)_hosts[number]);
            }
        }

        if (_privatePage is ulong page && (index < ViewKinds || _oneLayout))
        {
            Add(page >> 12, Effective(PageAccess.Read | PageAccess.Write | PageAccess.Supervisor, rights) | Unlisted, _private);
        }

        Link(view, layout);
        _view = null;
        if (now is not null)
        {
            Use(now);
        }

        return view;
    }

    /// <summary>Rights under a view; a page that cannot be used keeps its supervisor mark.</summary>
    private static PageAccess Effective(PageAccess access, ViewRights rights)
    {
        if ((rights & ViewRights.NoUserFetch) != 0 && (access & PageAccess.Supervisor) == 0)
        {
            access &= ~PageAccess.Execute;
        }

        return (rights & ViewRights.SupervisorPages) != 0 ? access & ~PageAccess.Supervisor : access;
    }

    private bool IsCode(ulong number) => ((_layout!.AccessAt(number << 12) | _secondLayout!.AccessAt(number << 12)) & PageAccess.Execute) != 0;

    /// <summary>Puts the pages of a new view into the rings of their frames.</summary>
    private void Link(View view, PageLayout layout)
    {
        // SAFETY: all pages are those of live views; a ring holds the pages of one frame.
        foreach (View? other in _views)
        {
            if (other is null)
            {
                continue;
            }

            foreach (PageRange range in layout.Ranges)
            {
                for (int i = 0; i < range.Pages; i++)
                {
                    ulong number = (range.Address >> 12) + (uint)i;
                    Join(Find(view, number), Find(other, number));
                }
            }

            if (_privatePage is ulong page)
            {
                Join(Find(view, page >> 12), Find(other, page >> 12));
            }
        }
    }

    private static void Join(Page* mine, Page* theirs)
    {
        // SAFETY: both are null or pages of live views.
        if (mine == null || theirs == null || mine->Other != null)
        {
            return;
        }

        mine->SavedLines = theirs->SavedLines;
        mine->Other = theirs->Other == null ? theirs : theirs->Other;
        theirs->Other = mine;
    }

    private static Page* Find(View view, ulong number)
    {
        // SAFETY: the view is live.
        Page* page = view.Table + Slot(number);
        return page->Number == number ? page : view.Overflow.TryGetValue(number, out nint found) ? (Page*)found : null;
    }

    private static bool IsSavedElsewhere(Page* page, ulong bit)
    {
        // SAFETY: a ring holds pages of live views.
        for (Page* other = page->Other; other != page; other = other->Other)
        {
            if ((other->SavedLines & bit) != 0)
            {
                return true;
            }
        }

        return false;
    }

    private static void ForgetSavedElsewhere(Page* page)
    {
        // SAFETY: as in IsSavedElsewhere.
        for (Page* other = page->Other; other != page; other = other->Other)
        {
            other->SavedLines = 0;
        }
    }

    /// <summary>Releases all views but leaves a table, so that <see cref="Map"/> can go on.</summary>
    private void FreeViews()
    {
        // SAFETY: the tables of views were allocated by Build; the current one is among them if there is any.
        if (_home is null)
        {
            return;
        }

        foreach (View? view in _views)
        {
            if (view is not null)
            {
                NativeMemory.AlignedFree(view.Table);
                NativeMemory.AlignedFree(view.Extra);
            }
        }

        Array.Clear(_views);
        _hosts.Clear();
        _home = null;
        _view = null;
        _secondLayout = null;
        _private = null;
        UserBit = PageFault.User;
        _overflow = [];
        _extra = null;
        _table = (Page*)NativeMemory.AlignedAlloc((nuint)(TableEntries * sizeof(Page)), LineSize);
        Vacate(_table);
    }

    /// <summary>A page table.</summary>
    private sealed class View(ViewRights rights, int index)
    {
        /// <summary>Its place among the views.</summary>
        public int Index { get; } = index;

        /// <summary>What its code may do.</summary>
        public ViewRights Rights { get; } = rights;

        /// <summary>The direct-mapped part.</summary>
        public Page* Table { get; init; }

        /// <summary>Room for the rest.</summary>
        public Page* Extra { get; init; }

        /// <summary>Where in it a page is.</summary>
        public Dictionary<ulong, nint> Overflow { get; } = [];
    }
}
