using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Takes out of differing memory what is a copy of undefined flags that an event had saved.</summary>
/// <remarks>
/// A frame on the guest's stack is data like any other once the guest goes on: MOVS copies the flags in it, undefined ones with the others. Traces do not hold addresses of operands, so a copy is what differs in just the bits
/// in which a saved RFLAGS differs, at any address.
/// </remarks>
internal static class CopiedFlags
{
    /// <summary>Removes copies, and notes the rows of what they are copies of as hiding.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="bytes">Linear addresses of the differing bytes, ascending.</param>
    /// <param name="a">One outcome.</param>
    /// <param name="b">The other.</param>
    /// <param name="undefined">What is undefined at an event, by its index.</param>
    /// <param name="hidden">Receives the rows.</param>
    public static void Take(TestCase testCase, List<ulong> bytes, Outcome a, Outcome b, Func<int, CaseMask> undefined, Hidden hidden)
    {
        for (int i = 0; i < Math.Min(a.Events.Length, b.Events.Length) && bytes.Count > 0; i++)
        {
            ulong differing = Saved(testCase.Abi, a.Events[i]) ^ Saved(testCase.Abi, b.Events[i]);
            if (differing != 0 && Interrupted.IsOnStack(testCase.Abi, a.Events[i]) && (differing & ~undefined(i).Rflags) == 0 && Remove(testCase, bytes, a, b, differing))
            {
                hidden.Add(undefined(i).Rows);
            }
        }
    }

    private static ulong Saved(Abi abi, Event e) => Interrupted.Value(abi, e, Register.Rflags);

    private static bool Remove(TestCase testCase, List<ulong> bytes, Outcome a, Outcome b, ulong differing)
    {
        SortedDictionary<ulong, ulong> words = MemoryDiff.DifferingWords(testCase, a, b);
        int first = (int)ulong.TrailingZeroCount(differing) / 8;
        int count = 8 - ((int)ulong.LeadingZeroCount(differing) / 8) - first;
        int before = bytes.Count;
        foreach (ulong at in bytes.ToArray())
        {
            bool copy = true;
            for (int i = 0; i < count; i++)
            {
                ulong address = at + (ulong)i;
                copy &= (byte)(words.GetValueOrDefault(address & ~7UL) >> (8 * (int)(address & 7))) == (byte)(differing >> (8 * (first + i)));
            }

            if (copy)
            {
                bytes.RemoveAll(address => address - at < (ulong)count);
            }
        }

        return bytes.Count < before;
    }
}
