using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A divergence that no known entry describes, as a job hands it to triage.</summary>
/// <param name="Index">Index of the first case that showed it.</param>
/// <param name="Divergence">Cut to its first divergence, or as seen when it did not come back.</param>
/// <param name="CameBack">False when the case did not diverge when it was run again at once.</param>
internal sealed record Suspicion(ulong Index, Divergence Divergence, bool CameBack)
{
    /// <summary>Cases that ran before it; default when <see cref="CampaignParts.Source"/> makes them again from their indices.</summary>
    public ImmutableArray<TestCase> Neighbours { get; init; }

    /// <summary>Diverging cases with this signature in the range.</summary>
    public long Count { get; set; } = 1;
}

/// <summary>How many outcomes of each kind a target gave, and how long it took.</summary>
internal sealed class TargetTally
{
    /// <summary>Outcomes by <see cref="EndKind"/>.</summary>
    public long[] Ends { get; } = new long[Enum.GetValues<EndKind>().Length];

    /// <summary>Time spent in the target, in stopwatch ticks.</summary>
    public long Ticks { get; set; }

    /// <summary>Sum of the hashes of its outcomes.</summary>
    public ulong Digest { get; set; }

    /// <summary>Reasons for outcomes that could not be compared, at most <see cref="BoundedCounts.Capacity"/> of them.</summary>
    public BoundedCounts Reasons { get; } = new();

    /// <summary>Adds another tally.</summary>
    public void Add(TargetTally other)
    {
        for (int i = 0; i < Ends.Length; i++)
        {
            Ends[i] += other.Ends[i];
        }

        Ticks += other.Ticks;
        Digest += other.Digest;
        Reasons.Add(other.Reasons);
    }
}

/// <summary>Counts by name that cannot grow without bound: after <see cref="Capacity"/> names the rest share one.</summary>
/// <param name="capacity">Most names; <see cref="Unbounded"/> where something else bounds them.</param>
internal sealed class BoundedCounts(int capacity = BoundedCounts.Capacity)
{
    /// <summary>Most names.</summary>
    public const int Capacity = 256;

    /// <summary>For names of which there is a list, such as the known entries of a run.</summary>
    public const int Unbounded = int.MaxValue;

    private const string Rest = "(others)";
    private readonly SortedDictionary<string, long> _counts = new(StringComparer.Ordinal);

    /// <summary>Counts under a name.</summary>
    public void Add(string name, long count = 1)
    {
        if (!_counts.TryGetValue(name, out long before) && _counts.Count >= capacity)
        {
            name = Rest;
            _counts.TryGetValue(name, out before);
        }

        _counts[name] = before + count;
    }

    /// <summary>Sum of all counts.</summary>
    public long Total => _counts.Values.Sum();

    /// <summary>Adds all counts of another.</summary>
    public void Add(BoundedCounts other)
    {
        foreach ((string name, long count) in other._counts)
        {
            Add(name, count);
        }
    }

    /// <summary>The counts, by name.</summary>
    public ImmutableSortedDictionary<string, long> ToImmutable() => _counts.ToImmutableSortedDictionary(StringComparer.Ordinal);
}

/// <summary>What running a range of cases gave. Sums of these do not depend on their order, except for suspicions, which are taken in order.</summary>
internal sealed class RangeResult(CaseRange range, int targets)
{
    /// <summary>The range.</summary>
    public CaseRange Range { get; } = range;

    /// <summary>True when every case of it was run or skipped.</summary>
    public bool Complete { get; set; }

    /// <summary>Cases run.</summary>
    public long Cases { get; set; }

    /// <summary>Cases not run because of <see cref="CampaignOptions.Skip"/>.</summary>
    public long Skipped { get; set; }

    /// <summary>Cases with two or more comparable outcomes.</summary>
    public long Comparable { get; set; }

    /// <summary>Cases that some target could not run.</summary>
    public long Unsupported { get; set; }

    /// <summary>Cases in which our machinery failed on some target.</summary>
    public long HarnessErrors { get; set; }

    /// <summary>Cases that some target cut short.</summary>
    public long BudgetSpent { get; set; }

    /// <summary>Cases whose outcomes differed only in masked bits.</summary>
    public long Masked { get; set; }

    /// <summary>Divergences explained by consumed undefined bits.</summary>
    public long Undefined { get; set; }

    /// <summary>Divergences beyond <see cref="CampaignOptions.MaximumLocatedPerRange"/>: not examined.</summary>
    public long Unexamined { get; set; }

    /// <summary>Ranges that were run a second time, and of which this is the second result, because what differed at first did not come back, or was so much that the targets were made anew.</summary>
    public long RanAgain { get; set; }

    /// <summary>Sum of the hashes of the cases.</summary>
    public ulong CaseDigest { get; set; }

    /// <summary>By target.</summary>
    public TargetTally[] Targets { get; } = [.. Enumerable.Range(0, targets).Select(_ => new TargetTally())];

    /// <summary>Matches by known entry.</summary>
    public BoundedCounts Known { get; } = new(BoundedCounts.Unbounded);

    /// <summary>How often each mask row hid a difference.</summary>
    public BoundedCounts MaskRows { get; } = new();

    /// <summary>What the range showed about rules and masks.</summary>
    public EvidenceTally Evidence { get; } = new(targets);

    /// <summary>For triage, in index order, one a signature.</summary>
    public List<Suspicion> Suspicions { get; } = [];

    /// <summary>Adds the sums of another result; its suspicions are not taken over.</summary>
    public void Add(RangeResult other)
    {
        Cases += other.Cases;
        Skipped += other.Skipped;
        Comparable += other.Comparable;
        Unsupported += other.Unsupported;
        HarnessErrors += other.HarnessErrors;
        BudgetSpent += other.BudgetSpent;
        Masked += other.Masked;
        Undefined += other.Undefined;
        Unexamined += other.Unexamined;
        RanAgain += other.RanAgain;
        CaseDigest += other.CaseDigest;
        Known.Add(other.Known);
        MaskRows.Add(other.MaskRows);
        Evidence.Add(other.Evidence);
        for (int i = 0; i < Targets.Length; i++)
        {
            Targets[i].Add(other.Targets[i]);
        }
    }
}
