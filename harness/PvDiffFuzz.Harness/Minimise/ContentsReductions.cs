using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Takes initial memory contents away, whole runs first, then parts of them; what is not covered is zero.</summary>
public sealed class DropContents : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-contents";

    /// <inheritdoc/>
    public int Budget => 600;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<MemoryContents> contents = testCase.Contents;
        foreach ((int start, int length) in Reductions.Chunks(contents.Length))
        {
            yield return testCase with { Contents = contents.RemoveRange(start, length) };
        }

        for (int i = 0; i < contents.Length; i++)
        {
            foreach ((int start, int length) in Reductions.Chunks(contents[i].Bytes.Length).Where(c => c.Length < contents[i].Bytes.Length))
            {
                ImmutableArray<MemoryContents>.Builder cut = contents.ToBuilder();
                cut.RemoveAt(i);
                cut.InsertRange(i, Around(contents[i], start, length));
                yield return testCase with { Contents = cut.ToImmutable() };
            }
        }
    }

    private static IEnumerable<MemoryContents> Around(MemoryContents run, int start, int length)
    {
        if (start > 0)
        {
            yield return run with { Bytes = run.Bytes[..start] };
        }

        if (start + length < run.Bytes.Length)
        {
            yield return new MemoryContents(run.Address + (ulong)(start + length), run.Bytes[(start + length)..]);
        }
    }
}

/// <summary>Makes the bytes that must stay plain: 1 where any value but zero will do.</summary>
public sealed class SimplifyContents : IReduction
{
    /// <inheritdoc/>
    public string Name => "simplify-contents";

    /// <inheritdoc/>
    public int Budget => 200;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        for (int i = 0; i < testCase.Contents.Length; i++)
        {
            ImmutableArray<byte> bytes = testCase.Contents[i].Bytes;
            for (int at = 0; at < bytes.Length; at++)
            {
                if (bytes[at] > 1)
                {
                    yield return testCase with { Contents = testCase.Contents.SetItem(i, testCase.Contents[i] with { Bytes = bytes.SetItem(at, 1) }) };
                }
            }
        }
    }
}
