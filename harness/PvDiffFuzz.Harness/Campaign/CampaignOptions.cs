using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Cases with adjacent indices.</summary>
/// <param name="First">Index of the first.</param>
/// <param name="Count">How many.</param>
public readonly record struct CaseRange(ulong First, ulong Count)
{
    /// <summary>True when an index lies in the range.</summary>
    public bool Contains(ulong index) => index - First < Count;
}

/// <summary>One of several campaigns that share a seed: every <paramref name="Of"/>-th range of cases is this one's.</summary>
/// <param name="Number">From 0.</param>
/// <param name="Of">How many, 1 or more.</param>
public readonly record struct Shard(int Number, int Of)
{
    /// <summary>All of it.</summary>
    public static Shard Whole { get; } = new(0, 1);

    /// <inheritdoc/>
    public override string ToString() => $"{Number}/{Of}";
}

/// <summary>What a campaign does. Equal options and a count give equal findings, whatever the number of jobs.</summary>
public sealed record CampaignOptions
{
    /// <summary>Seed of the generator; it names the campaign in journals and cases.</summary>
    public required ulong Seed { get; init; }

    /// <summary>What makes the cases, in one line, for the journal: with another source a seed names other cases. Empty when nobody said.</summary>
    public string Source { get; init; } = "";

    /// <summary>Index of the first case.</summary>
    public ulong Start { get; init; }

    /// <summary>Number of indices, all shards together; null for no end.</summary>
    public ulong? Count { get; init; }

    /// <summary>Time after which no further batch starts; null for no limit.</summary>
    public TimeSpan? Duration { get; init; }

    /// <summary>Threads that run cases, each with its own targets; 1 or more.</summary>
    public int Jobs { get; init; } = 1;

    /// <summary>Which part of the indices is ours.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    /// <summary>Cases handed to a target at once.</summary>
    public int BatchSize { get; init; } = 512;

    /// <summary>Cases that a job takes at a time and the journal names as one. Part of what makes runs equal.</summary>
    public int RangeSize { get; init; } = 8192;

    /// <summary>Cases that are not run, such as the range that was running when the host crashed.</summary>
    public ImmutableArray<CaseRange> Skip { get; init; } = [];

    /// <summary>Most distinct signatures that are examined; the rest is counted.</summary>
    public int MaximumSignatures { get; init; } = 4096;

    /// <summary>Most diverging cases in a range that are traced to their first divergence; the rest is counted.</summary>
    public int MaximumLocatedPerRange { get; init; } = 1024;

    /// <summary>Ranges that may wait for triage before jobs wait too.</summary>
    public int MaximumWaiting { get; init; } = 64;

    /// <summary>What is wrong with these options, or null.</summary>
    public string? Check() =>
        Jobs < 1 ? $"{Jobs} jobs; there is at least 1"
        : BatchSize < 1 || RangeSize < BatchSize || RangeSize % BatchSize != 0 ? $"batches of {BatchSize} in ranges of {RangeSize}; a range is a whole number of batches"
        : Shard.Of < 1 || Shard.Number < 0 || Shard.Number >= Shard.Of ? $"shard {Shard}; a shard is 0/1, or n/m with n from 0 to m - 1"
        : MaximumWaiting < 1 ? $"{MaximumWaiting} ranges may wait; at least 1 must"
        : null;
}

/// <summary>What a campaign works with. Factories are called on the thread that uses what they make.</summary>
public sealed record CampaignParts
{
    /// <summary>One factory a target, two targets or more for anything to be compared.</summary>
    public required ImmutableArray<Func<ITarget>> Targets { get; init; }

    /// <summary>Makes the source of cases.</summary>
    public required Func<ICaseSource> Source { get; init; }

    /// <summary>Makes what tells which bits are undefined.</summary>
    public Func<CaseAnalyst> Analyst { get; init; } = () => new CaseAnalyst(null, null, CpuVendor.Intel);

    /// <summary>Makes what counts the rules that cases execute; null when nobody can.</summary>
    public Func<IRuleCounter>? Rules { get; init; }

    /// <summary>Lets the campaign steer itself; null for cases from <see cref="Source"/> alone. Then <see cref="Rules"/> are not asked: the probed model counts.</summary>
    public GuideParts? Guide { get; init; }

    /// <summary>Keeps what is known of rules and masks so far: called now and then and at the end, on the campaign's thread. Trouble is an <see cref="IOException"/>. Null to keep it in memory only.</summary>
    public Action<CampaignEvidence>? SaveEvidence { get; init; }

    /// <summary>Described divergences.</summary>
    public KnownSet Known { get; init; } = KnownSet.Empty;

    /// <summary>Keeps findings; null to keep them in memory only.</summary>
    public IFindingStore? Store { get; init; }

    /// <summary>Path of the journal; null for none.</summary>
    public string? JournalPath { get; init; }

    /// <summary>Doubts in order.</summary>
    public ImmutableArray<IDoubt> Doubts { get; init; } = Harness.Doubts.All;

    /// <summary>Reductions in order.</summary>
    public ImmutableArray<IReduction> Reductions { get; init; } = Harness.Reductions.All;

    /// <summary>Bounds of minimising one finding.</summary>
    public MinimiserLimits MinimiserLimits { get; init; } = new();

    /// <summary>False for cases that must not run on the targets; reductions make such cases by accident. Called on several threads. Null when any may run.</summary>
    public Func<TestCase, bool>? Allowed { get; init; }

    /// <summary>Clock.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
