namespace PvDiffFuzz.Backends.Xen;

/// <summary>What a case's time tells of it.</summary>
internal enum CaseState
{
    /// <summary>Nothing yet.</summary>
    Runs,

    /// <summary>The processor has rested since the last look: the guest may halt.</summary>
    Rests,

    /// <summary>It has taken too long.</summary>
    Spent,
}

/// <summary>Judges a case by the time that it takes, on the clock and of QEMU's processor.</summary>
internal struct CaseClock
{
    /// <summary>Processor time of QEMU after which one case has taken too long: a case takes well under a millisecond.</summary>
    public static readonly TimeSpan LongestCase = TimeSpan.FromMilliseconds(60);

    /// <summary>Time after which a guest is given up that neither works nor says anything: QEMU itself hangs.</summary>
    public static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(10);

    /// <summary>Time from one look at the processor to the next.</summary>
    public static readonly TimeSpan LongestRest = TimeSpan.FromMilliseconds(40);

    private readonly long _begin;
    private long _seen;
    private TimeSpan _nextLook = LongestRest;

    /// <summary>Starts with a case.</summary>
    /// <param name="used">QEMU's processor time by now, in nanoseconds.</param>
    public CaseClock(long used) => _begin = _seen = used;

    /// <summary>Looks at a case that goes on.</summary>
    /// <param name="elapsed">Time since it began.</param>
    /// <param name="used">QEMU's processor time, in nanoseconds.</param>
    /// <remarks>A guest rests when it has used less than a quarter of the processor since the last look. What it has used before says nothing: many that halt have worked first.</remarks>
    public CaseState Look(TimeSpan elapsed, long used)
    {
        if (used - _begin > LongestCase.TotalNanoseconds || elapsed > LongestSilence)
        {
            return CaseState.Spent;
        }

        if (elapsed <= _nextLook)
        {
            return CaseState.Runs;
        }

        bool rests = used - _seen < LongestRest.TotalNanoseconds / 4;
        (_seen, _nextLook) = (used, elapsed + LongestRest);
        return rests ? CaseState.Rests : CaseState.Runs;
    }
}
