using PvDiffFuzz.Instrument;

namespace PvDiffFuzz.FuzzTargets.Tests;

/// <summary>The loop of our own: guided by edges, repeatable, and it hands over the input that broke a promise.</summary>
public sealed class FuzzLoopTests
{
    /// <summary>What opens the way: by chance one input in 2^48 begins with it.</summary>
    private static readonly byte[] Magic = [.. "rip=86"u8];

    private readonly byte[] _edges = new byte[EdgeTrace.MapSize];

    [Fact]
    public void APlantedBrokenPromiseIsFound()
    {
        (byte[] Input, Exception Trouble)? broken = Loop(seed: 1, planted: true).Run([[.. "rax=0"u8], [.. "xip\n"u8]], 200_000, _ => { });

        Assert.IsType<BrokenPromiseException>(broken?.Trouble);
        Assert.True(broken.Value.Input.AsSpan().StartsWith(Magic));
    }

    [Fact]
    public void EqualSeedsGiveEqualCorpora()
    {
        FuzzLoop one = Loop(seed: 7, planted: false);
        FuzzLoop same = Loop(seed: 7, planted: false);
        FuzzLoop other = Loop(seed: 8, planted: false);
        foreach (FuzzLoop loop in (FuzzLoop[])[one, same, other])
        {
            Assert.Null(loop.Run([[1, 2, 3]], 50_000, _ => { }));
        }

        Assert.Equal(one.Corpus, same.Corpus);
        Assert.NotEqual(one.Corpus, other.Corpus);
        Assert.True(one.Edges > 2);
    }

    /// <summary>Takes an edge for each byte of the magic word that an input begins with.</summary>
    private FuzzLoop Loop(ulong seed, bool planted)
    {
        return new FuzzLoop(Run, _edges, () => { }, seed);

        void Run(byte[] input)
        {
            int matching = input.AsSpan().CommonPrefixLength(Magic);
            for (int i = 0; i <= matching; i++)
            {
                _edges[1000 * i]++;
            }

            if (planted && matching == Magic.Length)
            {
                throw new BrokenPromiseException("planted");
            }
        }
    }
}
