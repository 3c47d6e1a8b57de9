using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>Groups the outcomes of a case into camps. Knows no expected side: it can only say who differs from whom, and where.</summary>
/// <param name="targets">The targets, in the order of the outcomes.</param>
/// <param name="analyst">Says what is undefined; asked only when outcomes differ.</param>
public sealed class Comparer(ImmutableArray<TargetInfo> targets, CaseAnalyst analyst)
{
    /// <summary>The targets, in the order of the outcomes.</summary>
    public ImmutableArray<TargetInfo> Targets => targets;

    /// <summary>The common case at full speed: do all comparable outcomes agree to the last bit? Allocates nothing.</summary>
    /// <param name="outcomes">One array a target.</param>
    /// <param name="index">Which case.</param>
    /// <param name="comparable">Number of comparable outcomes.</param>
    /// <returns>True when no two comparable outcomes differ, which also holds when there are fewer than two.</returns>
    public static bool AllSame(ReadOnlySpan<Outcome[]> outcomes, int index, out int comparable)
    {
        Outcome? first = null;
        comparable = 0;
        bool same = true;
        bool partial = false;
        foreach (Outcome[] ofTarget in outcomes)
        {
            Outcome outcome = ofTarget[index];
            if (!outcome.Comparable)
            {
                continue;
            }

            comparable++;
            partial |= !outcome.System.Values.IsEmpty || !outcome.Alternatives.IsEmpty;
            if (first is null)
            {
                first = outcome;
            }
            else
            {
                same = same && OutcomeDiff.SameExactly(first, outcome);
            }
        }

        // Two that agree with different shapes of the first, or in what each of them shares with it, need not agree with each other.
        return same && (!partial || comparable < 3 || AllPairsSame(outcomes, index));
    }

    /// <summary>Compares all fields of all comparable outcomes.</summary>
    /// <param name="testCase">The case that was run.</param>
    /// <param name="outcomes">One outcome a target.</param>
    public Comparison Compare(TestCase testCase, ReadOnlySpan<Outcome> outcomes)
    {
        Outcome[] answers = outcomes.ToArray();
        CaseMask?[] cache = new CaseMask?[testCase.Responses.Length + 1];
        return Compare(testCase, answers, at => cache[Math.Min(Answers.Before(answers, at), cache.Length - 1)] ??= analyst.MaskAt(testCase, at, answers));
    }

    /// <summary>Compares under a given mask instead of the computed one.</summary>
    /// <param name="testCase">The case that was run.</param>
    /// <param name="outcomes">One outcome a target.</param>
    /// <param name="mask">What counts as undefined at every event.</param>
    public Comparison CompareUnder(TestCase testCase, ReadOnlySpan<Outcome> outcomes, CaseMask mask) => Compare(testCase, outcomes.ToArray(), _ => mask);

    private static bool AllPairsSame(ReadOnlySpan<Outcome[]> outcomes, int index)
    {
        for (int i = 0; i < outcomes.Length; i++)
        {
            for (int j = i + 1; j < outcomes.Length; j++)
            {
                Outcome a = outcomes[i][index];
                Outcome b = outcomes[j][index];
                if (a.Comparable && b.Comparable && !OutcomeDiff.SameExactly(a, b))
                {
                    return false;
                }
            }
        }

        return true;
    }

    private Comparison Compare(TestCase testCase, Outcome[] outcomes, Func<int, CaseMask> undefined)
    {
        int[] members = [.. Enumerable.Range(0, outcomes.Length).Where(i => outcomes[i].Comparable)];
        if (members.Length < 2)
        {
            return new Comparison { Result = ComparisonResult.NotComparable, Comparable = members.Length };
        }

        SortedSet<Field> fields = new(Field.Order);
        Hidden hidden = new();
        bool[,] same = new bool[members.Length, members.Length];
        for (int i = 0; i < members.Length; i++)
        {
            same[i, i] = true;
            for (int j = i + 1; j < members.Length; j++)
            {
                same[i, j] = same[j, i] = Same(testCase, outcomes, members[i], members[j], undefined, fields, hidden);
            }
        }

        ImmutableArray<Camp> camps = Group(members, same);
        if (camps.Length == 1)
        {
            return new Comparison { Result = ComparisonResult.Agreement, Comparable = members.Length, Camps = camps, HidingRows = hidden.Rows, HiddenBits = hidden.Bits };
        }

        CaseMask atEnd = undefined(int.MaxValue);
        return new Comparison
        {
            Result = ComparisonResult.Divergence,
            Comparable = members.Length,
            Camps = camps,
            DifferingPairs = PairsOf(members, same),
            Differences = [.. fields.Select(f => new FieldDifference(f, [.. camps.Select(c => f.ValueIn(outcomes[c.Members[0]], testCase.Abi))]))],
            HidingRows = hidden.Rows,
            HiddenBits = [.. atEnd.Parts.Where(p => atEnd.Consumed && p.Target == UndefinedTarget.Everything).Select(MaskedBit.Of)],
            Consumed = atEnd.Consumed,
            ConsumedRows = atEnd.Consumed ? atEnd.Rows : [],
            Dissenter = FindDissenter(camps),
        };
    }

    private bool Same(TestCase testCase, Outcome[] outcomes, int a, int b, Func<int, CaseMask> undefined, SortedSet<Field> fields, Hidden hidden)
    {
        if (OutcomeDiff.SameExactly(outcomes[a], outcomes[b]))
        {
            return true;
        }

        OutcomeDiff diff = new(testCase, RowsOf(targets[a], targets[b]), undefined, hidden);
        diff.Collect(outcomes[a], outcomes[b]);
        if (diff.Fields.Count == 0 || SameInAnotherShape(testCase, outcomes, a, b, undefined, hidden))
        {
            return true;
        }

        fields.UnionWith(diff.Fields);
        return false;
    }

    // What no allowed shape shows is reported against the first one.
    private bool SameInAnotherShape(TestCase testCase, Outcome[] outcomes, int a, int b, Func<int, CaseMask> undefined, Hidden hidden)
    {
        if (outcomes[a].Alternatives.IsEmpty && outcomes[b].Alternatives.IsEmpty)
        {
            return false;
        }

        foreach (Outcome one in OutcomeDiff.Shapes(outcomes[a]))
        {
            foreach (Outcome other in OutcomeDiff.Shapes(outcomes[b]))
            {
                Hidden here = new();
                OutcomeDiff diff = new(testCase, RowsOf(targets[a], targets[b]), undefined, here);
                diff.Collect(one, other);
                if (diff.Fields.Count == 0)
                {
                    hidden.Add(here);
                    return true;
                }
            }
        }

        return false;
    }

    private static ImmutableArray<(int Lower, int Higher)> PairsOf(int[] members, bool[,] same)
    {
        ImmutableArray<(int, int)>.Builder pairs = ImmutableArray.CreateBuilder<(int, int)>();
        for (int i = 0; i < members.Length; i++)
        {
            for (int j = i + 1; j < members.Length; j++)
            {
                if (!same[i, j])
                {
                    pairs.Add((members[i], members[j]));
                }
            }
        }

        return pairs.ToImmutable();
    }

    private static ImmutableArray<TargetMask> RowsOf(TargetInfo a, TargetInfo b) =>
        a.Masks.IsEmpty ? b.Masks : b.Masks.IsEmpty ? a.Masks : [.. a.Masks.Concat(b.Masks).DistinctBy(r => r.Id, StringComparer.Ordinal)];

    // Two targets share a camp when they agree with each other and with exactly the same others. Rows of one target's mask may hide its
    // differences from two others that differ among themselves; such a target is then a camp of its own, whatever the order of targets.
    private static ImmutableArray<Camp> Group(int[] members, bool[,] same)
    {
        List<Camp> camps = [];
        bool[] taken = new bool[members.Length];
        for (int i = 0; i < members.Length; i++)
        {
            if (taken[i])
            {
                continue;
            }

            ImmutableArray<int>.Builder camp = ImmutableArray.CreateBuilder<int>();
            for (int j = i; j < members.Length; j++)
            {
                if (!taken[j] && Twins(same, i, j))
                {
                    taken[j] = true;
                    camp.Add(members[j]);
                }
            }

            camps.Add(new Camp(camp.ToImmutable()));
        }

        return [.. camps];
    }

    private static bool Twins(bool[,] same, int i, int j)
    {
        for (int k = 0; k < same.GetLength(0); k++)
        {
            if (same[i, k] != same[j, k])
            {
                return false;
            }
        }

        return true;
    }

    // Targets of one lineage share an implementation: together they have one vote. When they disagree, what tells them apart decided, such as the host or the
    // hypervisor between: then each fingerprint has a vote, and none when it disagrees with itself.
    private int? FindDissenter(ImmutableArray<Camp> camps)
    {
        Dictionary<string, int> lineages = VotesBy(camps, t => t.Lineage);
        Dictionary<string, int> votes = VotesBy(camps, t => lineages[t.Lineage] >= 0 ? t.Lineage : $"{t.Lineage} {t.Fingerprint}");

        int[] counts = new int[camps.Length];
        foreach (int camp in votes.Values.Where(v => v >= 0))
        {
            counts[camp]++;
        }

        int total = counts.Sum();
        bool majority = total >= 3 && counts.Max() * 2 > total;
        return majority && camps.Length == 2 ? Array.IndexOf(counts, counts.Min()) : null;
    }

    // The camp that each voter stands in, or -1 for one who stands in two.
    private Dictionary<string, int> VotesBy(ImmutableArray<Camp> camps, Func<TargetInfo, string> voter)
    {
        Dictionary<string, int> votes = new(StringComparer.Ordinal);
        for (int camp = 0; camp < camps.Length; camp++)
        {
            foreach (int member in camps[camp].Members)
            {
                string name = voter(targets[member]);
                votes[name] = votes.TryGetValue(name, out int other) && other != camp ? -1 : camp;
            }
        }

        return votes;
    }
}
