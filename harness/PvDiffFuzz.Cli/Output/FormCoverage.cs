using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Forms of one family in one mode.</summary>
/// <param name="Mode">Mode.</param>
/// <param name="Family">Family; null for all.</param>
/// <param name="Valid">Countable forms.</param>
/// <param name="Modelled">Of these, those that the model executes, also by raising #UD or #GP.</param>
/// <param name="Excluded">Of these, those that the model leaves out with a reason.</param>
/// <param name="Executed">Of these, those that campaigns executed.</param>
internal sealed record FamilyCoverage(CpuMode Mode, Family? Family, int Valid, int Modelled, int Excluded, int Executed);

/// <summary>Forms modelled out of forms valid, by mode and family.</summary>
/// <param name="Families">One row a mode and family.</param>
/// <param name="Gaps">Forms that are not modelled, with the reason where there is one.</param>
internal sealed record FormCoverage(ImmutableArray<FamilyCoverage> Families, ImmutableArray<string> Gaps)
{
    private IEnumerable<FamilyCoverage> Modes => Families.GroupBy(row => row.Mode).Select(rows => Sum(rows.Key, [.. rows]));

    /// <summary>Counts.</summary>
    public static FormCoverage Count(CampaignEvidence evidence)
    {
        List<FamilyCoverage> rows = [];
        List<string> gaps = [];
        foreach (CpuMode mode in Enum.GetValues<CpuMode>())
        {
            foreach (IGrouping<Family, InstructionForm> family in InstructionForms.Countable(mode).GroupBy(form => form.Family).OrderBy(group => group.Key))
            {
                rows.Add(new FamilyCoverage(
                    mode,
                    family.Key,
                    family.Count(),
                    family.Count(form => IsModelled(form, mode)),
                    family.Count(form => GapOf(form, mode) is not null),
                    family.Count(form => evidence.Forms.Contains(form.Code.ToString()))));
                gaps.AddRange(family.Where(form => !IsModelled(form, mode)).Select(form => $"{mode} {family.Key} {form.Code}: {GapOf(form, mode)?.Reason ?? "missing"}"));
            }
        }

        return new FormCoverage([.. rows], [.. gaps]);
    }

    /// <summary>Shapes it for programs.</summary>
    public object ForJson(bool missing)
    {
        FamilyCoverage all = Sum(default, Families);
        return new
        {
            valid = all.Valid,
            modelled = all.Modelled,
            excluded = all.Excluded,
            byMode = Modes,
            byFamily = Families,
            exclusions = ModelGaps.Rows,
            missing = missing ? Gaps : (ImmutableArray<string>?)null,
        };
    }

    /// <summary>Prints it for a person.</summary>
    public void Print(bool missing)
    {
        foreach (FamilyCoverage row in Families)
        {
            Console.WriteLine($"{row.Mode,-16} {row.Family,-12} {row.Modelled,5} of {row.Valid,5}{(row.Excluded > 0 ? $"  {row.Excluded} excluded" : "")}");
        }

        foreach (FamilyCoverage mode in Modes)
        {
            PrintTotal(mode.Mode.ToString(), mode);
        }

        PrintTotal("forms", Sum(default, Families));
        if (missing)
        {
            foreach (string gap in Gaps)
            {
                Console.WriteLine(gap);
            }
        }
    }

    private static void PrintTotal(string name, FamilyCoverage sum) =>
        Console.WriteLine(
            $"{name,-29} {sum.Modelled,5} of {sum.Valid,5}  ({100.0 * sum.Modelled / sum.Valid:f1} %), {sum.Excluded} excluded with a reason ({100.0 * sum.Excluded / sum.Valid:f1} %), {sum.Valid - sum.Modelled - sum.Excluded} missing");

    private static FamilyCoverage Sum(CpuMode mode, IReadOnlyCollection<FamilyCoverage> rows) =>
        new(mode, null, rows.Sum(row => row.Valid), rows.Sum(row => row.Modelled), rows.Sum(row => row.Excluded), rows.Sum(row => row.Executed));

    private static bool IsModelled(InstructionForm form, CpuMode mode) => GapOf(form, mode) is null && X86Model.ModelledForms.Contains(form.Code.ToString());

    private static ModelGap? GapOf(InstructionForm form, CpuMode mode) => ModelGaps.Find(form.Code.ToString(), mode);
}
