using System.Runtime.InteropServices;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>libc calls that the package Tmds.LibC does not have. The names are those of the C functions.</summary>
// SAFETY: declarations only; each caller answers for the memory behind the pointers that it passes.
internal static unsafe partial class LibCMore
{
    private const string Library = "libc";

    /// <summary>posix_spawn(3).</summary>
    /// <param name="pid">Receives the process id.</param>
    /// <param name="path">File to execute.</param>
    /// <param name="actions">A posix_spawn_file_actions_t.</param>
    /// <param name="attributes">A posix_spawnattr_t, or null.</param>
    /// <param name="argv">Arguments, ended by a null pointer.</param>
    /// <param name="envp">Environment, ended by a null pointer.</param>
    /// <returns>0 or an error number; errno is not used.</returns>
    [LibraryImport(Library)]
    internal static partial int posix_spawn(int* pid, byte* path, void* actions, void* attributes, byte** argv, byte** envp);

    /// <summary>posix_spawn_file_actions_init(3).</summary>
    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_init(void* actions);

    /// <summary>posix_spawn_file_actions_adddup2(3).</summary>
    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_adddup2(void* actions, int fd, int newfd);

    /// <summary>posix_spawn_file_actions_destroy(3).</summary>
    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_destroy(void* actions);

    /// <summary>waitpid(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int waitpid(int pid, int* status, int options);

    /// <summary>ptrace(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial long ptrace(nint request, int pid, void* address, void* data);

    /// <summary>clock_gettime(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int clock_gettime(int clock, long* timespec);

    /// <summary>getauxval(3).</summary>
    [LibraryImport(Library)]
    internal static partial ulong getauxval(ulong type);

    /// <summary>socketpair(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int socketpair(int domain, int type, int protocol, int* ends);
}
