using System.Collections.Immutable;
using System.Numerics;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>A bit that a row of a mask keeps out of comparisons, for one form.</summary>
/// <param name="Row">Id of the row, of <see cref="UndefinedTable"/> or of a target.</param>
/// <param name="Form">Iced's name of the form; empty for a row of a target, which concerns events.</param>
/// <param name="Bit">A flag as in <c>AF</c>; <c>destination</c>, <c>memory</c> or <c>everything</c>; the field for a row of a target.</param>
public readonly record struct MaskedBit(string Row, string Form, string Bit)
{
    /// <summary>Each bit of a part of a mask; none when the part has a register and no bits.</summary>
    public static IEnumerable<MaskedBit> AllOf(UndefinedPart part)
    {
        bool flags = part.Target == UndefinedTarget.Flags || part.Register == Register.Rflags;
        return flags ? Flags(part) : part.Register is not null && part.Bits == 0 ? [] : [Of(part)];
    }

    /// <summary>A part without flags as one bit.</summary>
    internal static MaskedBit Of(UndefinedPart part) => new(
        part.Row,
        part.Form.ToString(),
        part.Target == UndefinedTarget.Everything ? "everything" : part.Register is null ? "memory" : "destination");

    private static IEnumerable<MaskedBit> Flags(UndefinedPart part)
    {
        for (ulong bits = part.Bits; bits != 0; bits &= bits - 1)
        {
            yield return new MaskedBit(part.Row, part.Form.ToString(), Field.Flags[BitOperations.TrailingZeroCount(bits)]);
        }
    }
}

/// <summary>Collects what masks hid while the outcomes of one case are compared.</summary>
internal sealed class Hidden
{
    private readonly SortedSet<string> _rows = new(StringComparer.Ordinal);
    private readonly HashSet<MaskedBit> _bits = [];

    /// <summary>Rows that hid a difference.</summary>
    public ImmutableArray<string> Rows => [.. _rows];

    /// <summary>Bits that did.</summary>
    public ImmutableArray<MaskedBit> Bits => [.. _bits];

    /// <summary>Takes over what another comparison hid.</summary>
    public void Add(Hidden other)
    {
        _rows.UnionWith(other._rows);
        _bits.UnionWith(other._bits);
    }

    /// <summary>A row of a target hid something.</summary>
    public void Add(TargetMask row)
    {
        _rows.Add(row.Id);
        _bits.Add(Of(row));
    }

    /// <summary>The bit that stands for a row of a target.</summary>
    public static MaskedBit Of(TargetMask row) => new(row.Id, "", row.Field?.ToString().ToLowerInvariant() ?? "error");

    /// <summary>Rows hid something, and nobody knows which.</summary>
    public void Add(ImmutableArray<string> rows) => _rows.UnionWith(rows);

    /// <summary>A mask hid differing bits of a register. A bit counts for a row only when no other could have hidden it.</summary>
    public void Add(CaseMask mask, Register register, ulong differing)
    {
        ulong once = 0;
        ulong more = 0;
        foreach (UndefinedPart part in mask.Parts)
        {
            ulong bits = part.Register == register ? part.Bits : 0;
            more |= once & bits;
            once |= bits;
        }

        foreach (UndefinedPart part in mask.Parts)
        {
            ulong bits = part.Register == register ? part.Bits & differing : 0;
            if (bits != 0)
            {
                _rows.Add(part.Row);
                _bits.UnionWith(MaskedBit.AllOf(part with { Bits = bits & ~more }));
            }
        }

        if ((differing & once) == 0)
        {
            // What follows a consumed bit has no row of its own.
            _rows.UnionWith(mask.Rows);
        }
    }

    /// <summary>A part hid differing bytes.</summary>
    public void Add(UndefinedPart part)
    {
        _rows.Add(part.Row);
        _bits.Add(MaskedBit.Of(part));
    }
}
