using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>What counts as new, and how a corpus is made small.</summary>
public sealed class FeatureTests
{
    /// <summary>An edge is another feature when it is taken much more often: once, twice, three times, from 4, 8, 16, 32 and 128 times.</summary>
    [Fact]
    public void EdgesCountByHowOften()
    {
        SeenFeatures seen = new(0, 0);
        byte[] map = new byte[SeenFeatures.MapSize];
        int news = 0;
        foreach (byte times in (byte[])[1, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 127, 128, 255])
        {
            map[65535] = times;
            List<int> found = [];
            seen.TakeNewEdges(map, found);
            Assert.True(map.AsSpan().IndexOfAnyExcept((byte)0) < 0);
            found.ForEach(feature => seen.Add(feature));
            news += found.Count;
        }

        Assert.Equal(8, news);
        Assert.Equal(1, seen.EdgeCount);
    }

    /// <summary>Sequences of events are features: the same events in another order are others.</summary>
    [Fact]
    public void OrderOfEventsCounts()
    {
        SeenFeatures seen = new(0, 0);

        Assert.Equal(2, New([13, 6]));
        Assert.Equal(0, New([13, 6]));
        Assert.Equal(2, New([6, 13]));
        Assert.Equal(1, New([13, 6, 14]));
        Assert.Equal(0, New([13]));
        Assert.Equal(1, New([13, 6, 14, 0]));
        Assert.Equal(3, New([6, 6, 14, 0]));
        Assert.Equal(1, New([13, 6, 14, 0, 0]));

        // Interrupts from 32 up are one.
        Assert.Equal(1, New([32]));
        Assert.Equal(0, New([255]));

        int New(byte[] vectors)
        {
            List<int> found = [];
            seen.NewPaths(Cases.Fault() with { Events = [.. vectors.Select(vector => Cases.Fault(vector).Events[0])] }, found);
            found.ForEach(feature => seen.Add(feature));
            return found.Count;
        }
    }

    [Fact]
    public void RulesAndConfirmationsAreApart()
    {
        SeenFeatures seen = new(rules: 3, targets: 2);

        Assert.True(seen.Add(SeenFeatures.OfRule(2)));
        Assert.True(seen.Add(seen.OfConfirmation(2, 0)));
        Assert.True(seen.Add(seen.OfConfirmation(2, 1)));
        Assert.False(seen.Contains(seen.OfConfirmation(1, 1)));
        Assert.Equal((1, 0), (seen.RuleCount, seen.EdgeCount));
    }

    /// <summary>A merge keeps what covers everything, and nothing that others cover.</summary>
    [Fact]
    public void DistillingCoversEverythingWithFew()
    {
        using FakeProbedModel model = new();
        TestCase[] corpus = [Cases.Of("f8"), Cases.Of("f9"), Cases.Of("f8", "f9", "90"), Cases.Of("4801d8"), Cases.Of("4801d8", "90"), Cases.Of("f8", "f9", "90")];
        Distilled distilled = Distiller.Distil(model, corpus);
        Distilled again = Distiller.Distil(model, [.. distilled.Kept.Select(i => corpus[i])]);

        // The first instruction is an edge of its own: f9 begins case 1 only. Cases 0 and 3 are covered by 2 and 4, and 5 repeats 2.
        Assert.Equal<IEnumerable<int>>([1, 2, 4], distilled.Kept);
        Assert.Equal((distilled.Edges, distilled.Rules), (again.Edges, again.Rules));
        Assert.Equal(distilled.Kept.Length, again.Kept.Length);
    }
}
