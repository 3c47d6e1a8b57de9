using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using static PvDiffFuzz.Backends.Interop.LibCMore;
using static PvDiffFuzz.Backends.Interop.LinuxAbi;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>A child process that is killed and reaped when its handle goes, so that no zombie stays.</summary>
/// <remarks>The runtime cannot fork; posix_spawn(3) starts the image without running managed code in the child.</remarks>
public sealed unsafe class ChildProcess : SafeHandleZeroOrMinusOneIsInvalid
{
    private int? _status;

    private ChildProcess(int pid)
        : base(ownsHandle: true) => SetHandle(pid);

    /// <summary>Process id; stays reserved until the child is reaped.</summary>
    public int Id => (int)handle;

    /// <summary>Starts an executable that is open here, without arguments and environment.</summary>
    /// <param name="image">The executable.</param>
    /// <param name="descriptors">What the child gets as descriptors 0, 1, 2 and so on.</param>
    /// <exception cref="PosixException">A call failed.</exception>
    public static ChildProcess Spawn(SafeFileHandle image, params ReadOnlySpan<SafeFileHandle> descriptors) =>
        Spawn($"/proc/self/fd/{Fd.Of(image)}", [], [], descriptors);

    /// <summary>Starts a program.</summary>
    /// <param name="path">Its file.</param>
    /// <param name="arguments">Argument 0, by custom the program's name, and the others.</param>
    /// <param name="environment">The whole environment, as <c>NAME=value</c>.</param>
    /// <param name="descriptors">What the child gets as descriptors 0, 1, 2 and so on.</param>
    /// <exception cref="PosixException">A call failed; ENOENT and EACCES tell that the program cannot be executed.</exception>
    public static ChildProcess Spawn(string path, IReadOnlyCollection<string> arguments, IReadOnlyCollection<string> environment, params ReadOnlySpan<SafeFileHandle> descriptors)
    {
        // Sources above all targets, so that no dup2 of the list overwrites a source of a later one.
        const int lowestSource = 64;
        List<SafeFileHandle> copies = [];
        byte* actions = stackalloc byte[SizeOfSpawnFileActions];
        Check(posix_spawn_file_actions_init(actions), nameof(posix_spawn_file_actions_init));
        try
        {
            for (int i = 0; i < descriptors.Length; i++)
            {
                long copy = PosixException.Check(fcntl(Fd.Of(descriptors[i]), F_DUPFD_CLOEXEC, lowestSource), "fcntl(F_DUPFD_CLOEXEC)");
                copies.Add(new SafeFileHandle((nint)copy, ownsHandle: true));
                Check(posix_spawn_file_actions_adddup2(actions, (int)copy, i), nameof(posix_spawn_file_actions_adddup2));
            }

            using Strings argv = new(arguments);
            using Strings envp = new(environment);
            byte[] file = Encoding.UTF8.GetBytes(path + '\0');

            // SAFETY: path and both lists end as the call wants and live across it; the actions were initialised above.
            fixed (byte* name = file)
            {
                int pid;
                Check(posix_spawn(&pid, name, actions, null, argv.List, envp.List), nameof(posix_spawn));
                return new ChildProcess(pid);
            }
        }
        finally
        {
            _ = posix_spawn_file_actions_destroy(actions);
            foreach (SafeFileHandle copy in copies)
            {
                copy.Dispose();
            }
        }
    }

    /// <summary>Sends a signal. A child that is gone already is no error.</summary>
    public void Signal(int signal)
    {
        if (_status is null)
        {
            _ = kill(Id, signal);
        }
    }

    /// <summary>Tells how the child ended.</summary>
    /// <param name="wait">True to wait for the end.</param>
    /// <returns>Null while it runs, else a sentence such as <c>killed by signal 9</c>.</returns>
    public string? Ended(bool wait)
    {
        if (_status is null)
        {
            int status;

            // SAFETY: waitpid writes one int.
            int pid = waitpid(Id, &status, wait ? WALL : WALL | WNOHANG);
            while (pid < 0 && Marshal.GetLastPInvokeError() == EINTR)
            {
                pid = waitpid(Id, &status, wait ? WALL : WALL | WNOHANG);
            }

            if (pid != Id)
            {
                return pid == 0 ? null : "lost: it is no child of this process any more";
            }

            bool stopped = (status & 0xff) == 0x7f;
            if (stopped)
            {
                return null;
            }

            _status = status;
        }

        int signal = _status.Value & 0x7f;
        return signal != 0 ? $"killed by signal {signal}" : $"exited with code {(_status.Value >> 8) & 0xff}";
    }

    /// <summary>Processor time that the child has used.</summary>
    /// <returns>Nanoseconds; 0 when the child is gone.</returns>
    public long CpuNanoseconds()
    {
        // The clock of a process: its id inverted, shifted, with 2 for "scheduler time" (clock_getcpuclockid(3) computes the same).
        int clock = (~Id << 3) | 2;
        long* time = stackalloc long[2];

        // SAFETY: a timespec is two longs on x86-64.
        return clock_gettime(clock, time) == 0 ? (time[0] * 1_000_000_000) + time[1] : 0;
    }

    /// <summary>Sets the debug registers of the child by a short attach; the child keeps them afterwards.</summary>
    /// <param name="addresses">DR0 to DR3.</param>
    /// <param name="control">DR7.</param>
    /// <returns>0, or the error number; EINVAL and EIO mean that Linux refuses these values.</returns>
    /// <exception cref="PosixException">Attaching itself failed.</exception>
    public int SetDebugRegisters(ReadOnlySpan<ulong> addresses, ulong control)
    {
        PosixException.Check(ptrace(PTRACE_SEIZE, Id, null, null), "ptrace(PTRACE_SEIZE)");
        PosixException.Check(ptrace(PTRACE_INTERRUPT, Id, null, null), "ptrace(PTRACE_INTERRUPT)");
        int status;
        while (waitpid(Id, &status, WALL) < 0 && Marshal.GetLastPInvokeError() == EINTR)
        {
        }

        if ((status & 0xff) != 0x7f)
        {
            _status = status;
            throw new PosixException("ptrace: the child died while being attached", 0);
        }

        // DR7 first becomes 0: Linux checks an address against the length that DR7 gives it.
        int error = Poke(7, 0);
        for (int i = 0; error == 0 && i < addresses.Length; i++)
        {
            error = Poke(i, addresses[i]);
        }

        if (error == 0)
        {
            error = Poke(7, control);
        }

        if (error != 0)
        {
            _ = Poke(7, 0);
        }

        PosixException.Check(ptrace(PTRACE_DETACH, Id, null, null), "ptrace(PTRACE_DETACH)");
        return error;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        if (_status is null)
        {
            _ = kill(Id, SIGKILL);
            _ = Ended(wait: true);
        }

        return true;
    }

    private static void Check(int error, string call)
    {
        if (error != 0)
        {
            throw new PosixException(call, error);
        }
    }

    private int Poke(int register, ulong value)
    {
        // SAFETY: PTRACE_POKEUSER takes offset and value in place of pointers.
        long result = ptrace(PTRACE_POKEUSER, Id, (void*)(UserDebugRegisters + (8 * register)), (void*)value);
        return result == -1 ? Marshal.GetLastPInvokeError() : 0;
    }

    /// <summary>A list of C strings, ended by a null pointer.</summary>
    private readonly ref struct Strings : IDisposable
    {
        private readonly int _count;

        public Strings(IReadOnlyCollection<string> strings)
        {
            // SAFETY: one pointer more than there are strings, cleared, so that the list ends.
            List = (byte**)NativeMemory.AllocZeroed((nuint)strings.Count + 1, (nuint)sizeof(byte*));
            foreach (string text in strings)
            {
                List[_count++] = (byte*)Marshal.StringToCoTaskMemUTF8(text);
            }
        }

        public byte** List { get; }

        public void Dispose()
        {
            for (int i = 0; i < _count; i++)
            {
                Marshal.FreeCoTaskMem((nint)List[i]);
            }

            NativeMemory.Free(List);
        }
    }
}
