using Microsoft.Win32.SafeHandles;
using Tmds.Linux;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>A mapped range that is unmapped exactly once, also when a constructor after it throws.</summary>
public sealed unsafe class SafeMapping : SafeHandleMinusOneIsInvalid
{
    private readonly ulong _length;

    private SafeMapping(void* start, ulong length)
        : base(ownsHandle: true)
    {
        _length = length;
        SetHandle((nint)start);
    }

    /// <summary>First byte of the range.</summary>
    public byte* Start => (byte*)handle;

    /// <summary>Maps a file from its beginning, readable, writable and shared.</summary>
    /// <param name="file">The file.</param>
    /// <param name="length">Bytes to map.</param>
    /// <exception cref="PosixException">mmap(2) failed.</exception>
    public static SafeMapping Shared(SafeFileHandle file, ulong length)
    {
        // SAFETY: the kernel chooses a free place, so nothing existing is replaced.
        void* start = mmap(null, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, Fd.Of(file), 0);
        return start == MAP_FAILED ? throw new PosixException(nameof(mmap), errno) : new SafeMapping(start, length);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        // SAFETY: the handle was made by mmap with this length and is released once.
        return munmap((void*)handle, (size_t)_length) == 0;
    }
}
