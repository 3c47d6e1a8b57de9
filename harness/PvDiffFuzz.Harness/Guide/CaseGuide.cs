using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>The corpus of a guided campaign: takes what ranges found in the order of their numbers, and tells each range what it may know.</summary>
/// <remarks>
/// A range knows what all ranges up to a fixed distance before it found, however far others are by then. So its cases depend on seed, shard, starting corpus and its number alone, and not on the
/// number of jobs. The distance grows from nothing, when everything is still to be learnt, to <see cref="MaximumLag"/>; so many jobs can work side by side. Within a range every case knows those before it.
/// </remarks>
internal sealed class CaseGuide
{
    /// <summary>Changes whenever the same seed and corpus give other guided cases.</summary>
    public const int Version = 2;

    /// <summary>Most ranges between one and the last before it that it knows of.</summary>
    public const int MaximumLag = 64;

    private const int RangesPerLag = 2;
    private const double SampleGrowth = 1.25;

    private readonly object _gate = new();
    private readonly GuideOptions _options;
    private readonly SeenFeatures _seen;
    private readonly Func<SeenFeatures> _empty;
    private readonly List<CorpusEntry> _entries = [];
    private readonly List<int> _picks = [];
    private readonly List<int> _finds = [];
    private readonly SortedDictionary<long, RangeFindings> _waiting = [];
    private readonly Dictionary<long, GuideView> _views = [];
    private readonly List<CoverageSample> _samples = [];
    private long _merged;
    private long _cases;
    private double _nextSample = 1;
    private int _saved;
    private bool _stopped;

    /// <summary>Makes an empty corpus.</summary>
    /// <param name="options">How it steers.</param>
    /// <param name="rules">Number of rules.</param>
    /// <param name="targets">Number of targets.</param>
    public CaseGuide(GuideOptions options, int rules, int targets)
    {
        _options = options;
        _empty = () => new SeenFeatures(rules, targets);
        _seen = _empty();
        _views.Add(0, View());
    }

    /// <summary>How coverage grew with the number of cases, in a few dozen samples.</summary>
    public ImmutableArray<CoverageSample> Samples
    {
        get
        {
            lock (_gate)
            {
                return [.. _samples, Sample()];
            }
        }
    }

    /// <summary>The number of entries.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>Begins with some entries; before any range.</summary>
    public void Begin(IEnumerable<Candidate> corpus)
    {
        lock (_gate)
        {
            Merge(new RangeFindings([.. corpus], [], 0, 0));
            _saved = _entries.Count;
            _views[0] = View();
        }
    }

    /// <summary>What a range may know. Waits until it is there; after <see cref="Stop"/>, whatever there is.</summary>
    /// <param name="range">Number of the range.</param>
    public GuideView ViewFor(long range)
    {
        long known = Math.Max(0, range - Math.Min(range / RangesPerLag, MaximumLag));
        lock (_gate)
        {
            while (_merged < known && !_stopped)
            {
                Monitor.Wait(_gate);
            }

            return _views[Math.Min(known, _merged)];
        }
    }

    /// <summary>Takes what a range found.</summary>
    /// <param name="range">Its number; each is given once.</param>
    /// <param name="findings">What it found.</param>
    public void Submit(long range, RangeFindings findings)
    {
        lock (_gate)
        {
            _waiting.Add(range, findings);
            while (_waiting.Remove(_merged, out RangeFindings? next))
            {
                Merge(next);
                _merged++;
                _views.Remove(_merged - (2 * MaximumLag));
                _views.Add(_merged, View());
            }

            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Nobody waits any more.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Entries that were not handed out before, so that they can be saved.</summary>
    public ImmutableArray<TestCase> TakeUnsaved()
    {
        lock (_gate)
        {
            ImmutableArray<TestCase> unsaved = [.. _entries.Skip(_saved).Select(entry => entry.Case)];
            _saved = _entries.Count;
            return unsaved;
        }
    }

    private void Merge(RangeFindings findings)
    {
        foreach (int entry in findings.Picks)
        {
            _picks[entry]++;
        }

        // Numbers after the view's are the job's own: they become ours, or nobody's when others were first.
        int[] numbers = new int[findings.Candidates.Length];
        for (int i = 0; i < numbers.Length; i++)
        {
            (CorpusEntry entry, int parent) = findings.Candidates[i];
            ImmutableArray<int> isNew = [.. entry.Features.Where(_seen.Add)];
            numbers[i] = isNew.IsEmpty || _entries.Count >= _options.MaximumEntries ? -1 : _entries.Count;
            if (numbers[i] < 0)
            {
                continue;
            }

            _entries.Add(entry with { Features = isNew, Value = isNew.Sum(_seen.ValueOf) });
            _picks.Add(0);
            _finds.Add(0);
            int origin = parent < findings.Known ? parent : numbers[parent - findings.Known];
            if (origin >= 0)
            {
                _finds[origin]++;
            }
        }

        _cases += findings.Cases;
        if (_cases >= _nextSample)
        {
            _samples.Add(Sample());
            _nextSample = Math.Max(_cases + 1, _cases * SampleGrowth);
        }
    }

    private CoverageSample Sample() => new(_cases, _seen.EdgeCount, _seen.RuleCount, _entries.Count);

    private GuideView View()
    {
        SeenFeatures seen = _empty();
        seen.CopyFrom(_seen);
        return new GuideView([.. _entries], [.. _picks], [.. _finds], seen);
    }
}
