using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What <c>pvdf fuzz --json</c> prints, to be serialised with camelCase names. 64-bit numbers are hexadecimal strings.</summary>
public sealed record FuzzReport
{
    /// <summary>Cases run.</summary>
    public required long Cases { get; init; }

    /// <summary>Cases with two or more comparable outcomes.</summary>
    public required long Comparable { get; init; }

    /// <summary>Cases that some target could not run.</summary>
    public required long Unsupported { get; init; }

    /// <summary>Cases in which our machinery failed on some target.</summary>
    public required long HarnessErrors { get; init; }

    /// <summary>Cases that some target cut short.</summary>
    public required long BudgetSpent { get; init; }

    /// <summary>Cases whose outcomes differed only in masked bits.</summary>
    public required long Masked { get; init; }

    /// <summary>Cases left out on request.</summary>
    public required long Skipped { get; init; }

    /// <summary>Diverging cases.</summary>
    public required DivergenceCounts Divergences { get; init; }

    /// <summary>New findings, in the order of their first cases.</summary>
    public required ImmutableArray<FindingReport> Findings { get; init; }

    /// <summary>What was explained away, in the order of first cases.</summary>
    public required ImmutableArray<ExplainedReport> Explained { get; init; }

    /// <summary>Matches by known entry; 0 for an entry that matched nothing.</summary>
    public required ImmutableSortedDictionary<string, long> KnownMatches { get; init; }

    /// <summary>How often each mask row hid a difference or explained one.</summary>
    public required ImmutableSortedDictionary<string, long> MaskRows { get; init; }

    /// <summary>Cases a second over the whole run.</summary>
    public required double CasesPerSecond { get; init; }

    /// <summary>Length of the run.</summary>
    public required double Seconds { get; init; }

    /// <summary>Seed.</summary>
    public required string Seed { get; init; }

    /// <summary>Shard, as <c>0/1</c>.</summary>
    public required string Shard { get; init; }

    /// <summary>Sum of the hashes of all cases.</summary>
    public required string Digest { get; init; }

    /// <summary>The targets.</summary>
    public required ImmutableArray<TargetReport> Targets { get; init; }

    /// <summary>Troubles that did not stop the run, and what stopped it early if anything did.</summary>
    public required ImmutableArray<string> Troubles { get; init; }

    /// <summary>The report of a campaign.</summary>
    public static FuzzReport Of(CampaignSummary summary)
    {
        ArgumentNullException.ThrowIfNull(summary);
        double seconds = summary.Elapsed.TotalSeconds;
        return new FuzzReport
        {
            Cases = summary.Cases,
            Comparable = summary.Comparable,
            Unsupported = summary.Unsupported,
            HarnessErrors = summary.HarnessErrors,
            BudgetSpent = summary.BudgetSpent,
            Masked = summary.Masked,
            Skipped = summary.Skipped,
            Divergences = new DivergenceCounts(summary.New, summary.Known, summary.Explained, summary.Unexamined),
            Findings = [.. summary.Findings.Select(f => new FindingReport(f.Signature.ToString(), f.Path, f.Finding?.Instructions ?? 0, f.Count, f.Index.ToString("x")))],
            Explained =
            [
                .. summary.Signatures.Where(s => s.Verdict.Kind != VerdictKind.New)
                    .Select(s => new ExplainedReport(s.Signature.ToString(), s.Verdict.ToString(), s.Count, s.Index.ToString("x"))),
            ],
            KnownMatches = summary.KnownMatches,
            MaskRows = summary.MaskRows,
            CasesPerSecond = seconds > 0 ? summary.Cases / seconds : 0,
            Seconds = seconds,
            Seed = summary.Seed.ToString("x"),
            Shard = summary.Shard.ToString(),
            Digest = summary.CaseDigest.ToString("x16"),
            Targets = [.. summary.Targets.Select(TargetReport.Of)],
            Troubles = summary.Failure is null ? summary.Troubles : summary.Troubles.Add($"stopped: {summary.Failure.Message}"),
        };
    }
}

/// <summary>Diverging cases by verdict.</summary>
/// <param name="New">Nothing explains them.</param>
/// <param name="Known">A known entry describes them.</param>
/// <param name="Explained">Explained away.</param>
/// <param name="Unexamined">Part of <paramref name="New"/> that was only counted, because there were too many.</param>
public sealed record DivergenceCounts(long New, long Known, long Explained, long Unexamined);

/// <summary>A new finding.</summary>
/// <param name="Signature">What makes it this finding.</param>
/// <param name="Case">Its file, or null when it could not be saved.</param>
/// <param name="Instructions">Instructions in the minimised case.</param>
/// <param name="Count">Diverging cases with this signature.</param>
/// <param name="Index">Index of the first of them.</param>
public sealed record FindingReport(string Signature, string? Case, int Instructions, long Count, string Index);

/// <summary>A signature that was explained.</summary>
/// <param name="Signature">The signature.</param>
/// <param name="Verdict">The verdict and why.</param>
/// <param name="Count">Diverging cases.</param>
/// <param name="Index">Index of the first of them.</param>
public sealed record ExplainedReport(string Signature, string Verdict, long Count, string Index);

/// <summary>A target in a report.</summary>
/// <param name="Name">Name.</param>
/// <param name="Kind">What executes, in lower case.</param>
/// <param name="Lineage">Whose vote it shares.</param>
/// <param name="Fingerprint">Facts by name.</param>
/// <param name="Outcomes">Outcomes by kind of end, in camelCase.</param>
/// <param name="CasesPerSecond">Cases a second and job while it was at work.</param>
/// <param name="Digest">Sum of the hashes of its outcomes.</param>
/// <param name="Reasons">Reasons for outcomes that are not comparable, with counts.</param>
public sealed record TargetReport(
    string Name,
    string Kind,
    string Lineage,
    ImmutableSortedDictionary<string, string> Fingerprint,
    ImmutableSortedDictionary<string, long> Outcomes,
    double CasesPerSecond,
    string Digest,
    ImmutableSortedDictionary<string, long> Reasons)
{
    /// <summary>The report of a target.</summary>
    public static TargetReport Of(TargetSummary summary)
    {
        ArgumentNullException.ThrowIfNull(summary);
        return new TargetReport(
            summary.Info.Name,
            summary.Info.Kind.ToString().ToLowerInvariant(),
            summary.Info.Lineage,
            FactsOf(summary.Info),
            summary.Ends.ToImmutableSortedDictionary(e => char.ToLowerInvariant(e.Key.ToString()[0]) + e.Key.ToString()[1..], e => e.Value, StringComparer.Ordinal),
            summary.Rate,
            summary.Digest.ToString("x16"),
            summary.Reasons);
    }

    /// <summary>Facts of a fingerprint by name; of a name that occurs twice, the last.</summary>
    internal static ImmutableSortedDictionary<string, string> FactsOf(TargetInfo info)
    {
        ImmutableSortedDictionary<string, string>.Builder facts = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach ((string name, string value) in info.Fingerprint.Facts)
        {
            facts[name] = value;
        }

        return facts.ToImmutable();
    }
}
