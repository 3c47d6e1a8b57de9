using System.Numerics;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Models.X86;

/// <summary>What an operation that is generic over its operand width needs to know about the width. All of it folds to constants.</summary>
internal static class Width
{
    /// <summary>Bits of an operand: 8, 16, 32 or 64.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bits<T>()
        where T : unmanaged =>
        Unsafe.SizeOf<T>() * 8;

    /// <summary>A value as a signed number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Signed<T>(T value)
        where T : unmanaged, IBinaryInteger<T>
    {
        int unused = 64 - Bits<T>();
        return (long)(ulong.CreateTruncating(value) << unused) >> unused;
    }
}
