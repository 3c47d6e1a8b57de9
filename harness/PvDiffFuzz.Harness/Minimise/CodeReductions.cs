using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Takes instructions out, in chunks and singly, last first; the code then starts later.</summary>
public sealed class DropInstructions : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-instructions";

    /// <inheritdoc/>
    public int Budget => 2000;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        int count = testCase.Code.Lengths.Length;
        foreach ((int start, int length) in Reductions.Chunks(count))
        {
            ImmutableArray<byte>[] pieces = new ImmutableArray<byte>[count];
            pieces.AsSpan(start, length).Fill([]);
            if (length < count && CodeEdit.Replace(testCase, pieces, context.Vendor) is TestCase smaller)
            {
                yield return smaller;
            }
        }
    }
}

/// <summary>Takes an instruction out together with the answer to an event: under single-stepping each instruction uses one up, so neither can go alone.</summary>
public sealed class DropSteps : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-steps";

    /// <inheritdoc/>
    public int Budget => 300;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        int count = testCase.Code.Lengths.Length;
        ImmutableArray<Response> responses = testCase.Responses;
        if (responses.IsEmpty || count < 2)
        {
            yield break;
        }

        for (int i = count - 1; i >= 0; i--)
        {
            ImmutableArray<byte>[] pieces = new ImmutableArray<byte>[count];
            pieces[i] = [];
            if (CodeEdit.Replace(testCase, pieces, context.Vendor) is not TestCase smaller)
            {
                continue;
            }

            // In straight code event i is that of instruction i; after a fault or a branch it is another one's.
            foreach (int response in new[] { Math.Min(i, responses.Length - 1), responses.Length - 1, 0 }.Distinct())
            {
                yield return smaller with { Responses = smaller.Responses.RemoveAt(response) };
            }
        }
    }
}

/// <summary>Overwrites instructions with NOPs where they cannot be taken out, for example because the place of what follows matters.</summary>
public sealed class NopInstructions : IReduction
{
    /// <inheritdoc/>
    public string Name => "nop-instructions";

    /// <inheritdoc/>
    public int Budget => 500;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<ImmutableArray<byte>> pieces = CodeEdit.Pieces(testCase.Code);
        int[] real = [.. Enumerable.Range(0, pieces.Length).Where(i => pieces[i].AsSpan() is not [CodeEdit.Nop])];
        foreach ((int start, int length) in Reductions.Chunks(real.Length))
        {
            int[] chosen = real[start..(start + length)];
            yield return CodeEdit.WithNops(testCase, i => Array.BinarySearch(chosen, i) >= 0);
        }
    }
}

/// <summary>Takes prefix bytes off instructions, REX included.</summary>
public sealed class DropPrefixes : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-prefixes";

    /// <inheritdoc/>
    public int Budget => 300;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<ImmutableArray<byte>> pieces = CodeEdit.Pieces(testCase.Code);
        for (int i = 0; i < pieces.Length; i++)
        {
            int prefixes = 0;
            while (prefixes < pieces[i].Length - 1 && CodeEdit.IsPrefix(pieces[i][prefixes], testCase.Mode))
            {
                prefixes++;
            }

            if (prefixes > 1 && Without(testCase, i, pieces[i].RemoveRange(0, prefixes), context) is TestCase bare)
            {
                yield return bare;
            }

            for (int prefix = 0; prefix < prefixes; prefix++)
            {
                if (Without(testCase, i, pieces[i].RemoveAt(prefix), context) is TestCase smaller)
                {
                    yield return smaller;
                }
            }
        }
    }

    private static TestCase? Without(TestCase testCase, int index, ImmutableArray<byte> bytes, ReductionContext context)
    {
        // A shorter prefix list may make the immediate longer; then the instruction would swallow the next one.
        Instruction instruction = CodeEdit.DecodeOne(bytes.AsSpan(), testCase.Code.Address, testCase.Mode, context.Vendor);
        if (!instruction.IsInvalid && instruction.Length != bytes.Length)
        {
            return null;
        }

        ImmutableArray<byte>[] pieces = new ImmutableArray<byte>[testCase.Code.Lengths.Length];
        pieces[index] = bytes;
        return CodeEdit.Replace(testCase, pieces, context.Vendor);
    }
}
