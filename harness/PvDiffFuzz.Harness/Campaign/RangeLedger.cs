namespace PvDiffFuzz.Harness;

/// <summary>Hands out ranges to jobs and takes their results back in order, so that triage sees the same sequence whatever the number of jobs.</summary>
internal sealed class RangeLedger
{
    private readonly object _gate = new();
    private readonly CampaignOptions _options;
    private readonly SortedDictionary<long, RangeResult> _waiting = [];
    private long _nextToHand;
    private long _nextToTake;
    private int _jobs;
    private volatile bool _stopped;

    /// <summary>Makes a ledger.</summary>
    public RangeLedger(CampaignOptions options) => (_options, _jobs) = (options, options.Jobs);

    /// <summary>True when no further batch may start.</summary>
    public bool Stopped => _stopped;

    /// <summary>Results that wait for triage.</summary>
    public int Waiting
    {
        get
        {
            lock (_gate)
            {
                return _waiting.Count;
            }
        }
    }

    /// <summary>No further batch starts; jobs that wait for room go on and end.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Takes the next range, waiting while triage is far behind.</summary>
    /// <returns>False when there is none or the campaign stops.</returns>
    public bool TryHand(out long number, out CaseRange range)
    {
        lock (_gate)
        {
            while (!_stopped && _nextToHand - _nextToTake >= _options.MaximumWaiting)
            {
                Monitor.Wait(_gate);
            }

            number = _nextToHand;
            range = Range(number);
            if (_stopped || range.Count == 0)
            {
                return false;
            }

            _nextToHand++;
            return true;
        }
    }

    /// <summary>Gives a result back.</summary>
    public void Submit(long number, RangeResult result)
    {
        lock (_gate)
        {
            _waiting.Add(number, result);
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>A job will give no more results.</summary>
    public void JobEnded()
    {
        lock (_gate)
        {
            _jobs--;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Waits for the result of the next range in order.</summary>
    /// <returns>Null when all jobs ended and everything in order was taken.</returns>
    public RangeResult? Take()
    {
        lock (_gate)
        {
            while (true)
            {
                if (_waiting.Remove(_nextToTake, out RangeResult? result))
                {
                    _nextToTake++;
                    Monitor.PulseAll(_gate);
                    return result;
                }

                if (_jobs == 0)
                {
                    return null;
                }

                Monitor.Wait(_gate);
            }
        }
    }

    /// <summary>The start index with which a later campaign goes on after a range.</summary>
    public ulong StartAfter(CaseRange range)
    {
        ulong size = (ulong)_options.RangeSize;
        return range.First + ((ulong)_options.Shard.Of - (ulong)_options.Shard.Number) * size;
    }

    private CaseRange Range(long number)
    {
        ulong size = (ulong)_options.RangeSize;
        ulong offset = (((ulong)number * (ulong)_options.Shard.Of) + (ulong)_options.Shard.Number) * size;
        ulong count = _options.Count is not ulong total ? size : offset >= total ? 0 : Math.Min(size, total - offset);
        return new CaseRange(_options.Start + offset, count);
    }
}
