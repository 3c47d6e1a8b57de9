namespace PvDiffFuzz.Harness;

/// <summary>Live counters of one job: written by its thread only, read by whoever shows progress.</summary>
internal sealed class JobCounters(int targets)
{
    private readonly long[] _ticks = new long[targets];
    private long _cases;

    /// <summary>Cases run and compared.</summary>
    public long Cases => Volatile.Read(ref _cases);

    /// <summary>Counts cases.</summary>
    public void AddCases(long count) => Volatile.Write(ref _cases, _cases + count);

    /// <summary>Time spent in a target, in stopwatch ticks.</summary>
    public long TicksOf(int target) => Volatile.Read(ref _ticks[target]);

    /// <summary>Counts time.</summary>
    public void AddTicks(int target, long ticks) => Volatile.Write(ref _ticks[target], _ticks[target] + ticks);
}
