using System.Runtime.InteropServices;

namespace Tmds.Linux;

/// <summary>The libc calls of this product. Names and signatures are those of the package Tmds.LibC, so that it can take this class's place.</summary>
/// <remarks>
/// Build with <c>-p:UseTmdsLibC=true</c> to swap the package in. Calls that the package lacks are in <see cref="PvDiffFuzz.Backends.Interop.LibCMore"/>.
/// </remarks>
// SAFETY: declarations only; each caller answers for the memory behind the pointers that it passes.
internal static unsafe partial class LibC
{
    private const string Library = "libc";

    /// <summary>The error number of the last call on this thread.</summary>
    public static int errno => Marshal.GetLastPInvokeError();

    /// <summary>mmap(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial void* mmap(void* addr, size_t length, int prot, int flags, int fd, off_t offset);

    /// <summary>munmap(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int munmap(void* addr, size_t length);

    /// <summary>memfd_create(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int memfd_create(byte* name, uint flags);

    /// <summary>ftruncate(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int ftruncate(int fd, off_t length);

    /// <summary>fcntl(2) with a number.</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int fcntl(int fd, int cmd, int arg);

    /// <summary>poll(2). Sets no <see cref="errno"/>, as in the package.</summary>
    [LibraryImport(Library)]
    public static partial int poll(pollfd* fds, ulong_t nfds, int timeout);

    /// <summary>kill(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int kill(pid_t pid, int signum);

    /// <summary>read(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial ssize_t read(int fd, void* buf, size_t count);

    /// <summary>write(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial ssize_t write(int fd, void* buf, size_t count);

    /// <summary>pipe2(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial int pipe2(int* pipefd, int flags);
}
