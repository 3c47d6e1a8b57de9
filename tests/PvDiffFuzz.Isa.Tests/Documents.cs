using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Isa.Tests;

/// <summary>The pages under <c>docs/</c> that repeat a table of the code, and how a row of it looks there.</summary>
internal static class Documents
{
    /// <summary>Reads a page.</summary>
    public static string Read(string name) => File.ReadAllText(Checkout.PathOf("docs", name));

    /// <summary>A row of the exclusion table.</summary>
    public static string Row(Exclusion row)
    {
        string mnemonics = string.Join(' ', row.Mnemonics.Select(m => m.ToString().ToUpperInvariant()));
        string where = string.Join(", ", new[] { row.Mode?.ToString(), row.Vendor?.ToString(), row.Feature }.Where(w => w is not null));
        return $"| `{row.Id}` | {mnemonics} | {(where.Length == 0 ? "always" : where)} | {row.Reason} |";
    }

    /// <summary>A row of the table of undefined bits.</summary>
    public static string Row(UndefinedRow row)
    {
        string mnemonics = string.Join(' ', row.Mnemonics.Select(m => m.ToString().ToUpperInvariant()));
        string size = row.OperandBits == 0 ? "" : $" ({row.OperandBits} bits)";
        string bits = string.Join(' ', Names(row.Flags));
        string target = row.Target == UndefinedTarget.Flags ? "" : row.Target.ToString().ToLowerInvariant();
        return $"| `{row.Id}` | {mnemonics}{size} | {row.Condition} | {string.Join(", ", new[] { bits, target }.Where(t => t.Length > 0))} | {row.Vendor?.ToString() ?? "both"} | {row.Source} |";
    }

    private static IEnumerable<string> Names(ulong flags)
    {
        foreach ((string name, int bit) in new[] { ("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("OF", 11) })
        {
            if (((flags >> bit) & 1) != 0)
            {
                yield return name;
            }
        }
    }
}
