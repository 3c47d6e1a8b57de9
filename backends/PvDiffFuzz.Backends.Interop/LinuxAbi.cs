namespace PvDiffFuzz.Backends.Interop;

/// <summary>Numbers of the Linux and glibc headers that the package Tmds.LibC does not have, under their own names (x86-64).</summary>
public static class LinuxAbi
{
#pragma warning disable CS1591 // Each member is the constant of that name.
    public const uint MFD_EXEC = 0x10;

    public const int WNOHANG = 1;
    public const int WALL = 0x4000_0000;

    public const int PTRACE_POKEUSER = 6;
    public const int PTRACE_DETACH = 17;
    public const int PTRACE_SEIZE = 0x4206;
    public const int PTRACE_INTERRUPT = 0x4207;

    /// <summary><c>offsetof(struct user, u_debugreg)</c>.</summary>
    public const int UserDebugRegisters = 848;

    /// <summary><c>sizeof(posix_spawn_file_actions_t)</c> is 80 in glibc; the rest is room for others.</summary>
    public const int SizeOfSpawnFileActions = 256;

    public const ulong AT_HWCAP2 = 26;
    public const ulong HWCAP2_FSGSBASE = 2;

    public const int SIGIO = 29;

    public const int SYS_read = 0;
    public const int SYS_write = 1;
    public const int SYS_open = 2;
    public const int SYS_close = 3;
    public const int SYS_ioctl = 16;
    public const int SYS_pread64 = 17;
    public const int SYS_nanosleep = 35;
    public const int SYS_uname = 63;
    public const int SYS_rt_sigtimedwait = 128;
    public const int SYS_mount = 165;
    public const int SYS_timer_create = 222;
    public const int SYS_timer_settime = 223;
    public const int SYS_mmap = 9;
    public const int SYS_munmap = 11;
    public const int SYS_rt_sigaction = 13;
    public const int SYS_rt_sigprocmask = 14;
    public const int SYS_rt_sigreturn = 15;
    public const int SYS_sigaltstack = 131;
    public const int SYS_prctl = 157;
    public const int SYS_setrlimit = 160;
    public const int SYS_exit_group = 231;
    public const int SYS_seccomp = 317;
    public const int SYS_close_range = 436;

    public const int PROT_NONE = 0;
    public const int MAP_PRIVATE = 2;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_LOCKED = 0x2000;
    public const int MAP_NORESERVE = 0x4000;
    public const int MAP_POPULATE = 0x8000;

    public const int SIG_BLOCK = 0;
    public const int SIG_SETMASK = 2;

    public const int O_RDWR = 2;
    public const int F_SETSIG = 10;
    public const int AF_UNIX = 1;
    public const int SOCK_STREAM = 1;
    public const int SOCK_CLOEXEC = 0x8_0000;
    public const int ENOENT = 2;
    public const int EPERM = 1;
    public const int EAGAIN = 11;
    public const int EACCES = 13;
    public const int ENODEV = 19;
    public const int EINVAL = 22;
    public const int ENFILE = 23;
    public const int EMFILE = 24;
    public const int CLOCK_MONOTONIC = 1;
    public const int CLOCK_THREAD_CPUTIME_ID = 3;
    public const int SIGEV_THREAD_ID = 4;

    /// <summary><c>sizeof(sigset_t)</c> in glibc; the kernel's has eight bytes.</summary>
    public const int SizeOfSignalSet = 128;

    /// <summary><c>sizeof(struct sigevent)</c>.</summary>
    public const int SizeOfSignalEvent = 64;
    public const ulong SA_SIGINFO = 4;
    public const ulong SA_RESTORER = 0x0400_0000;
    public const ulong SA_ONSTACK = 0x0800_0000;
    public const ulong SA_NODEFER = 0x4000_0000;
    public const int RLIMIT_CORE = 4;
    public const int PR_SET_NAME = 15;
    public const int PR_SET_NO_NEW_PRIVS = 38;
    public const int PR_SET_SYSCALL_USER_DISPATCH = 59;
    public const int PR_SYS_DISPATCH_ON = 1;
    public const int SECCOMP_SET_MODE_FILTER = 1;
    public const int SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4;
    public const uint SECCOMP_RET_TRAP = 0x0003_0000;
    public const uint SECCOMP_RET_ALLOW = 0x7fff_0000;
    public const uint AUDIT_ARCH_X86_64 = 0xc000_003e;
    public const uint AUDIT_ARCH_I386 = 0x4000_0003;
#pragma warning restore CS1591
}
