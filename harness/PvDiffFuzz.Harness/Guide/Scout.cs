using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Makes a job's guided cases, runs each on the probed model before anybody else sees it, and keeps what is interesting. What a range gives depends on its view and its indices alone.</summary>
internal sealed class Scout : IDisposable
{
    /// <summary>Of so many entries drawn at random, the one that promises most is taken.</summary>
    private const int Drawn = 5;

    /// <summary>Keeps the streams of guided cases apart from those of the generator.</summary>
    private const ulong Salt = 0x6775_6964_6564_2131;

    private readonly ulong _seed;
    private readonly GuideOptions _options;
    private readonly ISettingsSource _source;
    private readonly IProbedModel _model;
    private readonly Mutator _mutator;
    private readonly SeenFeatures _seen;
    private readonly int[] _counts;
    private readonly List<ushort> _executed = [];
    private readonly List<int> _found = [];
    private readonly List<int> _again = [];
    private readonly HashSet<int> _inBoth = [];
    private readonly RaiserPool _raisers = new();
    private readonly List<CorpusEntry> _entries = [];
    private readonly List<int> _picks = [];
    private readonly List<int> _finds = [];
    private readonly List<int> _picked = [];
    private readonly List<Candidate> _candidates = [];
    private int _known;
    private long _cases;

    /// <summary>Makes a scout.</summary>
    /// <param name="seed">Seed of the campaign.</param>
    /// <param name="guide">The model and how to steer.</param>
    /// <param name="targets">Number of targets.</param>
    /// <param name="vendor">Whose decoder.</param>
    /// <param name="allowed">False for cases that must not run; null when any may.</param>
    public Scout(ulong seed, GuideParts guide, int targets, CpuVendor vendor, Func<TestCase, bool>? allowed)
    {
        (_seed, _options, _source, _model) = (seed, guide.Options, guide.Source(), guide.Model());
        _mutator = new Mutator(vendor, _raisers, allowed, _options.MaximumStack);
        _seen = new SeenFeatures(_model.Rules.Length, targets);
        _counts = new int[_model.Rules.Length];
        WarmUp();
    }

    /// <summary>The probed model.</summary>
    public IProbedModel Model => _model;

    /// <summary>Rules that the last case executed, in order.</summary>
    public IReadOnlyList<ushort> Executed => _executed;

    /// <inheritdoc/>
    public void Dispose() => _model.Dispose();

    /// <summary>A range begins.</summary>
    /// <param name="view">What it may know.</param>
    public void Begin(GuideView view)
    {
        _seen.CopyFrom(view.Seen);
        Refill(_entries, view.Entries);
        _raisers.Clear();
        _entries.ForEach(_raisers.Add);
        Refill(_picks, view.Picks);
        Refill(_finds, view.Finds);
        _picked.Clear();
        _candidates.Clear();
        _known = view.Entries.Length;
        _cases = 0;
    }

    /// <summary>The range ends.</summary>
    public RangeFindings End() => new([.. _candidates], [.. _picked.Where(entry => entry < _known)], _known, _cases);

    /// <summary>The next case of the range and what the model answers.</summary>
    /// <param name="index">Its index.</param>
    /// <param name="outcome">The model's answer.</param>
    public TestCase Next(ulong index, out Outcome outcome)
    {
        _cases++;
        CounterRandom random = new(_seed ^ Salt, index);
        if (_entries.Count > 0 && !random.Percent(_options.FreshPercent))
        {
            int parent = Draw(ref random);
            TestCase donor = random.Percent(50) ? _entries[random.Below(_entries.Count)].Case : _source.Generate(DrawSetting(ref random), random.Next());
            if (_mutator.Mutate(_entries[parent].Case, donor, ref random) is TestCase mutant && Try(mutant, parent, out outcome))
            {
                _picks[parent]++;
                _picked.Add(parent);
                return mutant;
            }
        }

        int setting = DrawSetting(ref random);
        TestCase fresh = _source.Generate(setting, index);
        if (random.Percent(_options.LadderPercent) && LadderMutation.Climb(fresh, ref random) is TestCase climbing && climbing.Check() is null && Try(climbing, -1, out outcome))
        {
            return climbing;
        }

        Try(fresh, -1, out outcome);
        return fresh;
    }

    /// <summary>Looks at a case of a starting corpus.</summary>
    public void Look(TestCase testCase)
    {
        if (testCase.Check() is null)
        {
            Try(testCase, -1, out _);
        }
    }

    /// <summary>Notes that targets confirmed rules.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="rules">The rules that it executed.</param>
    /// <param name="confirms">Which targets agreed with the model.</param>
    public void Confirm(TestCase testCase, ReadOnlySpan<ushort> rules, ReadOnlySpan<bool> confirms)
    {
        if ((_options.By & GuideBy.Rules) == 0)
        {
            return;
        }

        _found.Clear();
        for (int target = 0; target < confirms.Length; target++)
        {
            if (!confirms[target])
            {
                continue;
            }

            foreach (ushort rule in rules)
            {
                int feature = _seen.OfConfirmation(rule, target);
                if (_seen.Add(feature))
                {
                    _found.Add(feature);
                }
            }
        }

        if (_found.Count > 0 && !AddTo(testCase))
        {
            Add(testCase, [], -1);
        }
    }

    /// <summary>Adds what was found to a case that this range has kept already.</summary>
    private bool AddTo(TestCase testCase)
    {
        int at = _candidates.FindLastIndex(candidate => ReferenceEquals(candidate.Entry.Case, testCase));
        if (at < 0)
        {
            return false;
        }

        CorpusEntry entry = _candidates[at].Entry;
        entry = entry with { Features = entry.Features.AddRange(_found), Value = entry.Value + _found.Sum(_seen.ValueOf) };
        _candidates[at] = _candidates[at] with { Entry = entry };
        _entries[_known + at] = entry;
        return true;
    }

    /// <summary>What a model keeps from its first cases on, such as arrays that grow, is made before anything counts.</summary>
    private void WarmUp()
    {
        for (ulong i = 1; i <= 64; i++)
        {
            Run(_source.Generate(ulong.MaxValue - i));
        }

        _model.Edges.Clear();
    }

    private int Draw(ref CounterRandom random)
    {
        int best = random.Below(_entries.Count);
        for (int i = 1; i < Drawn; i++)
        {
            int other = random.Below(_entries.Count);
            best = Promise(other) > Promise(best) ? other : best;
        }

        return best;
    }

    private int DrawSetting(ref CounterRandom random) => random.Percent(_options.UsualPercent) ? 0 : random.Below(_source.Settings);

    /// <summary>Much for what was worth keeping and led to more, less for what was tried often.</summary>
    private long Promise(int entry) => ((long)_entries[entry].Value + (8L * _finds[entry])) * 1024 / (1 + _picks[entry]);

    /// <summary>Runs a case and keeps it if it is interesting.</summary>
    /// <returns>False when the model spends its budget or cannot run it: that would cost others much and show nothing.</returns>
    private bool Try(TestCase testCase, int parent, out Outcome outcome)
    {
        outcome = Run(testCase);
        if (outcome.Comparable)
        {
            Keep(testCase, outcome, parent);
        }
        else
        {
            // Nobody has looked at them.
            _model.Edges.Clear();
        }

        return outcome.Comparable;
    }

    private Outcome Run(TestCase testCase)
    {
        Outcome outcome = _model.Run(testCase);
        _counts.AsSpan().Clear();
        _model.AddRules(_counts);
        _executed.Clear();
        for (int rule = Next(0); rule < _counts.Length; rule = Next(rule + 1))
        {
            _executed.Add((ushort)rule);
        }

        return outcome;

        int Next(int from) => _counts.AsSpan(from).IndexOfAnyExcept(0) is >= 0 and int skipped ? from + skipped : _counts.Length;
    }

    private void Keep(TestCase testCase, Outcome outcome, int parent)
    {
        Look(outcome, _found);
        if (_found.Count == 0)
        {
            return;
        }

        // An edge that is not there again was taken because of a case before.
        Run(testCase);
        Look(outcome, _again);
        _inBoth.Clear();
        _inBoth.UnionWith(_again);
        _found.RemoveAll(feature => !_inBoth.Contains(feature));
        foreach (int feature in _found)
        {
            _seen.Add(feature);
        }

        if (_found.Count > 0)
        {
            Add(testCase, Raiser.Of(testCase, outcome), parent);
        }
    }

    private void Look(Outcome outcome, List<int> found)
    {
        found.Clear();
        if ((_options.By & GuideBy.Coverage) == 0)
        {
            _model.Edges.Clear();
        }
        else
        {
            _seen.TakeNewEdges(_model.Edges, found);
            _seen.NewPaths(outcome, found);
        }

        if ((_options.By & GuideBy.Rules) != 0)
        {
            foreach (ushort rule in _executed)
            {
                if (!_seen.Contains(SeenFeatures.OfRule(rule)))
                {
                    found.Add(SeenFeatures.OfRule(rule));
                }
            }
        }
    }

    private void Add(TestCase testCase, ImmutableArray<Raiser> raised, int parent)
    {
        CorpusEntry entry = new(testCase, [.. _found], _found.Sum(_seen.ValueOf), raised);
        _raisers.Add(entry);
        _candidates.Add(new Candidate(entry, parent));
        _entries.Add(entry);
        _picks.Add(0);
        _finds.Add(0);
        if (parent >= 0)
        {
            _finds[parent]++;
        }
    }

    private static void Refill<T>(List<T> list, ImmutableArray<T> from)
    {
        list.Clear();
        list.AddRange(from);
    }
}
