using System.Numerics;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>A small random generator that is a function of a key and a counter: the same everywhere, whatever ran before.</summary>
/// <remarks>SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), started at a mix of seed and index.</remarks>
public struct CounterRandom
{
    private const ulong Golden = 0x9e37_79b9_7f4a_7c15;

    private ulong _state;

    /// <summary>Starts the stream of one case.</summary>
    /// <param name="seed">Campaign seed.</param>
    /// <param name="index">Index of the case in the campaign.</param>
    public CounterRandom(ulong seed, ulong index) => _state = Mix(Mix(seed + Golden) ^ BitOperations.RotateLeft(Mix(index ^ 0x6a09_e667_f3bc_c909), 17));

    /// <summary>64 random bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Next()
    {
        _state += Golden;
        return Mix(_state);
    }

    /// <summary>A number from 0 to <paramref name="bound"/> - 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Below(int bound) => (int)(((Next() >> 32) * (uint)bound) >> 32);

    /// <summary>True in <paramref name="percent"/> of 100 cases.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Percent(int percent) => Below(100) < percent;

    /// <summary>True in <paramref name="permille"/> of 1000 cases.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Permille(int permille) => Below(1000) < permille;

    /// <summary>One element.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Pick<T>(ReadOnlySpan<T> from) => from[Below(from.Length)];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xbf58_476d_1ce4_e5b9;
        z = (z ^ (z >> 27)) * 0x94d0_49bb_1331_11eb;
        return z ^ (z >> 31);
    }
}
