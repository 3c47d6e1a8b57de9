using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>How one side of a triage answered.</summary>
/// <param name="Info">What the target says of itself.</param>
/// <param name="Source">The recording that it was read from, or null for a live target.</param>
public sealed record SideSummary(TargetInfo Info, string? Source)
{
    /// <summary>Cases by how they ended, those without an answer not counted.</summary>
    public required ImmutableSortedDictionary<EndKind, long> Ends { get; init; }

    /// <summary>Reasons of ends that are not comparable, with their counts.</summary>
    public required ImmutableSortedDictionary<string, long> Reasons { get; init; }

    /// <summary>Cases of other sides for which this one has no answer.</summary>
    public required long Missing { get; init; }

    /// <summary>Cases with an outcome that may be compared.</summary>
    public long Comparable => Ends.Where(end => end.Key <= EndKind.HypervisorCrash).Sum(end => end.Value);

    /// <summary>Cases that ended so.</summary>
    public long Count(EndKind end) => Ends.GetValueOrDefault(end);
}

/// <summary>Differences of one signature and verdict.</summary>
/// <param name="Signature">The signature.</param>
/// <param name="Verdict">How they were judged.</param>
/// <param name="Count">Cases.</param>
/// <param name="First">The first of them.</param>
/// <param name="Cut">The first of them up to its first differing event, which is what the signature speaks of.</param>
/// <param name="Cases">Ids of the first few cases, at most <see cref="MostCases"/>.</param>
public sealed record TriageGroup(Signature Signature, Verdict Verdict, long Count, Divergence First, Divergence Cut, ImmutableArray<string> Cases)
{
    /// <summary>Most ids that a group keeps.</summary>
    public const int MostCases = 8;

    /// <summary>Names of the targets that stand against a majority of three or more lineages; empty when no majority is possible.</summary>
    public ImmutableArray<string> Dissenters =>
        Cut.Comparison.Dissenter is int camp ? [.. Cut.Comparison.Camps[camp].Members.Select(m => Cut.Targets[m].Name)] : [];
}

/// <summary>What comparing recordings and live targets gave.</summary>
public sealed record HostTriageReport
{
    /// <summary>The sides, in the order given.</summary>
    public required ImmutableArray<SideSummary> Sides { get; init; }

    /// <summary>Different cases of all sides together.</summary>
    public required long Cases { get; init; }

    /// <summary>Cases for which some side has no answer.</summary>
    public required long Incomplete { get; init; }

    /// <summary>Cases with fewer than two comparable outcomes. They say nothing, in particular not agreement.</summary>
    public required long NotCompared { get; init; }

    /// <summary>Cases whose comparable outcomes, two or more, all agree.</summary>
    public required long Agree { get; init; }

    /// <summary>Cases among <see cref="Agree"/> that agree only because a mask hid something.</summary>
    public required long Masked { get; init; }

    /// <summary>Differences by signature and verdict, new ones first, then by count.</summary>
    public required ImmutableArray<TriageGroup> Groups { get; init; }

    /// <summary>How often each known entry matched, by id.</summary>
    public required ImmutableSortedDictionary<string, long> KnownMatches { get; init; }

    /// <summary>True when somebody stopped it.</summary>
    public required bool Cancelled { get; init; }

    /// <summary>Cases with two or more comparable outcomes.</summary>
    public long Compared => Cases - NotCompared;

    /// <summary>Differing cases that nothing explains.</summary>
    public long New => Total(v => v.Kind == VerdictKind.New);

    /// <summary>Differing cases that a known entry describes.</summary>
    public long Known => Total(v => v.IsKnown);

    /// <summary>Differing cases that were explained away.</summary>
    public long Explained => Total(v => v.IsExplained);

    private long Total(Func<Verdict, bool> which) => Groups.Where(g => which(g.Verdict)).Sum(g => g.Count);
}
