using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf coverage</c>: forms modelled out of forms valid, by mode and family, and the rules with their sources.</summary>
internal static class CoverageCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Option<bool> json = CommonOptions.Json();
        Option<bool> missing = new("--missing") { Description = "List the forms that are not modelled." };
        Command command = new("coverage", "Count instruction forms and rules that the models cover.") { json, missing };
        command.SetAction(parsed => CommandLine.Guard(() => Run(parsed.GetValue(json), parsed.GetValue(missing))));
        return command;
    }

    private static ExitCode Run(bool json, bool missing)
    {
        List<Row> rows = [];
        List<string> gaps = [];
        foreach (CpuMode mode in Enum.GetValues<CpuMode>())
        {
            foreach (IGrouping<Family, InstructionForm> family in InstructionForms.Countable(mode).GroupBy(form => form.Family).OrderBy(group => group.Key))
            {
                rows.Add(new Row(mode, family.Key, family.Count(), family.Count(IsModelled)));
                gaps.AddRange(family.Where(form => !IsModelled(form)).Select(form => $"{mode} {family.Key} {form.Code}"));
            }
        }

        int valid = rows.Sum(row => row.Valid);
        int modelled = rows.Sum(row => row.Modelled);
        if (json)
        {
            Json.Print(new
            {
                forms = new { valid, modelled, byFamily = rows, missing = missing ? gaps : null },
                rules = new { total = X86Rules.All.Length, specifications = X86Rules.All.GroupBy(rule => rule.Document, StringComparer.Ordinal).Select(group => new { document = group.Key, total = group.Count() }) },
            });
            return ExitCode.Ok;
        }

        foreach (Row row in rows)
        {
            Console.WriteLine($"{row.Mode,-16} {row.Family,-12} {row.Modelled,5} of {row.Valid,5}");
        }

        Console.WriteLine($"{"forms",-29} {modelled,5} of {valid,5}  ({100.0 * modelled / valid:f1} %)");
        foreach (IGrouping<string, Rule> document in X86Rules.All.GroupBy(rule => rule.Document, StringComparer.Ordinal))
        {
            Console.WriteLine($"rules {document.Key,-23} {document.Count(),5}");
        }

        if (missing)
        {
            gaps.ForEach(Console.WriteLine);
        }

        return ExitCode.Ok;
    }

    private static bool IsModelled(InstructionForm form) => X86Model.ModelledForms.Contains(form.Code.ToString());

    private sealed record Row(CpuMode Mode, Family Family, int Valid, int Modelled);
}
