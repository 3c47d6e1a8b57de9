using Microsoft.Win32.SafeHandles;
using Tmds.Linux;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>Helpers for file descriptors that are owned by <see cref="SafeFileHandle"/>.</summary>
public static unsafe class Fd
{
    /// <summary>The number of an open descriptor. The caller keeps the handle alive across its use.</summary>
    /// <exception cref="ObjectDisposedException">It is closed.</exception>
    public static int Of(SafeFileHandle handle)
    {
        ObjectDisposedException.ThrowIf(handle.IsClosed, handle);
        return (int)handle.DangerousGetHandle();
    }

    /// <summary>Makes a pipe; both ends are closed on exec.</summary>
    /// <exception cref="PosixException">The process has too many descriptors.</exception>
    public static (SafeFileHandle Read, SafeFileHandle Write) Pipe()
    {
        int* ends = stackalloc int[2];

        // SAFETY: pipe2 writes two ints.
        PosixException.Check(pipe2(ends, O_CLOEXEC), nameof(pipe2));
        return (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true));
    }

    /// <summary>Makes two connected stream sockets; both are closed on exec.</summary>
    /// <exception cref="PosixException">The process has too many descriptors.</exception>
    public static (SafeFileHandle One, SafeFileHandle Other) SocketPair()
    {
        int* ends = stackalloc int[2];

        // SAFETY: socketpair writes two ints.
        PosixException.Check(LibCMore.socketpair(LinuxAbi.AF_UNIX, LinuxAbi.SOCK_STREAM | LinuxAbi.SOCK_CLOEXEC, 0, ends), nameof(LibCMore.socketpair));
        return (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true));
    }

    /// <summary>Writes all bytes.</summary>
    /// <exception cref="PosixException">The other end is closed, or the write failed. The runtime ignores SIGPIPE, so none is raised.</exception>
    public static void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            fixed (byte* first = bytes)
            {
                // SAFETY: the bytes are pinned across the call.
                long count = write(Of(file), first, bytes.Length);
                if (count < 0 && errno != EINTR)
                {
                    throw new PosixException(nameof(write), errno);
                }

                bytes = bytes[(int)Math.Max(count, 0)..];
            }
        }
    }

    /// <summary>Reads what is there; waits for the first byte.</summary>
    /// <returns>Number of bytes; 0 when the other end is closed.</returns>
    /// <exception cref="PosixException">The read failed.</exception>
    public static int Read(SafeFileHandle file, Span<byte> bytes)
    {
        fixed (byte* first = bytes)
        {
            while (true)
            {
                // SAFETY: the buffer is pinned across the call.
                long count = read(Of(file), first, bytes.Length);
                if (count >= 0)
                {
                    return (int)count;
                }

                if (errno != EINTR)
                {
                    throw new PosixException(nameof(read), errno);
                }
            }
        }
    }

    /// <summary>Writes eight bytes to a pipe.</summary>
    /// <returns>0, or the error number.</returns>
    public static int WriteWord(SafeFileHandle pipe, ulong value)
    {
        // SAFETY: the word outlives the call. Eight bytes are written to a pipe at once or not at all (pipe(7)).
        return write(Of(pipe), &value, sizeof(ulong)) == sizeof(ulong) ? 0 : errno;
    }

    /// <summary>Reads eight bytes from a pipe, once they are there.</summary>
    /// <returns>Null when the other end is closed or the read failed.</returns>
    public static ulong? ReadWord(SafeFileHandle pipe)
    {
        ulong value;
        while (true)
        {
            // SAFETY: the word outlives the call; words are written whole, so they are read whole.
            long count = read(Of(pipe), &value, sizeof(ulong));
            if (count == sizeof(ulong))
            {
                return value;
            }

            if (count >= 0 || errno != EINTR)
            {
                return null;
            }
        }
    }

    /// <summary>Asks that a process is killed when the write end of a pipe closes, also when that end's owner is killed.</summary>
    /// <param name="pipe">Read end, which that process has open too.</param>
    /// <param name="process">Process id.</param>
    /// <remarks>For programs that are not ours and take SIGIO for something else.</remarks>
    /// <exception cref="PosixException">A call failed.</exception>
    public static void KillWhenClosed(SafeFileHandle pipe, int process)
    {
        PosixException.Check(fcntl(Of(pipe), LinuxAbi.F_SETSIG, SIGKILL), "fcntl(F_SETSIG)");
        SignalWhenClosed(pipe, process);
    }

    /// <summary>Asks that a process gets SIGIO when the write end of a pipe closes (or is written to), also when its owner is killed.</summary>
    /// <param name="pipe">Read end, which that process has open too.</param>
    /// <param name="process">Process id.</param>
    /// <exception cref="PosixException">A call failed.</exception>
    public static void SignalWhenClosed(SafeFileHandle pipe, int process)
    {
        PosixException.Check(fcntl(Of(pipe), F_SETOWN, process), "fcntl(F_SETOWN)");
        PosixException.Check(fcntl(Of(pipe), F_SETFL, O_ASYNC), "fcntl(F_SETFL)");
    }

    /// <summary>Waits until a pipe can be read or its other end is closed.</summary>
    /// <param name="pipe">Read end.</param>
    /// <param name="milliseconds">Longest wait.</param>
    /// <returns>False when the time ran out, or a signal came first.</returns>
    public static bool WaitReadable(SafeFileHandle pipe, int milliseconds)
    {
        pollfd entry = new() { fd = Of(pipe), events = POLLIN };

        // SAFETY: one entry, on this stack.
        return poll(&entry, 1, milliseconds) > 0;
    }
}
