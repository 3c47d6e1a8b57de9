using System.Collections.Immutable;

namespace PvDiffFuzz.Harness;

/// <summary>What a campaign showed about one rule.</summary>
/// <param name="Rule">The rule.</param>
/// <param name="Executed">Sampled cases that executed it.</param>
/// <param name="Confirmed">By target: sampled cases that executed it and on which the target, of another lineage than the model, agreed with the model.</param>
/// <param name="Contradicted">By target: diverging cases, known or new, in which the target differed from the model at an instruction that executed it.</param>
public sealed record RuleEvidence(
    RuleName Rule, long Executed, ImmutableSortedDictionary<string, long> Confirmed, ImmutableSortedDictionary<string, long> Contradicted);

/// <summary>What a campaign showed about one masked bit of one form.</summary>
/// <param name="Bit">The bit.</param>
/// <param name="Masked">Sampled cases at whose end it was masked; 0 for rows of targets, which are looked at only when something differs.</param>
/// <param name="Hid">Cases, of all, in which two targets differed in it.</param>
public sealed record MaskEvidence(MaskedBit Bit, long Masked, long Hid);

/// <summary>What campaigns showed about the rules of a model and about the masks. Sums of campaigns are evidence, too.</summary>
public sealed record CampaignEvidence
{
    /// <summary>One case in so many is sampled.</summary>
    public const int SampleEvery = 32;

    /// <summary>No campaign.</summary>
    public static CampaignEvidence None { get; } = new();

    /// <summary>Campaigns that it is the sum of.</summary>
    public int Campaigns { get; init; }

    /// <summary>Cases run.</summary>
    public long Cases { get; init; }

    /// <summary>Cases with two or more comparable outcomes.</summary>
    public long Comparable { get; init; }

    /// <summary>Cases whose rules and masks were looked at.</summary>
    public long Sampled { get; init; }

    /// <summary>Names and fingerprints of the targets.</summary>
    public ImmutableSortedSet<string> Targets { get; init; } = ImmutableSortedSet.Create<string>(StringComparer.Ordinal);

    /// <summary>Iced's names of the forms that models executed, of all cases.</summary>
    public ImmutableSortedSet<string> Forms { get; init; } = ImmutableSortedSet.Create<string>(StringComparer.Ordinal);

    /// <summary>Every rule, those that nothing executed included; empty when rules were not counted.</summary>
    public ImmutableArray<RuleEvidence> Rules { get; init; } = [];

    /// <summary>Every masked bit that was seen.</summary>
    public ImmutableArray<MaskEvidence> Masks { get; init; } = [];

    /// <summary>How coverage grew, in the order of cases; of a sum, that of the campaign that went on longest. Empty when nobody counted edges.</summary>
    public ImmutableArray<CoverageSample> Progress { get; init; } = [];

    /// <summary>The sum of two.</summary>
    public CampaignEvidence Add(CampaignEvidence other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return new CampaignEvidence
        {
            Campaigns = Campaigns + other.Campaigns,
            Cases = Cases + other.Cases,
            Comparable = Comparable + other.Comparable,
            Sampled = Sampled + other.Sampled,
            Targets = Targets.Union(other.Targets),
            Forms = Forms.Union(other.Forms),
            Progress = Longest(Progress, other.Progress),
            Rules =
            [
                .. Rules.Concat(other.Rules).GroupBy(r => r.Rule)
                    .Select(g => new RuleEvidence(g.Key, g.Sum(r => r.Executed), Sum(g.Select(r => r.Confirmed)), Sum(g.Select(r => r.Contradicted)))),
            ],
            Masks = [.. Masks.Concat(other.Masks).GroupBy(m => m.Bit).Select(g => new MaskEvidence(g.Key, g.Sum(m => m.Masked), g.Sum(m => m.Hid)))],
        };
    }

    private static ImmutableArray<CoverageSample> Longest(ImmutableArray<CoverageSample> one, ImmutableArray<CoverageSample> other) =>
        other.LastOrDefault()?.Cases > (one.LastOrDefault()?.Cases ?? 0) ? other : one;

    private static ImmutableSortedDictionary<string, long> Sum(IEnumerable<ImmutableSortedDictionary<string, long>> counts) =>
        counts.SelectMany(c => c).GroupBy(c => c.Key, StringComparer.Ordinal).ToImmutableSortedDictionary(g => g.Key, g => g.Sum(c => c.Value), StringComparer.Ordinal);
}
