using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>A target that answers from stored outcomes. A case that was never stored is <see cref="EndKind.Unsupported"/>.</summary>
public sealed class RecordedTarget : ITarget
{
    /// <summary>What the name of every recorded target starts with.</summary>
    public const string Prefix = "recorded:";

    private readonly Dictionary<TestCase, Outcome> _outcomes = new(CaseComparer.Instance);

    /// <summary>Makes a target from what another one answered.</summary>
    /// <param name="recorded">The other target. Name, lineage, fingerprint, capabilities and masks stay; the name gets <see cref="Prefix"/> and the kind becomes a recording.</param>
    /// <param name="answers">Cases with their outcomes.</param>
    /// <exception cref="ArgumentException">One case has two different outcomes.</exception>
    public RecordedTarget(TargetInfo recorded, IEnumerable<KeyValuePair<TestCase, Outcome>> answers)
    {
        ArgumentNullException.ThrowIfNull(recorded);
        ArgumentNullException.ThrowIfNull(answers);
        string name = recorded.Name.StartsWith(Prefix, StringComparison.Ordinal) ? recorded.Name : Prefix + recorded.Name;
        Info = recorded with { Name = name, Kind = TargetKind.Recording };
        foreach ((TestCase testCase, Outcome outcome) in answers)
        {
            if (!_outcomes.TryAdd(testCase, outcome) && !_outcomes[testCase].Equals(outcome))
            {
                throw new ArgumentException($"{Info.Name}: case {CaseDigest.NameOf(testCase)} is stored with two different outcomes; keep one", nameof(answers));
            }
        }
    }

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Number of cases that have an answer.</summary>
    public int Count => _outcomes.Count;

    /// <summary>One target for each target name and fingerprint in some case files, in the order in which they first appear.</summary>
    /// <param name="files">Case files.</param>
    /// <exception cref="ArgumentException">One case has two different outcomes of one target with one fingerprint.</exception>
    public static ImmutableArray<RecordedTarget> Of(params IEnumerable<CaseFile> files) =>
    [
        .. files
            .SelectMany(file => file.Outcomes, (file, recorded) => (file.Case, Recorded: recorded))
            .GroupBy(
                pair => (pair.Recorded.Target, pair.Recorded.Fingerprint),
                (key, pairs) =>
                {
                    (TestCase Case, RecordedOutcome Recorded)[] all = [.. pairs];
                    RecordedOutcome first = all[0].Recorded;
                    TargetInfo info = new(key.Target, first.Kind, first.Lineage, AllCapabilities, key.Fingerprint);
                    return new RecordedTarget(info, all.Select(pair => KeyValuePair.Create(pair.Case, pair.Recorded.Outcome)));
                }),
    ];

    /// <summary>True when a case has an answer.</summary>
    public bool Holds(TestCase testCase) => _outcomes.ContainsKey(testCase);

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        return _outcomes.TryGetValue(testCase, out Outcome? outcome) ? outcome : Outcome.Unsupported("no recorded outcome for this case");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Nothing is held.
    }

    /// <summary>A recording can hold what any target could do.</summary>
    internal static Capabilities AllCapabilities => Enum.GetValues<Capabilities>().Aggregate(Capabilities.None, (all, one) => all | one);
}
