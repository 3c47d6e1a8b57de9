using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Core;

/// <summary>The sixteen general registers in encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.</summary>
[InlineArray(Count)]
public struct GprFile : IEquatable<GprFile>
{
    /// <summary>Number of registers.</summary>
    public const int Count = 16;

    private ulong _rax;

    /// <summary>True when all sixteen values are equal.</summary>
    public static bool operator ==(in GprFile left, in GprFile right) => ((ReadOnlySpan<ulong>)left).SequenceEqual(right);

    /// <summary>True when any value differs.</summary>
    public static bool operator !=(in GprFile left, in GprFile right) => !(left == right);

    /// <inheritdoc/>
    public readonly bool Equals(GprFile other) => this == other;

    /// <inheritdoc/>
    public override readonly bool Equals(object? obj) => obj is GprFile other && this == other;

    /// <inheritdoc/>
    public override readonly int GetHashCode()
    {
        HashCode hash = default;
        foreach (ulong value in this)
        {
            hash.Add(value);
        }

        return hash.ToHashCode();
    }
}
