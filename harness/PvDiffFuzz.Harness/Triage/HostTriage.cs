using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>One side of a triage: a recording, or a live target.</summary>
/// <param name="Target">Who answers.</param>
/// <param name="Source">The recording that it was read from, or null for a live target.</param>
public sealed record TriageSide(ITarget Target, string? Source)
{
    /// <summary>True when this side has or makes an answer to a case.</summary>
    public bool Holds(TestCase testCase) => Target is not RecordedTarget recorded || recorded.Holds(testCase);
}

/// <summary>Compares what two or more sides answered to the same cases, and groups what differs. Recordings and live targets are the same here.</summary>
/// <remarks>A recording answers only the cases it has, so a difference is cut to its first event, not to its first instruction: short cases have clear signatures.</remarks>
public sealed class HostTriage : IDisposable
{
    private const int BatchSize = 256;

    // A recording cannot change its mind, so reordering and isolating would only concern live targets, which campaigns examine.
    private static readonly ImmutableArray<IDoubt> Asked = [new MaskAuditDoubt(), new RepeatDoubt(3)];

    private readonly ImmutableArray<TriageSide> _sides;
    private readonly KnownSet _known;
    private readonly CaseRunner _runner;
    private readonly Dictionary<(Signature, VerdictKind, string), Group> _groups = [];
    private readonly Tally[] _tallies;
    private readonly long[] _knownMatches;
    private long _cases;
    private long _incomplete;
    private long _notCompared;
    private long _agree;
    private long _masked;

    /// <summary>Takes ownership of the targets.</summary>
    /// <param name="sides">Two or more, with different names.</param>
    /// <param name="analyst">Tells what is undefined.</param>
    /// <param name="known">Described divergences.</param>
    /// <exception cref="ArgumentException">There are fewer than two sides.</exception>
    public HostTriage(ImmutableArray<TriageSide> sides, CaseAnalyst analyst, KnownSet known)
    {
        ArgumentNullException.ThrowIfNull(known);
        if (sides.Length < 2)
        {
            throw new ArgumentException("one side cannot differ from itself; name two or more", nameof(sides));
        }

        (_sides, _known) = (sides, known);
        _runner = new CaseRunner([.. sides.Select(s => s.Target)], analyst);
        _tallies = [.. sides.Select(_ => new Tally())];
        _knownMatches = new long[known.Entries.Length];
    }

    /// <summary>Each case once, in the order of its first appearance.</summary>
    public static ImmutableArray<CaseFile> Union(IEnumerable<CaseFile> cases) => [.. cases.DistinctBy(file => file.Case, CaseComparer.Instance)];

    /// <summary>Runs cases on live sides, takes the answers of the others, and compares. Called once.</summary>
    /// <param name="cases">Different cases.</param>
    /// <param name="cancel">Stops between batches; the report then covers what was compared.</param>
    /// <param name="progress">Told after each batch how many cases are done; null for nobody.</param>
    public HostTriageReport Run(ImmutableArray<CaseFile> cases, CancellationToken cancel, Action<long>? progress = null)
    {
        Outcome[][] outcomes = [.. _sides.Select(_ => new Outcome[BatchSize])];
        foreach (CaseFile[] batch in cases.Chunk(BatchSize))
        {
            if (cancel.IsCancellationRequested)
            {
                break;
            }

            _runner.Run([.. batch.Select(file => file.Case)], outcomes);
            for (int i = 0; i < batch.Length; i++)
            {
                Take(batch[i], _runner.Compare(batch[i].Case, outcomes, i));
            }

            progress?.Invoke(_cases);
        }

        return new HostTriageReport
        {
            Sides = [.. _sides.Select((side, i) => _tallies[i].Summary(side))],
            Cases = _cases,
            Incomplete = _incomplete,
            NotCompared = _notCompared,
            Agree = _agree,
            Masked = _masked,
            Groups =
            [
                .. _groups.Values.OrderBy(g => g.Verdict.Kind).ThenByDescending(g => g.Count).ThenBy(g => g.Cut.Signature.ToString(), StringComparer.Ordinal)
                    .Select(g => new TriageGroup(g.Cut.Signature, g.Verdict, g.Count, g.First, g.Cut, [.. g.Cases])),
            ],
            KnownMatches = _known.Entries.Select((entry, i) => (entry.Id, Count: _knownMatches[i])).ToImmutableSortedDictionary(e => e.Id, e => e.Count, StringComparer.Ordinal),
            Cancelled = cancel.IsCancellationRequested && _cases < cases.Length,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _runner.Dispose();

    private void Take(CaseFile file, Examination examined)
    {
        _cases++;
        bool complete = true;
        for (int i = 0; i < _sides.Length; i++)
        {
            bool holds = _sides[i].Holds(file.Case);
            complete &= holds;
            _tallies[i].Add(holds ? examined.Outcomes[i] : null);
        }

        _incomplete += complete ? 0 : 1;
        switch (examined.Comparison.Result)
        {
            case ComparisonResult.NotComparable:
                _notCompared++;
                break;
            case ComparisonResult.Agreement:
                _agree++;
                _masked += examined.Comparison.HidingRows.IsEmpty ? 0 : 1;
                break;
            default:
                Judge(file, Divergence.Of(examined, _runner));
                break;
        }
    }

    private void Judge(CaseFile file, Divergence divergence)
    {
        Suspect suspect = new() { Divergence = divergence, Runner = _runner, Fresh = NoFresh };
        Verdict? verdict = Doubts.FirstExplanation(Asked, suspect);
        Divergence cut = EventCut.Of(divergence, _runner);
        if (verdict is null)
        {
            ImmutableArray<int> seen = _known.Find(divergence, _runner.Analyst);
            ImmutableArray<int> found = seen.IsEmpty ? _known.Find(cut, _runner.Analyst) : seen;
            verdict = _known.VerdictOf(found);
            foreach (int entry in found)
            {
                _knownMatches[entry]++;
            }
        }

        // What explains a difference away says something of one case only; a known entry is a group of its own.
        (Signature, VerdictKind, string) key = (cut.Signature, verdict.Kind, verdict.IsKnown ? verdict.Why : "");
        if (!_groups.TryGetValue(key, out Group? group))
        {
            _groups[key] = group = new Group(divergence, cut, verdict);
        }

        group.Count++;
        if (group.Cases.Count < TriageGroup.MostCases)
        {
            group.Cases.Add(file.Id);
        }
    }

    private static CaseRunner NoFresh() => throw new TargetUnavailableException("a recorded host cannot be started anew", "run the case on that host");

    private sealed class Group(Divergence first, Divergence cut, Verdict verdict)
    {
        public Divergence First { get; } = first;

        public Divergence Cut { get; } = cut;

        public Verdict Verdict { get; } = verdict;

        public long Count { get; set; }

        public List<string> Cases { get; } = [];
    }

    private sealed class Tally
    {
        private readonly Dictionary<EndKind, long> _ends = [];
        private readonly BoundedCounts _reasons = new();
        private long _missing;

        public void Add(Outcome? outcome)
        {
            if (outcome is null)
            {
                _missing++;
                return;
            }

            _ends[outcome.End] = _ends.GetValueOrDefault(outcome.End) + 1;
            if (!outcome.Comparable)
            {
                _reasons.Add(outcome.Detail ?? outcome.End.ToString());
            }
        }

        public SideSummary Summary(TriageSide side) => new(side.Target.Info, side.Source)
        {
            Ends = _ends.ToImmutableSortedDictionary(),
            Reasons = _reasons.ToImmutable(),
            Missing = _missing,
        };
    }
}
