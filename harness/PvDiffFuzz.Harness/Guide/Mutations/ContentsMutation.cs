using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Changes what pages hold at the start: a byte, a quadword, or a whole run that comes from another case or goes.</summary>
internal sealed class ContentsMutation : IMutation
{
    /// <inheritdoc/>
    public int Weight => 10;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        ImmutableArray<MemoryContents> runs = testCase.Contents;
        if (runs.IsEmpty || random.Percent(20))
        {
            return donor.Contents.IsEmpty ? null : testCase with { Contents = Merge(runs, donor.Contents[random.Below(donor.Contents.Length)]) };
        }

        int at = random.Below(runs.Length);
        if (random.Percent(8))
        {
            return testCase with { Contents = runs.RemoveAt(at) };
        }

        byte[] bytes = [.. runs[at].Bytes];
        int place = random.Below(bytes.Length);
        Span<byte> word = bytes.AsSpan(place & ~7);
        if (word.Length >= sizeof(ulong) && random.Percent(70))
        {
            BinaryPrimitives.WriteUInt64LittleEndian(word, Values.Next(BinaryPrimitives.ReadUInt64LittleEndian(word), testCase, ref random));
        }
        else
        {
            bytes[place] = random.Percent(50) ? (byte)(bytes[place] ^ (1 << random.Below(8))) : random.Pick(EdgeValues.Bytes.AsSpan());
        }

        return testCase with { Contents = runs.SetItem(at, runs[at] with { Bytes = ImmutableArray.Create(bytes) }) };
    }

    /// <summary>Adds a run; what it overlaps goes.</summary>
    internal static ImmutableArray<MemoryContents> Merge(ImmutableArray<MemoryContents> runs, MemoryContents added)
    {
        ulong last = added.Address + (ulong)added.Bytes.Length - 1;
        return [.. runs.Where(run => run.Address > last || run.Address + (ulong)run.Bytes.Length - 1 < added.Address).Append(added).OrderBy(run => run.Address)];
    }
}
