namespace PvDiffFuzz.Core;

/// <summary>Adjacent bytes of guest memory.</summary>
/// <param name="Address">Linear address of the first one.</param>
/// <param name="Length">How many, at least 1.</param>
public readonly record struct MemoryRange(ulong Address, int Length)
{
    /// <summary>True when a byte is one of them.</summary>
    public bool Contains(ulong address) => address - Address < (ulong)Length;

    /// <summary>Which bytes of an aligned quadword lie in any of some ranges: ones for their bits, zeroes for the others.</summary>
    /// <param name="ranges">Ranges; when there are none, every byte counts.</param>
    /// <param name="word">Address of the quadword.</param>
    public static ulong BitsOf(ReadOnlySpan<MemoryRange> ranges, ulong word)
    {
        if (ranges.IsEmpty)
        {
            return ulong.MaxValue;
        }

        ulong bits = 0;
        foreach (MemoryRange range in ranges)
        {
            for (int i = 0; i < sizeof(ulong); i++)
            {
                bits |= range.Contains(word + (ulong)i) ? 0xffUL << (8 * i) : 0;
            }
        }

        return bits;
    }
}
