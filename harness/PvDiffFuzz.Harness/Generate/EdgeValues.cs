using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Values at which integer instructions, addresses and selectors change their behaviour.</summary>
public static class EdgeValues
{
    /// <summary>64-bit operands: around zero, around the signs and ends of each width, powers of two and their neighbours, sizes of pages.</summary>
    public static ImmutableArray<ulong> Operands { get; } = BuildOperands();

    /// <summary>Selectors that a payload loads: the ones every target offers, then ones that fault.</summary>
    /// <remarks>1 to 3 are missing on purpose: systems replace them by 0 when they return to user code.</remarks>
    public static ImmutableArray<ushort> GoodSelectors { get; } = [0, Selectors.UserData, Selectors.UserCode64, Selectors.UserCode32];

    /// <summary>Selectors that fault or load something odd: supervisor segments, an empty LDT, past the limit.</summary>
    public static ImmutableArray<ushort> BadSelectors { get; } = [0x08, 0x10, 0x18, 0x1b, 0x13, 0x2f, 0x2c, 0x7, 0x4, 0x1000, 0xfff8, 0xffff];

    /// <summary>Immediate bytes.</summary>
    public static ImmutableArray<byte> Bytes { get; } = [0, 1, 2, 3, 7, 8, 9, 0xf, 0x10, 0x11, 0x1f, 0x20, 0x21, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0x81, 0xfe, 0xff];

    private static ImmutableArray<ulong> BuildOperands()
    {
        SortedSet<ulong> values = [0, 1, 2, 3, 4, 7, 8, 9, 10, 0xaaaa_aaaa_aaaa_aaaa, 0x5555_5555_5555_5555, 0x0123_4567_89ab_cdef, 0x0f0f_0f0f_0f0f_0f0f];
        foreach (int bit in (ReadOnlySpan<int>)[4, 5, 6, 7, 8, 12, 13, 15, 16, 31, 32, 33, 47, 48, 62, 63])
        {
            ulong power = 1UL << bit;
            values.UnionWith([power - 1, power, power + 1, ~power, 0 - power, ~power + 2]);
        }

        values.UnionWith([ulong.MaxValue, ulong.MaxValue - 1, ulong.MaxValue - 2, 0xffff_ffff_8000_0000, 0xffff_ffff_7fff_ffff]);
        return [.. values];
    }
}
