using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>A target that could look at some of memory only is compared there and nowhere else.</summary>
public sealed class SeenMemoryTests
{
    private static readonly TestCase Case = Cases.Of("90") with { Contents = [new MemoryContents(0x41_0000, [1, 2, 3, 4, 5, 6, 7, 8])] };

    [Theory]
    [InlineData(0x41_0008, 4, 0x41_0008, 0xff, true)] // The byte was looked at, and it is still 0 there.
    [InlineData(0x41_0008, 4, 0x41_0008, 0xff_0000_0000, false)] // The fifth byte was not.
    [InlineData(0x41_0004, 4, 0x41_0000, 0x0807_0605_0000_0000, false)] // Only bytes before the range differ.
    [InlineData(0x41_0004, 4, 0x41_0000, 0x0907_0605_0403_0201, true)] // Its last byte differs.
    [InlineData(0x41_0010, 8, 0x41_0008, 0xff, false)] // Another word.
    public void OnlySeenBytesAreCompared(ulong from, int length, ulong at, ulong value, bool differs)
    {
        Outcome whole = Cases.Fault() with { Memory = [new MemoryWord(at, value)] };
        Outcome part = Cases.Fault() with { Seen = [new MemoryRange(from, length)] };

        Assert.Equal(differs ? ComparisonResult.Divergence : ComparisonResult.Agreement, Compare(whole, part).Result);
        Assert.Equal(differs ? ComparisonResult.Divergence : ComparisonResult.Agreement, Compare(part, whole).Result);
        Assert.Equal(ComparisonResult.Divergence, Compare(whole, part with { Seen = [] }).Result);
    }

    [Fact]
    public void BothMustHaveLooked()
    {
        Outcome one = Cases.Fault() with { Memory = [new MemoryWord(0x41_0008, 1)], Seen = [new MemoryRange(0x41_0008, 8)] };
        Outcome other = Cases.Fault() with { Seen = [new MemoryRange(0x41_0000, 8)] };

        Assert.Equal(ComparisonResult.Agreement, Compare(one, other).Result);
        Assert.Equal(ComparisonResult.Divergence, Compare(one, other with { Seen = [new MemoryRange(0x41_0000, 9)] }).Result);
    }

    private static Comparison Compare(params Outcome[] outcomes) =>
        new Comparer([Cases.Info("a", "one"), Cases.Info("b", "two")], CaseAnalyst.Blind).Compare(Case, outcomes);
}
