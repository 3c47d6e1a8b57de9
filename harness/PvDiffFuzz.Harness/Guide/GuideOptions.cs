using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What makes a case interesting.</summary>
[Flags]
public enum GuideBy
{
    /// <summary>Nothing: every case comes from the generator.</summary>
    None = 0,

    /// <summary>New edges of the model, by how often they are taken, and new sequences of events.</summary>
    Coverage = 1,

    /// <summary>Rules of the model that are executed, or confirmed by a target, for the first time.</summary>
    Rules = 2,

    /// <summary>Either.</summary>
    Both = Coverage | Rules,
}

/// <summary>How a campaign steers itself.</summary>
public sealed record GuideOptions
{
    /// <summary>What makes a case interesting.</summary>
    public GuideBy By { get; init; } = GuideBy.Both;

    /// <summary>Share of cases in percent that come from the generator, in the setting that promises most.</summary>
    public int FreshPercent { get; init; } = 50;

    /// <summary>Share of fresh cases in percent that are in the generator's usual setting; the others are in any.</summary>
    public int UsualPercent { get; init; } = 30;

    /// <summary>Share of fresh cases in percent that get a response for each instruction.</summary>
    public int LadderPercent { get; init; } = 60;

    /// <summary>Most mutations on top of each other, 1 or more.</summary>
    public int MaximumStack { get; init; } = 6;

    /// <summary>Most cases in the corpus; what is found after that steers nothing.</summary>
    public int MaximumEntries { get; init; } = 100_000;

    /// <inheritdoc/>
    public override string ToString() => $"guide {CaseGuide.Version} by={By} fresh={FreshPercent} usual={UsualPercent} ladder={LadderPercent} stack={MaximumStack}";
}

/// <summary>What a guided campaign needs besides <see cref="CampaignParts"/>.</summary>
public sealed record GuideParts
{
    /// <summary>How it steers.</summary>
    public GuideOptions Options { get; init; } = new();

    /// <summary>Makes the probed model of the cases' ABI. Called on the thread that uses it.</summary>
    public required Func<IProbedModel> Model { get; init; }

    /// <summary>Makes fresh cases.</summary>
    public required Func<ISettingsSource> Source { get; init; }

    /// <summary>Index of the target that the probed model stands for, so that it need not run as well; null when it is none of them.</summary>
    public int? Target { get; init; }

    /// <summary>Cases to begin with, in an order that matters.</summary>
    public ImmutableArray<TestCase> Corpus { get; init; } = [];

    /// <summary>Keeps cases that were found interesting: called now and then and at the end, each time with those since the last. Trouble is an <see cref="IOException"/>. Null to keep them in memory only.</summary>
    public Action<IReadOnlyList<TestCase>>? Save { get; init; }
}
