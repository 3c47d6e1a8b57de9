using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <content>From case to case: layouts, contents, and the lines that were stored to.</content>
// SAFETY: each member says what keeps its pointers inside the frames.
internal sealed unsafe partial class GuestMemory
{
    private Line[] _lines = new Line[64];
    private MemoryWord[] _words = new MemoryWord[64];
    private int _lineCount;
    private PageLayout? _layout;

    /// <summary>Brings the memory to the initial state of a case.</summary>
    public void Load(TestCase testCase)
    {
        if (!ReferenceEquals(_layout, testCase.Layout))
        {
            if (!testCase.Layout.Equals(_layout))
            {
                Map(testCase.Layout);
            }

            _layout = testCase.Layout;
        }

        foreach (MemoryContents run in testCase.Contents)
        {
            Poke(run.Address, run.Bytes.AsSpan());
        }

        Poke(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
    }

    /// <summary>Lists what the case changed, in order of addresses, and returns every page to zero, ready for the next <see cref="Load(TestCase)"/>.</summary>
    public ImmutableArray<MemoryWord> Unload(TestCase testCase)
    {
        ImmutableArray<MemoryWord> changes = _lineCount == 0 ? [] : CollectChanges();
        if (_home is not null)
        {
            Use(_home);
        }

        foreach (MemoryContents run in testCase.Contents)
        {
            Clear(run.Address, run.Bytes.Length);
        }

        Clear(testCase.Code.Address, testCase.Code.Bytes.Length);
        return changes;
    }

    private void SaveLine(Page* page, int line)
    {
        ulong bit = 1UL << line;
        if ((page->SavedLines & bit) != 0)
        {
            return;
        }

        if (page->Other != null && IsSavedElsewhere(page, bit))
        {
            page->SavedLines |= bit;
            return;
        }

        page->SavedLines |= bit;
        if (_lineCount == _lines.Length)
        {
            Array.Resize(ref _lines, _lines.Length * 2);
        }

        // SAFETY: line is 0 to 63, so that the 64 bytes lie in the page's frame.
        ref Line saved = ref _lines[_lineCount++];
        saved.Address = (page->Number << 12) + ((uint)line * LineSize);
        saved.Page = page;
        saved.Host = (ulong*)(page->Host + (line * LineSize));
        new ReadOnlySpan<ulong>(saved.Host, LineWords.Length).CopyTo(saved.Words);
    }

    /// <summary>Orders lines by address: by insertion, since most cases store to a few lines, and a call to compare two costs more than the comparison.</summary>
    private static void Sort(Span<Line> lines)
    {
        const int few = 16;
        if (lines.Length > few)
        {
            lines.Sort(static (left, right) => left.Address.CompareTo(right.Address));
            return;
        }

        for (int i = 1; i < lines.Length; i++)
        {
            for (int at = i; at > 0 && lines[at].Address < lines[at - 1].Address; at--)
            {
                (lines[at], lines[at - 1]) = (lines[at - 1], lines[at]);
            }
        }
    }

    /// <summary>One bit for each word that differs, the lowest for the first.</summary>
    private static uint Differences(ulong* now, in LineWords before)
    {
        // SAFETY: both are whole lines of 64 bytes.
        Vector512<ulong> saved = Vector512.Create((ReadOnlySpan<ulong>)before);
        return (uint)(~Vector512.Equals(Vector512.Load(now), saved)).ExtractMostSignificantBits();
    }

    private ImmutableArray<MemoryWord> CollectChanges()
    {
        Span<Line> lines = _lines.AsSpan(0, _lineCount);
        Sort(lines);
        if (_words.Length < lines.Length * LineWords.Length)
        {
            _words = new MemoryWord[lines.Length * LineWords.Length * 2];
        }

        int count = 0;
        foreach (ref Line line in lines)
        {
            // SAFETY: SaveLine took Host and Page from a page that is mapped until the case ends.
            ulong* now = line.Host;
            for (uint differing = Differences(now, in line.Words); differing != 0; differing &= differing - 1)
            {
                int i = BitOperations.TrailingZeroCount(differing);
                _words[count] = new MemoryWord(line.Address + ((ulong)i * sizeof(ulong)), now[i]);
                count += (line.Page->Access & Unlisted) == 0 ? 1 : 0;
                now[i] = line.Words[i];
            }

            line.Page->SavedLines = 0;
            if (line.Page->Other != null)
            {
                ForgetSavedElsewhere(line.Page);
            }
        }

        _lineCount = 0;
        return ImmutableArray.Create<MemoryWord>(_words.AsSpan(0, count));
    }

    [SuppressMessage("Reliability", "CA2020", Justification = "Page counts are small.")]
    private void Map(PageLayout layout)
    {
        // SAFETY: one frame for each present page, all in one block; room for as many overflow pages.
        NativeMemory.AlignedFree(_frames);
        NativeMemory.AlignedFree(_extra);
        FreeViews();
        _overflow.Clear();
        Vacate(_table);
        int present = 0;
        foreach (PageRange range in layout.Ranges)
        {
            present += range.Access == PageAccess.None ? 0 : range.Pages;
        }

        nuint frames = (nuint)Math.Max(present, 1);
        _frames = (byte*)NativeMemory.AlignedAlloc(frames * PageSize, PageSize);
        _extra = (Page*)NativeMemory.AlignedAlloc(frames * (nuint)sizeof(Page), LineSize);
        NativeMemory.Clear(_frames, frames * PageSize);
        byte* next = _frames;
        foreach (PageRange range in layout.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++, next += PageSize)
            {
                Add((range.Address >> 12) + (uint)i, range.Access, next);
            }
        }
    }

    private void Add(ulong number, PageAccess access, byte* host)
    {
        // SAFETY: _extra has room for every page of the layout, and each is added once.
        Page* page = _table + Slot(number);
        if (page->Number != ulong.MaxValue)
        {
            page = _extra + _overflow.Count;
            _overflow.Add(number, (nint)page);
        }

        bool user = (access & PageAccess.Supervisor) == 0;
        bool reads = user && (access & PageAccess.Read) != 0;
        bool writes = user && (access & (PageAccess.Write | PageAccess.Execute | HoldsCode)) == PageAccess.Write;
        *page = new Page
        {
            Number = number,
            Host = host,
            Access = access,
            ReadTag = reads ? number : ulong.MaxValue,
            WriteTag = reads && writes ? number : ulong.MaxValue,
            FetchTag = user && (access & PageAccess.Execute) != 0 ? number : ulong.MaxValue,
        };
    }

    private static void Vacate(Page* table)
    {
        // SAFETY: the table has TableEntries entries.
        for (int i = 0; i < TableEntries; i++)
        {
            table[i] = new Page { Number = ulong.MaxValue, ReadTag = ulong.MaxValue, WriteTag = ulong.MaxValue, FetchTag = ulong.MaxValue };
        }
    }

    private void Poke(ulong address, ReadOnlySpan<byte> bytes)
    {
        // SAFETY: TestCase.Check has found every byte of contents and code in a present page; a part ends at its page's end.
        while (!bytes.IsEmpty)
        {
            int offset = (int)(address & (PageSize - 1));
            int length = Math.Min(bytes.Length, PageSize - offset);
            bytes[..length].CopyTo(new Span<byte>(FindAnywhere(address >> 12)->Host + offset, length));
            bytes = bytes[length..];
            address += (uint)length;
        }
    }

    private void Clear(ulong address, int length)
    {
        // SAFETY: as in Poke.
        while (length > 0)
        {
            int offset = (int)(address & (PageSize - 1));
            int part = Math.Min(length, PageSize - offset);
            new Span<byte>(FindAnywhere(address >> 12)->Host + offset, part).Clear();
            length -= part;
            address += (uint)part;
        }
    }

    /// <summary>A line as it was when the case began.</summary>
    private struct Line
    {
        public ulong Address;
        public Page* Page;
        public ulong* Host;
        public LineWords Words;
    }

    [InlineArray(Length)]
    private struct LineWords
    {
        public const int Length = LineSize / sizeof(ulong);

        private ulong _first;
    }
}
