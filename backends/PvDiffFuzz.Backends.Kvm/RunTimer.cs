using PvDiffFuzz.Backends.Interop;
using static PvDiffFuzz.Backends.Interop.LibCMore;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Makes KVM_RUN of the calling thread return every few milliseconds, so that a runaway payload can be seen.</summary>
/// <remarks>
/// A real-time signal is blocked in the thread, for good, and let through by KVM only while the guest runs. So no handler is needed in a process that belongs to
/// the runtime, and a signal that comes between two runs is not lost: the next run returns at once.
/// </remarks>
internal sealed unsafe class RunTimer : IRunTimer
{
    /// <summary>The signal: a real-time one that the C library and the runtime do not use.</summary>
    public const int Signal = 44;

    /// <summary>Signals that are blocked while the guest runs: all but ours.</summary>
    public const ulong BlockedWhileRunning = ~(1UL << (Signal - 1));

    private const long EveryOnProcessor = 4_000_000;
    private const int NotCreated = -1;

    /// <summary>How much longer anything may take where the whole host is emulated: code that is met for the first time is translated first.</summary>
    private const int EmulatedFactor = 50;

    private static readonly long Interval = HostKind.IsEmulated ? EveryOnProcessor * EmulatedFactor : EveryOnProcessor;

    private readonly long _interval;
    private int _thread = NotCreated;
    private nint _timer;
    private bool _armed;

    /// <summary>Makes a timer.</summary>
    /// <param name="interval">Nanoseconds between interruptions; 0 for the usual ones.</param>
    public RunTimer(long interval = 0) => _interval = interval == 0 ? Interval : interval;

    /// <summary>Processor time after which a case is stopped, in nanoseconds: two intervals, 8 ms on a processor.</summary>
    public static long LongestRun => 2 * Interval;

    /// <summary>Processor time after which the agent itself must have gone wrong, in nanoseconds: no case takes it as long.</summary>
    public static long LongestWork => 50 * LongestRun;

    /// <inheritdoc/>
    public long Nanoseconds => ThreadNanoseconds();

    /// <summary>Begins to interrupt runs of the calling thread.</summary>
    /// <exception cref="PosixException">The kernel has no timer for us.</exception>
    public void Start()
    {
        int thread = gettid();
        if (thread != _thread)
        {
            Create(thread);
        }

        if (!_armed)
        {
            Arm(_interval);
        }
    }

    /// <summary>Ends the interruptions.</summary>
    public void Stop()
    {
        if (_armed)
        {
            Arm(0);
            Consume();
        }
    }

    /// <summary>Takes the signal that ended a run, so that the next one can begin.</summary>
    public void Consume()
    {
        ulong* set = stackalloc ulong[LinuxAbi.SizeOfSignalSet / sizeof(ulong)];
        WriteSet(set);
        long* timeout = stackalloc long[2] { 0, 0 };

        // SAFETY: the set and the timeout live across the call; no information is asked for.
        while (sigtimedwait(set, null, timeout) == Signal)
        {
        }
    }

    /// <summary>Processor time of the calling thread in nanoseconds; what its guest used counts too.</summary>
    public static long ThreadNanoseconds()
    {
        long* time = stackalloc long[2];

        // SAFETY: a timespec of two words.
        PosixException.Check(clock_gettime(LinuxAbi.CLOCK_THREAD_CPUTIME_ID, time), nameof(clock_gettime));
        return (time[0] * 1_000_000_000) + time[1];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_thread != NotCreated)
        {
            // SAFETY: the timer was made by Create and is deleted once.
            _ = timer_delete(_timer);
            _thread = NotCreated;
            _armed = false;
        }
    }

    private void Create(int thread)
    {
        Dispose();
        ulong* set = stackalloc ulong[LinuxAbi.SizeOfSignalSet / sizeof(ulong)];
        WriteSet(set);

        // SAFETY: sets and structures live across the calls and have the sizes of the headers.
        int error = pthread_sigmask(LinuxAbi.SIG_BLOCK, set, null);
        if (error != 0)
        {
            throw new PosixException(nameof(pthread_sigmask), error);
        }

        // struct sigevent: value, signal, kind, thread.
        byte* sigevent = stackalloc byte[LinuxAbi.SizeOfSignalEvent];
        new Span<byte>(sigevent, LinuxAbi.SizeOfSignalEvent).Clear();
        *(int*)(sigevent + 8) = Signal;
        *(int*)(sigevent + 12) = LinuxAbi.SIGEV_THREAD_ID;
        *(int*)(sigevent + 16) = thread;
        nint timer;
        PosixException.Check(timer_create(LinuxAbi.CLOCK_MONOTONIC, sigevent, &timer), nameof(timer_create));
        _timer = timer;
        _thread = thread;
    }

    private void Arm(long nanoseconds)
    {
        long* value = stackalloc long[4] { 0, nanoseconds, 0, nanoseconds };

        // SAFETY: an itimerspec of four words.
        PosixException.Check(timer_settime(_timer, 0, value, null), nameof(timer_settime));
        _armed = nanoseconds != 0;
    }

    private static void WriteSet(ulong* set)
    {
        // SAFETY: the caller's set has the size of the header's.
        new Span<byte>(set, LinuxAbi.SizeOfSignalSet).Clear();
        *set = 1UL << (Signal - 1);
    }
}
