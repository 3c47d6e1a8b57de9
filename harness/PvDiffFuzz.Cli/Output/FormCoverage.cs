using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Forms of one family in one mode.</summary>
/// <param name="Mode">Mode.</param>
/// <param name="Family">Family.</param>
/// <param name="Valid">Countable forms.</param>
/// <param name="Modelled">Of these, those that the model executes, also by raising #UD or #GP.</param>
/// <param name="Executed">Of these, those that campaigns executed.</param>
internal sealed record FamilyCoverage(CpuMode Mode, Family Family, int Valid, int Modelled, int Executed);

/// <summary>Forms modelled out of forms valid, by mode and family.</summary>
/// <param name="Families">One row a mode and family.</param>
/// <param name="Gaps">Forms that are not modelled.</param>
internal sealed record FormCoverage(ImmutableArray<FamilyCoverage> Families, ImmutableArray<string> Gaps)
{
    private int Valid => Families.Sum(row => row.Valid);

    private int Modelled => Families.Sum(row => row.Modelled);

    /// <summary>Counts.</summary>
    public static FormCoverage Count(CampaignEvidence evidence)
    {
        List<FamilyCoverage> rows = [];
        List<string> gaps = [];
        foreach (CpuMode mode in Enum.GetValues<CpuMode>())
        {
            foreach (IGrouping<Family, InstructionForm> family in InstructionForms.Countable(mode).GroupBy(form => form.Family).OrderBy(group => group.Key))
            {
                rows.Add(new FamilyCoverage(mode, family.Key, family.Count(), family.Count(IsModelled), family.Count(form => evidence.Forms.Contains(form.Code.ToString()))));
                gaps.AddRange(family.Where(form => !IsModelled(form)).Select(form => $"{mode} {family.Key} {form.Code}"));
            }
        }

        return new FormCoverage([.. rows], [.. gaps]);
    }

    /// <summary>Shapes it for programs.</summary>
    public object ForJson(bool missing) => new { valid = Valid, modelled = Modelled, byFamily = Families, missing = missing ? Gaps : (ImmutableArray<string>?)null };

    /// <summary>Prints it for a person.</summary>
    public void Print(bool missing)
    {
        foreach (FamilyCoverage row in Families)
        {
            Console.WriteLine($"{row.Mode,-16} {row.Family,-12} {row.Modelled,5} of {row.Valid,5}");
        }

        Console.WriteLine($"{"forms",-29} {Modelled,5} of {Valid,5}  ({100.0 * Modelled / Valid:f1} %)");
        if (missing)
        {
            foreach (string gap in Gaps)
            {
                Console.WriteLine(gap);
            }
        }
    }

    private static bool IsModelled(InstructionForm form) => X86Model.ModelledForms.Contains(form.Code.ToString());
}
