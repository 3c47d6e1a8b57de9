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

    /// <summary>Maps pages of a file one behind the other, readable, writable and shared, wherever in the file they are.</summary>
    /// <param name="file">The file.</param>
    /// <param name="offsets">Where each page begins in it, in bytes.</param>
    /// <exception cref="PosixException">mmap(2) failed.</exception>
    public static SafeMapping Pages(SafeFileHandle file, ReadOnlySpan<long> offsets)
    {
        const int page = 4096;
        ulong length = (ulong)offsets.Length * page;

        // SAFETY: the kernel chooses a free place, so nothing existing is replaced.
        byte* start = (byte*)mmap(null, (size_t)length, LinuxAbi.PROT_NONE, LinuxAbi.MAP_PRIVATE | LinuxAbi.MAP_ANONYMOUS | LinuxAbi.MAP_NORESERVE, -1, 0);
        if (start == MAP_FAILED)
        {
            throw new PosixException(nameof(mmap), errno);
        }

        SafeMapping mapping = new(start, length);
        for (int first = 0; first < offsets.Length;)
        {
            int count = 1;
            while (first + count < offsets.Length && offsets[first + count] == offsets[first] + ((long)count * page))
            {
                count++;
            }

            // SAFETY: replaces a part of the range that was reserved above.
            if (mmap(start + ((long)first * page), (size_t)((ulong)count * page), PROT_READ | PROT_WRITE, MAP_SHARED | LinuxAbi.MAP_FIXED, Fd.Of(file), offsets[first]) == MAP_FAILED)
            {
                int error = errno;
                mapping.Dispose();
                throw new PosixException(nameof(mmap), error);
            }

            first += count;
        }

        return mapping;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        // SAFETY: the handle was made by mmap with this length and is released once.
        return munmap((void*)handle, (size_t)_length) == 0;
    }
}
