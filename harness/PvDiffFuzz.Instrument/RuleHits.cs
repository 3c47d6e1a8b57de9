namespace PvDiffFuzz.Instrument;

/// <summary>Where the probes of instrumented models count. Each thread counts for itself.</summary>
public static class RuleHits
{
    [ThreadStatic]
    private static int[]? _counts;

    /// <summary>Lets this thread count into an array, or stop with null.</summary>
    /// <param name="counts">One counter a rule, in the order of <see cref="InstrumentedModel.Rules"/>.</param>
    public static void CollectInto(int[]? counts) => _counts = counts;

    /// <summary>The probe: every rule of an instrumented model begins with a call of it.</summary>
    /// <param name="rule">Index of the rule.</param>
    public static void Hit(int rule)
    {
        if (_counts is int[] counts)
        {
            counts[rule]++;
        }
    }
}
