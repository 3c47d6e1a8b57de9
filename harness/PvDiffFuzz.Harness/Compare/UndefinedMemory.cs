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
    /// <param name="parts">What is undefined at the end.</param>
    /// <param name="abi">The ABI of the case.</param>
    /// <param name="bytes">Linear addresses of the differing bytes, ascending; what is covered is taken out.</param>
    /// <param name="a">One outcome.</param>
    /// <param name="b">The other.</param>
    /// <param name="hidden">Receives the parts that hid something.</param>
    public static bool Covers(ImmutableArray<UndefinedPart> parts, Abi abi, List<ulong> bytes, Outcome a, Outcome b, Hidden hidden)
    {
        List<UndefinedPart> used = [];
        foreach (UndefinedPart part in parts)
        {
            if (part.BelowStack && bytes.RemoveAll(at => IsPushed(abi, part.Bytes, at, a) || IsPushed(abi, part.Bytes, at, b)) > 0)
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

    private static bool IsPushed(Abi abi, int bytes, ulong address, Outcome outcome)
    {
        foreach (Event e in outcome.Events)
        {
            // In compatibility mode the stack pointer has 32 bits, and what lies below 0 is at the top of them.
            bool narrow = Interrupted.InCompatibilityMode(abi, e);
            ulong below = Interrupted.Value(abi, e, Register.Rsp) - 1 - address;
            if ((narrow ? (uint)below : below) < (ulong)bytes)
            {
                return true;
            }
        }

        return false;
    }
}
