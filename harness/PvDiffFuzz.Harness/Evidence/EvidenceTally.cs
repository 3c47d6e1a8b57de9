using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Counts for <see cref="CampaignEvidence"/>; sums do not depend on their order.</summary>
/// <param name="targets">Number of targets.</param>
internal sealed class EvidenceTally(int targets)
{
    private readonly Dictionary<MaskedBit, (long Masked, long Hid)> _masks = [];
    private long[] _executed = [];
    private long[][] _confirmed = [];
    private long[][] _contradicted = [];

    /// <summary>Cases sampled.</summary>
    public long Sampled { get; set; }

    /// <summary>A sampled case executed rules.</summary>
    /// <param name="counts">Uses of each rule.</param>
    /// <param name="confirms">Which targets agreed with the model.</param>
    public void Execute(ReadOnlySpan<int> counts, ReadOnlySpan<bool> confirms)
    {
        MakeRoom(counts.Length);
        Mark(_executed, counts);
        for (int target = 0; target < targets; target++)
        {
            if (confirms[target])
            {
                Mark(_confirmed[target], counts);
            }
        }
    }

    /// <summary>A target differed from the model where these rules were executed.</summary>
    public void Contradict(ReadOnlySpan<int> counts, int target)
    {
        MakeRoom(counts.Length);
        Mark(_contradicted[target], counts);
    }

    /// <summary>A bit was masked in a sampled case.</summary>
    public void Mask(MaskedBit bit) => CollectionsMarshal.GetValueRefOrAddDefault(_masks, bit, out _).Masked++;

    /// <summary>A masked bit hid a difference.</summary>
    public void Hide(MaskedBit bit) => CollectionsMarshal.GetValueRefOrAddDefault(_masks, bit, out _).Hid++;

    /// <summary>Adds another tally of the same targets and rules.</summary>
    public void Add(EvidenceTally other)
    {
        Sampled += other.Sampled;
        foreach ((MaskedBit bit, (long masked, long hid)) in other._masks)
        {
            ref (long Masked, long Hid) sum = ref CollectionsMarshal.GetValueRefOrAddDefault(_masks, bit, out _);
            sum = (sum.Masked + masked, sum.Hid + hid);
        }

        if (other._executed.Length > 0)
        {
            MakeRoom(other._executed.Length);
            Sum(_executed, other._executed);
            for (int target = 0; target < targets; target++)
            {
                Sum(_confirmed[target], other._confirmed[target]);
                Sum(_contradicted[target], other._contradicted[target]);
            }
        }
    }

    /// <summary>The counts as evidence.</summary>
    /// <param name="infos">The targets.</param>
    /// <param name="rules">The rules; empty when they were not counted.</param>
    public CampaignEvidence ToEvidence(ImmutableArray<TargetInfo> infos, ImmutableArray<RuleName> rules)
    {
        if (!rules.IsEmpty)
        {
            MakeRoom(rules.Length);
        }

        // Rows of targets are few and all known, so those that never hid anything show, too.
        foreach (MaskedBit bit in infos.SelectMany(i => i.Masks).Select(Hidden.Of))
        {
            _masks.TryAdd(bit, default);
        }

        return new CampaignEvidence
        {
            Campaigns = 1,
            Sampled = Sampled,
            Targets = [.. infos.Select(i => $"{i.Name} [{i.Fingerprint}]")],
            Rules = [.. rules.Select((rule, i) => new RuleEvidence(rule, _executed[i], ByTarget(infos, _confirmed, i), ByTarget(infos, _contradicted, i)))],
            Masks = [.. _masks.Select(m => new MaskEvidence(m.Key, m.Value.Masked, m.Value.Hid)).OrderBy(m => m.Bit.Row, StringComparer.Ordinal).ThenBy(m => m.Bit.Form, StringComparer.Ordinal).ThenBy(m => m.Bit.Bit, StringComparer.Ordinal)],
        };
    }

    private static ImmutableSortedDictionary<string, long> ByTarget(ImmutableArray<TargetInfo> infos, long[][] counts, int rule) =>
        infos.Select((info, target) => (info.Name, Count: counts[target][rule])).Where(c => c.Count > 0).ToImmutableSortedDictionary(c => c.Name, c => c.Count, StringComparer.Ordinal);

    private static void Mark(long[] sums, ReadOnlySpan<int> counts)
    {
        for (int rule = 0; rule < counts.Length; rule++)
        {
            sums[rule] += counts[rule] > 0 ? 1 : 0;
        }
    }

    private static void Sum(long[] sums, long[] others)
    {
        for (int i = 0; i < others.Length; i++)
        {
            sums[i] += others[i];
        }
    }

    private void MakeRoom(int rules)
    {
        if (_executed.Length == 0)
        {
            _executed = new long[rules];
            _confirmed = [.. Enumerable.Range(0, targets).Select(_ => new long[rules])];
            _contradicted = [.. Enumerable.Range(0, targets).Select(_ => new long[rules])];
        }
    }
}
