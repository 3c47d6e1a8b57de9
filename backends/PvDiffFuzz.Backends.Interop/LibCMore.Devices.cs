using System.Runtime.InteropServices;

namespace PvDiffFuzz.Backends.Interop;

/// <content>Calls for devices, timers and signals of a thread.</content>
// SAFETY: declarations only; each caller answers for the memory behind the pointers that it passes.
internal static unsafe partial class LibCMore
{
    /// <summary>open(2) without a mode.</summary>
    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int open(string path, int flags);

    /// <summary>close(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int close(int fd);

    /// <summary>ioctl(2) with a pointer or a number.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int ioctl(int fd, ulong request, void* argument);

    /// <summary>gettid(2).</summary>
    [LibraryImport(Library)]
    internal static partial int gettid();

    /// <summary>usleep(3).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int usleep(uint microseconds);

    /// <summary>timer_create(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int timer_create(int clock, void* sigevent, nint* timer);

    /// <summary>timer_settime(2): interval and first expiry, seconds and nanoseconds each.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int timer_settime(nint timer, int flags, long* value, long* old);

    /// <summary>timer_delete(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int timer_delete(nint timer);

    /// <summary>pthread_sigmask(3) with sigset_t as the C library has it.</summary>
    /// <returns>0 or an error number; errno is not used.</returns>
    [LibraryImport(Library)]
    internal static partial int pthread_sigmask(int how, void* set, void* old);

    /// <summary>sigtimedwait(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int sigtimedwait(void* set, void* info, long* timeout);
}
