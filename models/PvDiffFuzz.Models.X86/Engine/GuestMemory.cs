using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
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

/// <summary>The pages of a case in native memory, found by a direct-mapped table, so that a hit costs a compare and an offset test.</summary>
/// <remarks>
/// The layout of the last case stays mapped. The first store to a line of 64 bytes saves the line; the end of a case compares the saved lines
/// with what is there now and puts them back, so that a case costs what it touched and not what is mapped.
/// Addresses here are linear and canonical: who calls checks that first.
/// </remarks>
[ExcludeFromCodeCoverage(Justification = "What it does depends on what earlier cases left mapped.")]
internal sealed unsafe partial class GuestMemory : IDisposable
{
    private const int PageSize = PageLayout.PageSize;
    private const int LineSize = 64;
    private const int TableBits = 9;
    private const int TableEntries = 1 << TableBits;

    /// <summary>One store more in <see cref="CodeVersion"/>; the bits below tell the view.</summary>
    private const uint CodeStep = 16;

    /// <summary>Added to a page's rights: it is executable in another view, so that stores to it must be noticed.</summary>
    private const PageAccess HoldsCode = (PageAccess)0x80;

    /// <summary>Added to a page's rights: what is stored there is put back, but not listed as changed.</summary>
    private const PageAccess Unlisted = (PageAccess)0x40;

    /// <summary>Pages whose table entry another page has; empty for <see cref="AddressMap.Standard"/>.</summary>
    private Dictionary<ulong, nint> _overflow = [];
    private Page* _table;
    private Page* _extra;
    private byte* _frames;

    /// <summary>An empty address space.</summary>
    public GuestMemory()
    {
        // SAFETY: freed in Dispose; the size covers exactly TableEntries entries, all set vacant before use.
        _table = (Page*)NativeMemory.AlignedAlloc((nuint)(TableEntries * sizeof(Page)), LineSize);
        Vacate(_table);
    }

    /// <summary>Changes with every store to an executable page, and is another one under each view; a predecoded instruction is stale when it changes.</summary>
    public uint CodeVersion { get; private set; }

    /// <summary>Applies to the addresses of an access's second page: all ones, or 0xffffffff in compatibility mode, where linear addresses wrap.</summary>
    public ulong Mask { get; set; } = ulong.MaxValue;

    /// <summary>The U bit of error codes: set unless the code that runs counts as supervisor code.</summary>
    public uint UserBit { get; private set; } = PageFault.User;

    /// <summary>Makes every predecoded instruction stale: the mode changes, and so does what bytes mean.</summary>
    public void ForgetCode() => CodeVersion += CodeStep;

    /// <summary>Loads a value from one readable page.</summary>
    /// <param name="address">Canonical linear address, any alignment.</param>
    /// <param name="value">The value; default when there is none.</param>
    /// <returns>False when nothing can be said: check with <see cref="CanRead"/>, then <see cref="Read{T}"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryRead<T>(ulong address, out T value)
        where T : unmanaged
    {
        // SAFETY: a matching tag means that Host points at a mapped 4096-byte frame, and the offset test keeps the access inside it.
        Page* page = _table + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (page->ReadTag == address >> 12 && offset <= PageSize - (uint)sizeof(T))
        {
            value = Unsafe.ReadUnaligned<T>(page->Host + offset);
            return true;
        }

        Unsafe.SkipInit(out value);
        return false;
    }

    /// <summary>Stores a value in a line that was stored to before in this case.</summary>
    /// <inheritdoc cref="TryRead" path="/param"/>
    /// <returns>False when nothing can be said and nothing is stored: check with <see cref="CanWrite"/>, then <see cref="Write{T}"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryWrite<T>(ulong address, T value)
        where T : unmanaged
    {
        // SAFETY: as in TryRead; write tags exist only for writable pages, and a saved line will be put back.
        Page* page = _table + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (page->WriteTag == address >> 12 && ((page->SavedLines >> (int)(offset / LineSize)) & 1) != 0 && offset % LineSize <= LineSize - (uint)sizeof(T))
        {
            Unsafe.WriteUnaligned(page->Host + offset, value);
            return true;
        }

        return false;
    }

    /// <summary>Loads a value from one writable page, so that a store of the same width cannot fail.</summary>
    /// <inheritdoc cref="TryRead" path="/param"/>
    /// <returns>False when nothing can be said: check with <see cref="CanWrite"/>, then <see cref="Read{T}"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadWritable<T>(ulong address, out T value)
        where T : unmanaged
    {
        // SAFETY: as in TryRead; a page with a write tag can be read.
        Page* page = _table + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (page->WriteTag == address >> 12 && offset <= PageSize - (uint)sizeof(T))
        {
            value = Unsafe.ReadUnaligned<T>(page->Host + offset);
            return true;
        }

        Unsafe.SkipInit(out value);
        return false;
    }

    /// <summary>Loads a value that <see cref="CanRead"/> or <see cref="CanWrite"/> allows; it may run over a page end or wrap at 4 GiB.</summary>
    public T Read<T>(ulong address)
        where T : unmanaged
    {
        // SAFETY: the part lengths keep each copy inside its page, which the check before has found to be present.
        Unsafe.SkipInit(out T value);
        Span<byte> bytes = new(&value, sizeof(T));
        while (true)
        {
            int offset = (int)(address & (PageSize - 1));
            int length = Math.Min(bytes.Length, PageSize - offset);
            new ReadOnlySpan<byte>(Find(address >> 12)->Host + offset, length).CopyTo(bytes);
            if (length == bytes.Length)
            {
                return value;
            }

            bytes = bytes[length..];
            address = (address + (uint)length) & Mask;
        }
    }

    /// <summary>Stores a value that <see cref="CanWrite"/> allows; it may run over a line or page end or wrap at 4 GiB.</summary>
    public void Write<T>(ulong address, T value)
        where T : unmanaged
    {
        // SAFETY: a part ends at the end of its line, so inside a page, which the check before has found to be present.
        ReadOnlySpan<byte> bytes = new(&value, sizeof(T));
        while (true)
        {
            int offset = (int)(address & (PageSize - 1));
            int length = Math.Min(bytes.Length, LineSize - (offset % LineSize));
            Page* page = Find(address >> 12);
            SaveLine(page, offset / LineSize);

            // Executable pages have no write tag, so that every store to one comes by here and predecoded instructions are noticed to be stale.
            CodeVersion += (page->Access & (PageAccess.Execute | HoldsCode)) != 0 ? CodeStep : 0;
            bytes[..length].CopyTo(new Span<byte>(page->Host + offset, length));
            if (length == bytes.Length)
            {
                return;
            }

            bytes = bytes[length..];
            address = (address + (uint)length) & Mask;
        }
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

    /// <summary>Reads code up to the end of its page, at most sixteen bytes.</summary>
    /// <param name="address">Canonical linear address of the first byte.</param>
    /// <param name="bytes">Receives them; at least sixteen long.</param>
    /// <returns>How many bytes are valid; 0 when nothing can be said: take <see cref="Fetch"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int TryFetch(ulong address, byte[] bytes)
    {
        // SAFETY: as in TryRead; at most the last sixteen bytes of the frame are read, and the array is as long.
        const int Length = 16;
        const uint LastStart = PageSize - Length;
        Page* page = _table + Slot(address >> 12);
        uint offset = (uint)address & (PageSize - 1);
        if (page->FetchTag != address >> 12 || bytes.Length < Length)
        {
            return 0;
        }

        if (offset <= LastStart)
        {
            Unsafe.WriteUnaligned(ref bytes[0], Unsafe.ReadUnaligned<Vector128<byte>>(page->Host + offset));
            return Length;
        }

        int missing = (int)(offset - LastStart);
        Unsafe.WriteUnaligned(ref bytes[0], Unsafe.ReadUnaligned<UInt128>(page->Host + LastStart) >> (missing * 8));
        return Length - missing;
    }

    /// <summary>Reads up to fifteen bytes of code.</summary>
    /// <param name="address">Canonical linear address of the first byte.</param>
    /// <param name="bytes">Receives them.</param>
    /// <param name="error">Error code of the #PF at the first byte that could not be fetched, at <paramref name="address"/> plus the result; 0 when none was refused.</param>
    /// <returns>How many bytes could be fetched.</returns>
    public int Fetch(ulong address, Span<byte> bytes, out uint error)
    {
        // SAFETY: the part lengths keep each copy inside its page, which has been found to be present.
        int done = 0;
        error = 0;
        while (done < bytes.Length && IsAllowed(address, PageAccess.Execute, PageFault.Fetch, out error))
        {
            int offset = (int)(address & (PageSize - 1));
            int length = Math.Min(bytes.Length - done, PageSize - offset);
            new ReadOnlySpan<byte>(Find(address >> 12)->Host + offset, length).CopyTo(bytes[done..]);
            done += length;
            address = (address + (uint)length) & Mask;
        }

        return done;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // SAFETY: allocated by this instance and released once; the model is not used after it.
        FreeViews();
        NativeMemory.AlignedFree(_frames);
        NativeMemory.AlignedFree(_extra);
        NativeMemory.AlignedFree(_table);
        _frames = null;
        _extra = null;
    }

    /// <summary>Spreads the slots of <see cref="AddressMap"/> over the table without a collision.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Slot(ulong pageNumber) => ((uint)pageNumber * 0x9e3779b1) >> (32 - TableBits);

    private bool Check(ulong address, int bytes, PageAccess wanted, uint intent, out ulong cr2, out uint error)
    {
        cr2 = address;
        if (!IsAllowed(address, wanted, intent, out error))
        {
            return false;
        }

        ulong last = (address + (uint)bytes - 1) & Mask;
        if (last >> 12 != address >> 12)
        {
            // The second part of a split access faults at its first byte (SDM vol.3A 4.7 names the linear address that was refused).
            cr2 = last & ~(ulong)(PageSize - 1);
            return IsAllowed(last, wanted, intent, out error);
        }

        return true;
    }

    private bool IsAllowed(ulong address, PageAccess wanted, uint intent, out uint error)
    {
        Page* page = Find(address >> 12);
        if (page == null)
        {
            error = UserBit | intent;
            return false;
        }

        bool allowed = (page->Access & (wanted | PageAccess.Supervisor)) == wanted;
        error = allowed ? 0 : PageFault.Present | UserBit | intent;
        return allowed;
    }

    /// <summary>The page of a number; null when none is present.</summary>
    private Page* Find(ulong number)
    {
        // SAFETY: the table and the overflow pages live as long as this instance or until the next Map.
        Page* page = _table + Slot(number);
        return page->Number == number ? page : FindOverflow(number);
    }

    private Page* FindOverflow(ulong number) => _overflow.Count > 0 && _overflow.TryGetValue(number, out nint page) ? (Page*)page : null;

    /// <summary>A present page and what is known of it; 64 bytes, so that one fetch gets all.</summary>
    [StructLayout(LayoutKind.Sequential, Size = LineSize)]
    private struct Page
    {
        /// <summary>The page number when user loads are allowed, else all ones.</summary>
        public ulong ReadTag;

        /// <summary>The page number when user loads and stores are allowed and the page is not executable, else all ones.</summary>
        public ulong WriteTag;

        /// <summary>The page number when user fetches are allowed, else all ones.</summary>
        public ulong FetchTag;

        /// <summary>Bit <c>n</c>: line <c>n</c> has been saved.</summary>
        public ulong SavedLines;

        public byte* Host;

        /// <summary>Linear address / 4096; all ones when the entry is vacant.</summary>
        public ulong Number;

        /// <summary>The same frame in another view, in a ring; null when there is no other.</summary>
        public Page* Other;

        /// <summary>Rights in this view, with <see cref="HoldsCode"/> and <see cref="Unlisted"/>.</summary>
        public PageAccess Access;
    }
}
