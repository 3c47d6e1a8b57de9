using System.Numerics;
using System.Runtime.CompilerServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>The six status flags as bits of RFLAGS, and the rules that compute them. Eager: every operation writes them at once.</summary>
internal static class Flags
{
    public const uint Carry = 1 << 0;
    public const uint Parity = 1 << 2;
    public const uint Adjust = 1 << 4;
    public const uint Zero = 1 << 6;
    public const uint Sign = 1 << 7;
    public const uint Overflow = 1 << 11;

    /// <summary>All six.</summary>
    public const uint All = Carry | Parity | Adjust | Zero | Sign | Overflow;

    /// <summary>SF, ZF and PF of a result; PF looks at the low byte only.</summary>
    [Spec("SDM", "vol.1 3.4.3.1 Status Flags")]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint OfResult<T>(T result)
        where T : unmanaged, IBinaryInteger<T>
    {
        uint parity = (uint)(~BitOperations.PopCount(byte.CreateTruncating(result)) & 1) << 2;
        return parity | (TopBit(result) << 7) | (result == T.Zero ? Zero : 0);
    }

    /// <summary>All six flags of <c>result = a + b (+ carry in)</c>.</summary>
    [Spec("SDM", "vol.1 3.4.3.1 Status Flags")]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint OfSum<T>(T a, T b, T result, bool carry)
        where T : unmanaged, IBinaryInteger<T> =>
        OfResult(result)
        | (carry ? Carry : 0)
        | (uint.CreateTruncating(a ^ b ^ result) & Adjust)
        | (TopBit((a ^ result) & (b ^ result)) << 11);

    /// <summary>All six flags of <c>result = a - b (- borrow in)</c>.</summary>
    [Spec("SDM", "vol.1 3.4.3.1 Status Flags")]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint OfDifference<T>(T a, T b, T result, bool borrow)
        where T : unmanaged, IBinaryInteger<T> =>
        OfResult(result)
        | (borrow ? Carry : 0)
        | (uint.CreateTruncating(a ^ b ^ result) & Adjust)
        | (TopBit((a ^ b) & (a ^ result)) << 11);

    /// <summary>The most significant bit of a value, as 0 or 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint TopBit<T>(T value)
        where T : unmanaged, IBinaryInteger<T> =>
        uint.CreateTruncating(value >>> ((Unsafe.SizeOf<T>() * 8) - 1)) & 1;

    /// <summary>Evaluates a condition code (the low four opcode bits of Jcc, SETcc and CMOVcc).</summary>
    /// <param name="condition">0 to 15: O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G.</param>
    /// <param name="status">The status flags.</param>
    [Spec("SDM", "vol.1 app. B EFLAGS Condition Codes")]
    public static bool Holds(int condition, uint status)
    {
        bool less = (((status >> 7) ^ (status >> 11)) & 1) != 0;
        bool value = (condition >> 1) switch
        {
            0 => (status & Overflow) != 0,
            1 => (status & Carry) != 0,
            2 => (status & Zero) != 0,
            3 => (status & (Carry | Zero)) != 0,
            4 => (status & Sign) != 0,
            5 => (status & Parity) != 0,
            6 => less,
            _ => less || (status & Zero) != 0,
        };
        return value ^ ((condition & 1) != 0);
    }
}
