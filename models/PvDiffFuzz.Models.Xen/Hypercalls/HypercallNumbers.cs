namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>Numbers of hypercalls, with Xen's names, and how many arguments each takes.</summary>
internal static class HypercallNumbers
{
#pragma warning disable CS1591 // Each constant is the hypercall of that name.
    public const ulong SetTrapTable = 0;
    public const ulong SetGdt = 2;
    public const ulong StackSwitch = 3;
    public const ulong SetCallbacks = 4;
    public const ulong FpuTaskswitch = 5;
    public const ulong SchedOpCompat = 6;
    public const ulong SetDebugreg = 8;
    public const ulong GetDebugreg = 9;
    public const ulong UpdateDescriptor = 10;
    public const ulong Multicall = 13;
    public const ulong XenVersion = 17;
    public const ulong ConsoleIo = 18;
    public const ulong VmAssist = 21;
    public const ulong Iret = 23;
    public const ulong VcpuOp = 24;
    public const ulong SetSegmentBase = 25;
    public const ulong NmiOp = 28;
    public const ulong SchedOp = 29;
    public const ulong CallbackOp = 30;
    public const ulong XenoprofOp = 31;
    public const ulong PhysdevOp = 33;
#pragma warning restore CS1591

    /// <summary>Arguments by number for a 64-bit guest; -1 for numbers that are not used.</summary>
    private static ReadOnlySpan<sbyte> Arguments64 =>
    [
        1, 4, 2, 2, 3, 1, 2, 1, 2, 1, 2, -1, 2, 2, 3, 1, 1, 2, 3, 1, 3, 2, 4, 0, 3, 2, 4, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1, 2, -1, 5, 2, 3, 5, -1, -1, -1, -1, -1, 1, 1,
    ];

    /// <summary>Arguments by number for a 32-bit guest, which passes 64-bit values in halves and has no set_segment_base.</summary>
    private static ReadOnlySpan<sbyte> Arguments32 =>
    [
        1, 4, 2, 2, 4, 1, 2, 1, 2, 1, 4, -1, 2, 2, 4, 2, 1, 2, 3, 1, 3, 2, 5, 0, 3, -1, 4, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1, 2, -1, 5, 2, 3, 5, -1, -1, -1, -1, -1, 1, 1,
    ];

    /// <summary>How many arguments a hypercall takes.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="narrow">True for a 32-bit guest.</param>
    /// <returns>-1 when there is no such hypercall.</returns>
    public static int ArgumentsOf(ulong number, bool narrow)
    {
        ReadOnlySpan<sbyte> counts = narrow ? Arguments32 : Arguments64;
        return number < (ulong)counts.Length ? counts[(int)number] : -1;
    }
}

/// <summary>Results of hypercalls that fail.</summary>
internal static class Errno
{
#pragma warning disable CS1591 // Each constant is the negated errno value of that name.
    public const long EPERM = -1;
    public const long EFAULT = -14;
    public const long ENODEV = -19;
    public const long EINVAL = -22;
    public const long ENOSYS = -38;
#pragma warning restore CS1591
}
