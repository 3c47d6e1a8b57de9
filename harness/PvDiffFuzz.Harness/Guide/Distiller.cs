using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A corpus made small.</summary>
/// <param name="Kept">Indices of the cases that together show everything, in order.</param>
/// <param name="Edges">Edges that the corpus takes, by class of how often.</param>
/// <param name="Rules">Rules that it executes.</param>
/// <param name="Useless">Cases that the model cannot run or that are not well formed.</param>
public sealed record Distilled(ImmutableArray<int> Kept, int Edges, int Rules, int Useless);

/// <summary>Chooses few cases that together take every edge, as often, and execute every rule that all of them do.</summary>
/// <remarks>Greedy set cover: each time the case that adds most, the smaller one of two. At most a logarithmic factor from the fewest, and no chosen case is covered by the others.</remarks>
public static class Distiller
{
    /// <summary>The order in which cases are taken: more features, then smaller, then earlier.</summary>
    private static readonly Comparer<Gain> BestFirst = Comparer<Gain>.Create((one, other) =>
        one.Features != other.Features ? other.Features.CompareTo(one.Features)
        : CaseSize.Compare(one.Case, other.Case) is int size and not 0 ? size
        : one.Index.CompareTo(other.Index));

    /// <summary>Chooses.</summary>
    /// <param name="model">The model of the cases' ABI.</param>
    /// <param name="cases">The corpus.</param>
    public static Distilled Distil(IProbedModel model, IReadOnlyList<TestCase> cases)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(cases);
        int[]?[] features = [.. cases.Select(testCase => FeaturesOf(model, testCase))];
        HashSet<int> uncovered = [.. features.OfType<int[]>().SelectMany(own => own)];
        int rules = uncovered.Count(feature => feature >= SeenFeatures.OfRule(0));
        int edges = uncovered.Count - rules;
        List<int> kept = [];
        PriorityQueue<int, Gain> queue = new(BestFirst);
        for (int i = 0; i < features.Length; i++)
        {
            if (features[i] is int[] own)
            {
                queue.Enqueue(i, new Gain(own.Length, cases[i], i));
            }
        }

        // A gain only shrinks, so that one that is still the greatest when it is counted anew is the greatest.
        while (uncovered.Count > 0 && queue.TryDequeue(out int best, out Gain promised))
        {
            int gain = features[best]!.Count(uncovered.Contains);
            if (gain == promised.Features)
            {
                uncovered.ExceptWith(features[best]!);
                kept.Add(best);
            }
            else if (gain > 0)
            {
                queue.Enqueue(best, promised with { Features = gain });
            }
        }

        return new Distilled([.. WithoutCovered(kept, features).Order()], edges, rules, features.Count(own => own is null));
    }

    /// <summary>What was chosen early may be covered by what was chosen after it.</summary>
    private static List<int> WithoutCovered(List<int> kept, int[]?[] features)
    {
        Dictionary<int, int> times = kept.SelectMany(i => features[i]!).CountBy(feature => feature).ToDictionary();
        List<int> needed = [];
        foreach (int i in kept)
        {
            if (features[i]!.Any(feature => times[feature] == 1))
            {
                needed.Add(i);
                continue;
            }

            Array.ForEach(features[i]!, feature => times[feature]--);
        }

        return needed;
    }

    /// <summary>Edges and rules of a case; null when it cannot be run.</summary>
    private static int[]? FeaturesOf(IProbedModel model, TestCase testCase)
    {
        if (testCase.Check() is not null)
        {
            return null;
        }

        // The first run may take edges because of the case before.
        model.Run(testCase);
        model.Edges.Clear();
        bool comparable = model.Run(testCase).Comparable;
        SeenFeatures none = new(model.Rules.Length, 0);
        List<int> found = [];
        none.TakeNewEdges(model.Edges, found);
        int[] counts = new int[model.Rules.Length];
        model.AddRules(counts);
        found.AddRange(counts.Select((uses, rule) => (uses, rule)).Where(use => use.uses > 0).Select(use => SeenFeatures.OfRule(use.rule)));
        return comparable ? [.. found] : null;
    }

    private readonly record struct Gain(int Features, TestCase Case, int Index);
}
