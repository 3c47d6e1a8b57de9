using System.Collections.Immutable;
using System.Numerics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Knows undefined flags again that an event had saved in its frame, where the guest has copied them from.</summary>
/// <remarks>
/// A frame in memory that the guest reaches is data like any other once it goes on: MOVS copies the flags in it, POP loads them, a far return takes them for a selector. Traces do not hold addresses of operands, so a copy is
/// what differs in just the bits in which a saved RFLAGS differs, bytes moved or not, or in some of them where a value holds only a part, as an error code does. The handlers of a 64-bit Xen guest begin with a copy in R11.
/// </remarks>
/// <param name="testCase">The case.</param>
/// <param name="undefined">What is undefined at an event, by its index.</param>
/// <param name="hidden">Receives the rows of what a copy is of.</param>
internal sealed class CopiedFlags(TestCase testCase, Func<int, CaseMask> undefined, Hidden hidden)
{
    private readonly List<(ulong Bits, ImmutableArray<string> Rows)> _saved = [];

    /// <summary>Notes the undefined flags in which the frames of an event differ, for the event itself and what comes behind it.</summary>
    public void Note(int index, Event a, Event b)
    {
        ulong differing = Interrupted.Value(testCase.Abi, a, Register.Rflags) ^ Interrupted.Value(testCase.Abi, b, Register.Rflags);
        if (differing != 0 && Interrupted.IsInMemory(testCase.Abi, a) && undefined(index) is CaseMask mask && (differing & ~mask.Rflags) == 0)
        {
            _saved.Add((differing, mask.Rows));
        }
    }

    /// <summary>What of some differing bits of a value is no copy: all or nothing.</summary>
    public ulong Rest(ulong differing)
    {
        foreach ((ulong bits, ImmutableArray<string> rows) in _saved)
        {
            if (differing != 0 && ((differing & ~bits) == 0 || IsMoved(differing, bits)))
            {
                hidden.Add(rows);
                return 0;
            }
        }

        return differing;
    }

    /// <summary>Takes copies out of differing memory.</summary>
    /// <param name="bytes">Linear addresses of the differing bytes, ascending.</param>
    /// <param name="a">One outcome.</param>
    /// <param name="b">The other.</param>
    public void Take(List<ulong> bytes, Outcome a, Outcome b)
    {
        foreach ((ulong bits, ImmutableArray<string> rows) in _saved)
        {
            int before = bytes.Count;
            Remove(bytes, MemoryDiff.DifferingWords(testCase, a, b), bits);
            if (bytes.Count < before)
            {
                hidden.Add(rows);
            }
        }
    }

    /// <summary>Takes frames out of differing memory that nobody compared, since handlers of the case got them: words that differ in flags alone that were undefined when an event saved them.</summary>
    /// <param name="bytes">Linear addresses of the differing bytes, ascending.</param>
    /// <param name="mask">What is undefined at the end.</param>
    /// <param name="a">One outcome.</param>
    /// <param name="b">The other.</param>
    public void TakeSaved(List<ulong> bytes, CaseMask mask, Outcome a, Outcome b)
    {
        if (mask.Saved == 0)
        {
            return;
        }

        SortedDictionary<ulong, ulong> words = MemoryDiff.DifferingWords(testCase, a, b);
        if (bytes.RemoveAll(at => (words[at & ~7UL] & ~mask.Saved) == 0) > 0)
        {
            hidden.Add(mask.Rows);
        }
    }

    /// <summary>True for the same bits in other bytes.</summary>
    private static bool IsMoved(ulong differing, ulong bits) =>
        differing >> (BitOperations.TrailingZeroCount(differing) & ~7) == bits >> (BitOperations.TrailingZeroCount(bits) & ~7);

    private static void Remove(List<ulong> bytes, SortedDictionary<ulong, ulong> words, ulong bits)
    {
        int first = BitOperations.TrailingZeroCount(bits) / 8;
        int count = 8 - (BitOperations.LeadingZeroCount(bits) / 8) - first;
        foreach (ulong at in bytes.ToArray())
        {
            bool copy = true;
            for (int i = 0; i < count; i++)
            {
                ulong address = at + (ulong)i;
                copy &= (byte)(words.GetValueOrDefault(address & ~7UL) >> (8 * (int)(address & 7))) == (byte)(bits >> (8 * (first + i)));
            }

            if (copy)
            {
                bytes.RemoveAll(address => address - at < (ulong)count);
            }
        }
    }
}
