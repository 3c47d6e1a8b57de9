using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>Tells whether the bytes in which two final memories differ may all be undefined.</summary>
/// <remarks>
/// Traces do not hold addresses of operands. So a store of <c>n</c> undefined bytes may explain any <c>n</c> adjacent ones, once for each time that it was executed; pushes that a fault cut short lie right below
/// the stack pointer of an event.
/// </remarks>
internal static class UndefinedMemory
{
    /// <summary>True when parts of the mask cover every differing byte; then they are noted as hiding.</summary>
    public static bool Covers(ImmutableArray<UndefinedPart> parts, TestCase testCase, Outcome a, Outcome b, Hidden hidden)
    {
        List<UndefinedPart> used = [];
        List<ulong> bytes = DifferingBytes(testCase, a, b);
        foreach (UndefinedPart part in parts)
        {
            if (part.BelowStack && bytes.RemoveAll(at => IsPushed(part.Bytes, at, a) || IsPushed(part.Bytes, at, b)) > 0)
            {
                used.Add(part);
            }
        }

        foreach (UndefinedPart part in parts)
        {
            bool store = part.Bytes > 0 && !part.BelowStack;
            for (int times = part.Times; store && times > 0 && bytes.Count > 0; times--)
            {
                ulong first = bytes[0];
                bytes.RemoveAll(at => at - first < (ulong)part.Bytes);
                used.Add(part);
            }
        }

        if (bytes.Count > 0)
        {
            return false;
        }

        used.ForEach(hidden.Add);
        return true;
    }

    private static bool IsPushed(int bytes, ulong address, Outcome outcome)
    {
        foreach (Event e in outcome.Events)
        {
            // In compatibility mode the stack pointer has 32 bits, and what lies below 0 is at the top of them.
            bool narrow = e.Registers.Cs == Selectors.UserCode32;
            ulong below = e.Registers[Register.Rsp] - 1 - address;
            if ((narrow ? (uint)below : below) < (ulong)bytes)
            {
                return true;
            }
        }

        return false;
    }

    private static List<ulong> DifferingBytes(TestCase testCase, Outcome a, Outcome b)
    {
        SortedDictionary<ulong, ulong> words = [];
        foreach (MemoryWord word in a.Memory)
        {
            words[word.Address] = word.Value ^ testCase.InitialWord(word.Address);
        }

        foreach (MemoryWord word in b.Memory)
        {
            words[word.Address] = words.GetValueOrDefault(word.Address) ^ word.Value ^ testCase.InitialWord(word.Address);
        }

        List<ulong> bytes = [];
        foreach ((ulong address, ulong differing) in words)
        {
            for (int i = 0; i < sizeof(ulong); i++)
            {
                if ((byte)(differing >> (8 * i)) != 0)
                {
                    bytes.Add(address + (ulong)i);
                }
            }
        }

        return bytes;
    }
}
