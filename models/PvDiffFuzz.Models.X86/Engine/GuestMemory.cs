using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>What an access wants to do, as bits of the page-fault error code.</summary>
internal static class PageFault
{
    public const uint Present = 1;
    public const uint Write = 2;
    public const uint User = 4;
    public const uint Fetch = 16;
    public const uint Key = 32;
}

/// <summary>The pages of a case in native memory, with a direct-mapped cache in front, so that a hit costs a compare and an offset test.</summary>
/// <remarks>
/// The layout of the last case stays loaded. Each page has a copy that always holds its initial contents; the end of a case compares the
/// written pages with theirs and restores the words that differ.
/// Addresses here are linear and canonical: who calls checks that first.
/// </remarks>
internal sealed unsafe class GuestMemory : IDisposable
{
    private const int PageSize = PageLayout.PageSize;
    private const int CacheEntries = 256;

    private readonly Dictionary<ulong, int> _pageAt = [];
    private readonly CacheEntry* _cache;
    private Page[] _pages = [];
    private int[] _dirty = [];
    private int _dirtyCount;
    private byte* _frames;
    private byte* _fetchHost;
    private ulong _fetchTag = ulong.MaxValue;
    private PageLayout? _layout;

    /// <summary>An empty address space.</summary>
    public GuestMemory()
    {
        // SAFETY: freed in Dispose; the size covers exactly CacheEntries entries, cleared before use.
        _cache = (CacheEntry*)NativeMemory.AlignedAlloc((nuint)(CacheEntries * sizeof(CacheEntry)), 64);
        ClearCache();
    }

    /// <summary>Counts stores to executable pages; a predecoded instruction is stale when it changes.</summary>
    public uint CodeVersion { get; private set; }

    /// <summary>Applies to the addresses of an access's second page: all ones, or 0xffffffff in compatibility mode, where linear addresses wrap.</summary>
    public ulong Mask { get; set; } = ulong.MaxValue;

    /// <summary>Makes every predecoded instruction stale: the mode changes, and so does what bytes mean.</summary>
    public void ForgetCode() => CodeVersion++;

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

    /// <summary>Lists what the case changed and returns every page to zero, ready for the next <see cref="Load"/>.</summary>
    public ImmutableArray<MemoryWord> Unload(TestCase testCase)
    {
        ImmutableArray<MemoryWord> changes = [];
        if (_dirtyCount > 0)
        {
            Span<int> dirty = _dirty.AsSpan(0, _dirtyCount);
            dirty.Sort();
            List<MemoryWord>? words = null;
            foreach (int index in dirty)
            {
                CollectChanges(index, ref words);
            }

            _dirtyCount = 0;
            changes = words is null ? [] : [.. words];
        }

        foreach (MemoryContents run in testCase.Contents)
        {
            Clear(run.Address, run.Bytes.Length);
        }

        Clear(testCase.Code.Address, testCase.Code.Bytes.Length);
        return changes;
    }

    /// <summary>Loads a value.</summary>
    /// <param name="address">Canonical linear address, any alignment.</param>
    /// <param name="value">The value; default on failure.</param>
    /// <param name="cr2">On failure, the first byte that could not be read.</param>
    /// <param name="error">On failure, the error code.</param>
    /// <returns>False when the access must raise #PF.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryRead<T>(ulong address, out T value, out ulong cr2, out uint error)
        where T : unmanaged
    {
        // SAFETY: a matching tag means that Host points at a mapped 4096-byte frame, and the offset test keeps the access inside it.
        CacheEntry* entry = _cache + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (entry->ReadTag == address >> 12 && offset <= PageSize - (uint)sizeof(T))
        {
            value = Unsafe.ReadUnaligned<T>(entry->Host + offset);
            cr2 = 0;
            error = 0;
            return true;
        }

        Unsafe.SkipInit(out value);
        return SlowRead(address, new Span<byte>(Unsafe.AsPointer(ref value), sizeof(T)), out cr2, out error);
    }

    /// <summary>Stores a value.</summary>
    /// <inheritdoc cref="TryRead" path="/param"/>
    /// <returns>False when the access must raise #PF; nothing is stored then.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryWrite<T>(ulong address, T value, out ulong cr2, out uint error)
        where T : unmanaged
    {
        // SAFETY: as in TryRead; write tags exist only for writable pages that are on the list of written ones.
        CacheEntry* entry = _cache + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (entry->WriteTag == address >> 12 && offset <= PageSize - (uint)sizeof(T))
        {
            Unsafe.WriteUnaligned(entry->Host + offset, value);
            cr2 = 0;
            error = 0;
            return true;
        }

        return SlowWrite(address, new ReadOnlySpan<byte>(&value, sizeof(T)), out cr2, out error);
    }

    /// <summary>Loads a value from a page that was written before in this case, so that a store cannot fail.</summary>
    /// <returns>False when nothing can be said: take the checked way.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadWritable<T>(ulong address, out T value)
        where T : unmanaged
    {
        // SAFETY: as in TryWrite.
        CacheEntry* entry = _cache + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (entry->WriteTag == address >> 12 && offset <= PageSize - (uint)sizeof(T))
        {
            value = Unsafe.ReadUnaligned<T>(entry->Host + offset);
            return true;
        }

        Unsafe.SkipInit(out value);
        return false;
    }

    /// <summary>Loads a value that <see cref="TryRead"/> refuses although <see cref="CanRead"/> allows it: one that wraps at 4 GiB.</summary>
    /// <returns>True.</returns>
    public bool ReadAround<T>(ulong address, out T value)
        where T : unmanaged
    {
        Span<byte> bytes = stackalloc byte[sizeof(T)];
        Read(address, bytes);
        value = MemoryMarshal.Read<T>(bytes);
        return true;
    }

    /// <summary>Stores a value that <see cref="TryWrite"/> refuses although <see cref="CanWrite"/> allows it: one that wraps at 4 GiB.</summary>
    /// <returns>True.</returns>
    public bool WriteAround<T>(ulong address, T value)
        where T : unmanaged
    {
        Write(address, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));
        return true;
    }

    /// <summary>Tells whether a store of some bytes would succeed, without storing.</summary>
    /// <param name="address">Canonical linear address.</param>
    /// <param name="bytes">Length of the access, 1 to 4096.</param>
    /// <param name="cr2">On failure, the first byte that could not be written.</param>
    /// <param name="error">On failure, the error code.</param>
    public bool CanWrite(ulong address, int bytes, out ulong cr2, out uint error) => Check(address, bytes, PageAccess.Write, PageFault.Write, out cr2, out error);

    /// <summary>Tells whether a load of some bytes would succeed.</summary>
    /// <inheritdoc cref="CanWrite" path="/param"/>
    public bool CanRead(ulong address, int bytes, out ulong cr2, out uint error) => Check(address, bytes, PageAccess.Read, 0, out cr2, out error);

    /// <summary>Reads up to fifteen bytes of code.</summary>
    /// <param name="address">Canonical linear address of the first byte.</param>
    /// <param name="bytes">Receives them.</param>
    /// <param name="error">Error code of the #PF at the first byte that could not be fetched, at <paramref name="address"/> plus the result; 0 when none was refused.</param>
    /// <returns>How many bytes could be fetched.</returns>
    public int Fetch(ulong address, Span<byte> bytes, out uint error)
    {
        // SAFETY: a matching tag means that _fetchHost points at a mapped executable frame, and the offset test keeps the access inside it.
        error = 0;
        uint within = (uint)address & (PageSize - 1);
        if (address >> 12 == _fetchTag && within + bytes.Length <= PageSize)
        {
            new ReadOnlySpan<byte>(_fetchHost + within, bytes.Length).CopyTo(bytes);
            return bytes.Length;
        }

        int done = 0;
        while (done < bytes.Length)
        {
            ulong at = (address + (uint)done) & Mask;
            if (!TryFind(at, PageAccess.Execute, PageFault.Fetch, out Page page, out error))
            {
                return done;
            }

            _fetchTag = at >> 12;
            _fetchHost = page.Host;
            int offset = (int)(at & (PageSize - 1));
            int length = Math.Min(bytes.Length - done, PageSize - offset);
            new ReadOnlySpan<byte>(page.Host + offset, length).CopyTo(bytes[done..]);
            done += length;
        }

        return done;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // SAFETY: allocated by this instance and released once; Dispose is idempotent for null frames and the model is not used after it.
        NativeMemory.AlignedFree(_frames);
        _frames = null;
        NativeMemory.AlignedFree(_cache);
    }

    /// <summary>Spreads the slots of <see cref="AddressMap"/> over the cache without a collision.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Slot(ulong pageNumber) => (uint)(pageNumber ^ (pageNumber >> 4)) & (CacheEntries - 1);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool SlowRead(ulong address, Span<byte> destination, out ulong cr2, out uint error)
    {
        if (!Check(address, destination.Length, PageAccess.Read, 0, out cr2, out error) || Wraps(address, destination.Length))
        {
            destination.Clear();
            return false;
        }

        Read(address, destination);
        return true;
    }

    private void Read(ulong address, Span<byte> destination)
    {
        int first = Math.Min(destination.Length, PageSize - (int)(address & (PageSize - 1)));
        ReadWithin(address, destination[..first]);
        if (first < destination.Length)
        {
            ReadWithin((address + (uint)first) & Mask, destination[first..]);
        }
    }

    private void ReadWithin(ulong address, Span<byte> destination)
    {
        Page page = _pages[_pageAt[address >> 12]];
        CacheEntry* entry = _cache + Slot(address >> 12);
        if (entry->ReadTag != address >> 12)
        {
            *entry = new CacheEntry { ReadTag = address >> 12, WriteTag = ulong.MaxValue, Host = page.Host };
        }

        new ReadOnlySpan<byte>(page.Host + (address & (PageSize - 1)), destination.Length).CopyTo(destination);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool SlowWrite(ulong address, ReadOnlySpan<byte> source, out ulong cr2, out uint error)
    {
        if (!Check(address, source.Length, PageAccess.Write, PageFault.Write, out cr2, out error) || Wraps(address, source.Length))
        {
            return false;
        }

        Write(address, source);
        return true;
    }

    private void Write(ulong address, ReadOnlySpan<byte> source)
    {
        int first = Math.Min(source.Length, PageSize - (int)(address & (PageSize - 1)));
        WriteWithin(address, source[..first]);
        if (first < source.Length)
        {
            WriteWithin((address + (uint)first) & Mask, source[first..]);
        }
    }

    /// <summary>True when an access runs over 4 GiB in compatibility mode: then segment limits have a say first.</summary>
    private bool Wraps(ulong address, int bytes) => ((address + (uint)bytes - 1) & Mask) < address && Mask == uint.MaxValue;

    private void WriteWithin(ulong address, ReadOnlySpan<byte> source)
    {
        int index = _pageAt[address >> 12];
        ref Page page = ref _pages[index];
        if (!page.Dirty)
        {
            page.Dirty = true;
            _dirty[_dirtyCount++] = index;
        }

        if ((page.Access & PageAccess.Execute) != 0)
        {
            // No write tag, so that every store here comes by and predecoded instructions are noticed to be stale.
            CodeVersion++;
        }
        else
        {
            *(_cache + Slot(address >> 12)) = new CacheEntry { ReadTag = address >> 12, WriteTag = address >> 12, Host = page.Host };
        }

        source.CopyTo(new Span<byte>(page.Host + (address & (PageSize - 1)), source.Length));
    }

    private bool Check(ulong address, int bytes, PageAccess wanted, uint intent, out ulong cr2, out uint error)
    {
        cr2 = address;
        if (!TryFind(address, wanted, intent, out _, out error))
        {
            return false;
        }

        ulong last = (address + (uint)bytes - 1) & Mask;
        if (last >> 12 != address >> 12)
        {
            // The second part of a split access faults at its first byte (SDM vol.3A 4.7 names the linear address that was refused).
            cr2 = last & ~(ulong)(PageSize - 1);
            return TryFind(last, wanted, intent, out _, out error);
        }

        return true;
    }

    private bool TryFind(ulong address, PageAccess wanted, uint intent, out Page page, out uint error)
    {
        if (!_pageAt.TryGetValue(address >> 12, out int index))
        {
            page = default;
            error = PageFault.User | intent;
            return false;
        }

        page = _pages[index];
        bool allowed = (page.Access & (wanted | PageAccess.Supervisor)) == wanted;
        error = allowed ? 0 : PageFault.Present | PageFault.User | intent;
        return allowed;
    }

    private void CollectChanges(int index, ref List<MemoryWord>? words)
    {
        ref Page page = ref _pages[index];
        Span<ulong> now = new(page.Host, PageSize / sizeof(ulong));
        ReadOnlySpan<ulong> before = new(page.Copy, PageSize / sizeof(ulong));
        int at = 0;
        while ((at += now[at..].CommonPrefixLength(before[at..])) < now.Length)
        {
            (words ??= []).Add(new MemoryWord(page.Address + ((ulong)at * sizeof(ulong)), now[at]));
            now[at] = before[at];
            at++;
        }

        page.Dirty = false;
        (_cache + Slot(page.Address >> 12))->WriteTag = ulong.MaxValue;
    }

    [SuppressMessage("Reliability", "CA2020", Justification = "Page counts are small.")]
    private void Map(PageLayout layout)
    {
        // SAFETY: frames and copies of all present pages lie in one block: page i at 2i, its copy at 2i + 1.
        NativeMemory.AlignedFree(_frames);
        _frames = null;
        _fetchTag = ulong.MaxValue;
        _pageAt.Clear();
        int present = 0;
        foreach (PageRange range in layout.Ranges)
        {
            present += range.Access == PageAccess.None ? 0 : range.Pages;
        }

        nuint bytes = (nuint)Math.Max(present, 1) * 2 * PageSize;
        _frames = (byte*)NativeMemory.AlignedAlloc(bytes, PageSize);
        NativeMemory.Clear(_frames, bytes);
        _pages = new Page[present];
        _dirty = new int[present];
        int next = 0;
        foreach (PageRange range in layout.Ranges)
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                ulong address = range.Address + ((ulong)i * PageSize);
                byte* host = _frames + ((nuint)next * 2 * PageSize);
                _pages[next] = new Page { Address = address, Host = host, Copy = host + PageSize, Access = range.Access };
                _pageAt.Add(address >> 12, next++);
            }
        }

        ClearCache();
    }

    private void ClearCache()
    {
        for (int i = 0; i < CacheEntries; i++)
        {
            _cache[i] = new CacheEntry { ReadTag = ulong.MaxValue, WriteTag = ulong.MaxValue, Host = null };
        }
    }

    private void Poke(ulong address, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int offset = (int)(address & (PageSize - 1));
            int length = Math.Min(bytes.Length, PageSize - offset);
            ref Page page = ref _pages[_pageAt[address >> 12]];
            bytes[..length].CopyTo(new Span<byte>(page.Host + offset, length));
            bytes[..length].CopyTo(new Span<byte>(page.Copy + offset, length));
            bytes = bytes[length..];
            address += (uint)length;
        }
    }

    private void Clear(ulong address, int length)
    {
        while (length > 0)
        {
            int offset = (int)(address & (PageSize - 1));
            int part = Math.Min(length, PageSize - offset);
            ref Page page = ref _pages[_pageAt[address >> 12]];
            new Span<byte>(page.Host + offset, part).Clear();
            new Span<byte>(page.Copy + offset, part).Clear();
            length -= part;
            address += (uint)part;
        }
    }

    private struct CacheEntry
    {
        public ulong ReadTag;
        public ulong WriteTag;
        public byte* Host;
    }

    private struct Page
    {
        public ulong Address;
        public byte* Host;
        public byte* Copy;
        public PageAccess Access;
        public bool Dirty;
    }
}
