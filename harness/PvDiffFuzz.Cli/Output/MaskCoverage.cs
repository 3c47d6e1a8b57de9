using System.Collections.Immutable;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Cli.Output;

/// <summary>What campaigns showed about one row of a mask.</summary>
/// <param name="Row">Id of the row.</param>
/// <param name="Source">Who says that the bits are undefined; empty for a row of a target.</param>
/// <param name="Bits">By bit: how often it was masked and how often it hid a difference.</param>
internal sealed record MaskRow(string Row, string Source, ImmutableArray<MaskBit> Bits)
{
    /// <summary>Cases in which the row hid a difference, each bit for itself.</summary>
    public long Hid => Bits.Sum(bit => bit.Hid);

    /// <summary>Cases of the sample in which the row masked, each bit for itself.</summary>
    public long Masked => Bits.Sum(bit => bit.Masked);
}

/// <summary>One bit of a row, all forms together.</summary>
/// <param name="Bit">Its name.</param>
/// <param name="Masked">Sampled cases at whose end it was masked.</param>
/// <param name="Hid">Cases in which two targets differed in it.</param>
/// <param name="Forms">Forms that masked it.</param>
/// <param name="Quiet">Of these, forms for which it never hid anything.</param>
internal sealed record MaskBit(string Bit, long Masked, long Hid, int Forms, int Quiet);

/// <summary>Which rows of the masks hide something, and which never did.</summary>
/// <param name="Rows">Every row of the table of undefined bits, then those of targets.</param>
/// <param name="Details">Every bit of every form.</param>
internal sealed record MaskCoverage(ImmutableArray<MaskRow> Rows, ImmutableArray<MaskEvidence> Details)
{
    /// <summary>Joins the tables with evidence.</summary>
    public static MaskCoverage Of(CampaignEvidence evidence)
    {
        ILookup<string, MaskEvidence> byRow = evidence.Masks.ToLookup(mask => mask.Bit.Row, StringComparer.Ordinal);
        IEnumerable<MaskRow> table = UndefinedTable.Rows.Select(row => new MaskRow(row.Id, row.Source, Bits(byRow[row.Id])));
        IEnumerable<MaskRow> others = byRow.Where(row => UndefinedTable.Rows.All(known => known.Id != row.Key)).OrderBy(row => row.Key, StringComparer.Ordinal).Select(row => new MaskRow(row.Key, "", Bits(row)));
        return new MaskCoverage([.. table, .. others], evidence.Masks);
    }

    /// <summary>Shapes it for programs.</summary>
    public object ForJson() => new
    {
        rows = Rows.Select(row => new { row = row.Row, source = row.Source, masked = row.Masked, hid = row.Hid, bits = row.Bits }),
        bits = Details.Select(mask => new { row = mask.Bit.Row, form = mask.Bit.Form, bit = mask.Bit.Bit, masked = mask.Masked, hid = mask.Hid }),
    };

    /// <summary>Prints it for a person.</summary>
    /// <param name="details">Every bit of every form, too.</param>
    public void Print(bool details)
    {
        foreach (MaskRow row in Rows)
        {
            Console.WriteLine($"mask {row.Row,-30} hid {row.Hid,9}  {string.Join(", ", row.Bits.Select(Text))}{(row.Hid > 0 ? "" : row.Masked > 0 ? "  NEVER HID ANYTHING" : "  NEVER SEEN TO HIDE ANYTHING")}");
        }

        if (details)
        {
            foreach (MaskEvidence mask in Details)
            {
                Console.WriteLine($"masked bit {mask.Bit.Row} {mask.Bit.Form} {mask.Bit.Bit}: masked {mask.Masked}, hid {mask.Hid}");
            }
        }
    }

    private static string Text(MaskBit bit) =>
        bit.Hid == 0 ? $"{bit.Bit} never ({bit.Masked} masked)" : $"{bit.Bit} {bit.Hid}{(bit.Quiet > 0 ? $" (never in {bit.Quiet} of {bit.Forms} forms)" : "")}";

    private static ImmutableArray<MaskBit> Bits(IEnumerable<MaskEvidence> masks) =>
    [
        .. masks.GroupBy(mask => mask.Bit.Bit, StringComparer.Ordinal)
            .Select(bit => new MaskBit(bit.Key, bit.Sum(m => m.Masked), bit.Sum(m => m.Hid), bit.Count(), bit.Count(m => m.Hid == 0)))
            .OrderBy(bit => bit.Bit, StringComparer.Ordinal),
    ];
}
