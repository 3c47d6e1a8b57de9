using System.Collections.Immutable;

namespace PvDiffFuzz.Harness;

/// <summary>Targets whose outcomes are equal under the mask.</summary>
/// <param name="Members">Indices of the targets, ascending.</param>
public sealed record Camp(ImmutableArray<int> Members)
{
    /// <inheritdoc/>
    public bool Equals(Camp? other) => other is not null && Members.AsSpan().SequenceEqual(other.Members.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Members.Length, Members[0]);
}

/// <summary>A field on which camps differ.</summary>
/// <param name="Field">Its name.</param>
/// <param name="Values">Its value as text in each camp, in the order of <see cref="Comparison.Camps"/>.</param>
public sealed record FieldDifference(Field Field, ImmutableArray<string> Values)
{
    /// <summary>The field's names, as <see cref="FieldNameSet"/> numbers them.</summary>
    internal ImmutableArray<int> Names { get; } = FieldNameSet.NumbersOf(Field);
}

/// <summary>What comparing the outcomes of one case gave.</summary>
public enum ComparisonResult
{
    /// <summary>Fewer than two targets gave an outcome that may be compared. Never agreement.</summary>
    NotComparable,

    /// <summary>Two or more comparable outcomes, all in one camp.</summary>
    Agreement,

    /// <summary>Two or more camps.</summary>
    Divergence,
}

/// <summary>The outcomes of one case, grouped into camps.</summary>
public sealed record Comparison
{
    /// <summary>Agreement, divergence, or neither.</summary>
    public required ComparisonResult Result { get; init; }

    /// <summary>Number of comparable outcomes.</summary>
    public required int Comparable { get; init; }

    /// <summary>Camps in the order of their first members; targets without a comparable outcome are in none.</summary>
    public ImmutableArray<Camp> Camps { get; init; } = [];

    /// <summary>Pairs of targets that differ, the lower index first. Where the specification allows one of them several outcomes, or a row of its mask hides something, it may agree with two that differ.</summary>
    public ImmutableArray<(int Lower, int Higher)> DifferingPairs { get; init; } = [];

    /// <summary>All fields that differ between any two camps, in field order.</summary>
    public ImmutableArray<FieldDifference> Differences { get; init; } = [];

    /// <summary>Mask rows that hid a difference.</summary>
    public ImmutableArray<string> HidingRows { get; init; } = [];

    /// <summary>
    /// The bits behind which a difference was hidden, as far as the mask knows which row hid it. For a divergence only what leaves everything undefined: after the first
    /// difference the targets are no longer at the same instruction, so that other bits that differ say nothing about their rows.
    /// </summary>
    public ImmutableArray<MaskedBit> HiddenBits { get; init; } = [];

    /// <summary>For a divergence: rows of undefined bits that an instruction consumed, which explains anything; empty when none was.</summary>
    public ImmutableArray<string> ConsumedRows { get; init; } = [];

    /// <summary>True when undefined bits were consumed, so that the divergence proves nothing.</summary>
    public bool Consumed { get; init; }

    /// <summary>Index into <see cref="Camps"/> of the camp that stands against a majority of three or more lineages, or null when no majority is possible.</summary>
    public int? Dissenter { get; init; }

    /// <summary>True when two targets differ.</summary>
    public bool Differ(int one, int other) => DifferingPairs.Contains((Math.Min(one, other), Math.Max(one, other)));

    /// <summary>Index of the first event that differs, or -1 when only the final state does.</summary>
    public int FirstEvent
    {
        get
        {
            foreach (FieldDifference difference in Differences)
            {
                if (difference.Field.Event >= 0)
                {
                    return difference.Field.Event;
                }
            }

            return Field.Final;
        }
    }
}
