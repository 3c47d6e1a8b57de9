using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What one target did in a campaign.</summary>
/// <param name="Info">The target.</param>
/// <param name="Ends">Outcomes by kind of end.</param>
/// <param name="Seconds">Time spent in it, all jobs together.</param>
/// <param name="Digest">Sum of the hashes of its outcomes with their cases: equal for equal campaigns, whatever the number of jobs.</param>
/// <param name="Reasons">Reasons for outcomes that are not comparable, with counts.</param>
public sealed record TargetSummary(
    TargetInfo Info, ImmutableDictionary<EndKind, long> Ends, double Seconds, ulong Digest, ImmutableSortedDictionary<string, long> Reasons)
{
    /// <summary>Cases run.</summary>
    public long Cases => Ends.Values.Sum();

    /// <summary>Cases a second and job while this target was at work; 0 when it never was.</summary>
    public double Rate => Seconds > 0 ? Cases / Seconds : 0;
}

/// <summary>What a campaign gave.</summary>
public sealed record CampaignSummary
{
    /// <summary>Seed.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Shard.</summary>
    public required Shard Shard { get; init; }

    /// <summary>Cases run.</summary>
    public required long Cases { get; init; }

    /// <summary>Cases left out on request.</summary>
    public required long Skipped { get; init; }

    /// <summary>Cases with two or more comparable outcomes.</summary>
    public required long Comparable { get; init; }

    /// <summary>Cases that some target could not run.</summary>
    public required long Unsupported { get; init; }

    /// <summary>Cases in which our machinery failed on some target.</summary>
    public required long HarnessErrors { get; init; }

    /// <summary>Cases that some target cut short.</summary>
    public required long BudgetSpent { get; init; }

    /// <summary>Cases whose outcomes differed in masked bits only.</summary>
    public required long Masked { get; init; }

    /// <summary>Diverging cases that nothing explains, those beyond the bounds of examination included.</summary>
    public required long New { get; init; }

    /// <summary>Diverging cases that a known entry describes.</summary>
    public required long Known { get; init; }

    /// <summary>Diverging cases that were explained away.</summary>
    public required long Explained { get; init; }

    /// <summary>Diverging cases that were counted as new without being examined, because there were too many.</summary>
    public required long Unexamined { get; init; }

    /// <summary>Ranges of cases that were run a second time because what differed at first did not come back, or was so much that the targets were made anew: one had become another.</summary>
    public required long RanAgain { get; init; }

    /// <summary>Matches by id of the known entry; entries that matched nothing are in it with 0.</summary>
    public required ImmutableSortedDictionary<string, long> KnownMatches { get; init; }

    /// <summary>How often each mask row hid a difference or explained one.</summary>
    public required ImmutableSortedDictionary<string, long> MaskRows { get; init; }

    /// <summary>What the campaign showed about rules and masks.</summary>
    public required CampaignEvidence Evidence { get; init; }

    /// <summary>Signatures in the order of their first cases, explained ones included.</summary>
    public required ImmutableArray<TriagedSignature> Signatures { get; init; }

    /// <summary>The targets.</summary>
    public required ImmutableArray<TargetSummary> Targets { get; init; }

    /// <summary>Sum of the hashes of the cases.</summary>
    public required ulong CaseDigest { get; init; }

    /// <summary>Time from start to end.</summary>
    public required TimeSpan Elapsed { get; init; }

    /// <summary>Troubles that did not stop the campaign, such as a journal that could not be written.</summary>
    public required ImmutableArray<string> Troubles { get; init; }

    /// <summary>What stopped the campaign early: an unavailable target or a broken invariant; null otherwise.</summary>
    public Exception? Failure { get; init; }

    /// <summary>True when the campaign was asked to stop.</summary>
    public bool Cancelled { get; init; }

    /// <summary>New findings, in the order of their first cases.</summary>
    public IEnumerable<TriagedSignature> Findings => Signatures.Where(s => s.Verdict.Kind == VerdictKind.New);
}

/// <summary>A campaign at one moment, for display.</summary>
/// <param name="Elapsed">Time since the start.</param>
/// <param name="Cases">Cases run.</param>
/// <param name="Comparable">Of those that triage has seen, cases with two or more comparable outcomes.</param>
/// <param name="Unsupported">Cases that some target could not run.</param>
/// <param name="HarnessErrors">Cases in which our machinery failed.</param>
/// <param name="New">Diverging cases that nothing explains.</param>
/// <param name="Known">Diverging cases that a known entry describes.</param>
/// <param name="Explained">Diverging cases that were explained away.</param>
/// <param name="Findings">Distinct new findings.</param>
/// <param name="WaitingRanges">Ranges that wait for triage.</param>
/// <param name="TargetRates">Cases a second and job of each target while it was at work.</param>
public sealed record CampaignProgress(
    TimeSpan Elapsed,
    long Cases,
    long Comparable,
    long Unsupported,
    long HarnessErrors,
    long New,
    long Known,
    long Explained,
    int Findings,
    int WaitingRanges,
    ImmutableArray<double> TargetRates);
