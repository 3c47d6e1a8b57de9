namespace Tmds.Linux;

/// <content>Numbers of the C headers, under the names and in the form of the package Tmds.LibC.</content>
// SAFETY: pointers only name special argument values here; none is dereferenced.
internal static unsafe partial class LibC
{
#pragma warning disable CS1591 // Each member is the constant of that name.
    public static void* MAP_FAILED => (void*)-1;

    public static int MAP_SHARED => 0x01;

    public static int MAP_FIXED_NOREPLACE => 0x10_0000;

    public static int PROT_READ => 1;

    public static int PROT_WRITE => 2;

    public static uint MFD_CLOEXEC => 1;

    public static uint MFD_ALLOW_SEALING => 2;

    public static int F_DUPFD_CLOEXEC => 1030;

    public static int F_ADD_SEALS => 1033;

    public static int F_SEAL_SEAL => 1;

    public static int F_SEAL_SHRINK => 2;

    public static int F_SEAL_GROW => 4;

    public static int F_SEAL_WRITE => 8;

    public static int F_SETFL => 4;

    public static int F_SETOWN => 8;

    public static int O_ASYNC => 0x2000;

    public static int O_CLOEXEC => 0x8_0000;

    public static short POLLIN => 1;

    public static int EINTR => 4;

    public static int SIGILL => 4;

    public static int SIGTRAP => 5;

    public static int SIGBUS => 7;

    public static int SIGFPE => 8;

    public static int SIGKILL => 9;

    public static int SIGSEGV => 11;

    public static int SIGALRM => 14;

    public static int SIGSYS => 31;
#pragma warning restore CS1591
}
