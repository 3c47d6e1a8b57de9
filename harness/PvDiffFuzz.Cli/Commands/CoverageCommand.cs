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
                rows.Add(new Row(mode, family.Key, family.Count(), family.Count(form => IsModelled(form, mode)), family.Count(form => GapOf(form, mode) is not null)));
                gaps.AddRange(family.Where(form => !IsModelled(form, mode)).Select(form => $"{mode} {family.Key} {form.Code}: {GapOf(form, mode)?.Reason ?? "missing"}"));
            }
        }

        int valid = rows.Sum(row => row.Valid);
        int modelled = rows.Sum(row => row.Modelled);
        int excluded = rows.Sum(row => row.Excluded);
        List<Row> modes = [.. rows.GroupBy(row => row.Mode).Select(mode => new Row(mode.Key, null, mode.Sum(row => row.Valid), mode.Sum(row => row.Modelled), mode.Sum(row => row.Excluded)))];
        if (json)
        {
            Json.Print(new
            {
                forms = new { valid, modelled, excluded, byMode = modes, byFamily = rows, missing = missing ? gaps : null },
                exclusions = ModelGaps.Rows,
                rules = new { total = X86Rules.All.Length, specifications = X86Rules.All.GroupBy(rule => rule.Document, StringComparer.Ordinal).Select(group => new { document = group.Key, total = group.Count() }) },
            });
            return ExitCode.Ok;
        }

        foreach (Row row in rows)
        {
            Console.WriteLine($"{row.Mode,-16} {row.Family,-12} {row.Modelled,5} of {row.Valid,5}{(row.Excluded > 0 ? $"  {row.Excluded} excluded" : "")}");
        }

        foreach (Row mode in modes)
        {
            PrintTotal(mode.Mode.ToString(), mode.Modelled, mode.Excluded, mode.Valid);
        }

        PrintTotal("forms", modelled, excluded, valid);
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

    private static void PrintTotal(string name, int modelled, int excluded, int valid) =>
        Console.WriteLine($"{name,-29} {modelled,5} of {valid,5}  ({100.0 * modelled / valid:f1} %), {excluded} excluded with a reason ({100.0 * excluded / valid:f1} %), {valid - modelled - excluded} missing");

    private static bool IsModelled(InstructionForm form, CpuMode mode) => GapOf(form, mode) is null && X86Model.ModelledForms.Contains(form.Code.ToString());

    private static ModelGap? GapOf(InstructionForm form, CpuMode mode) => ModelGaps.Find(form.Code.ToString(), mode);

    private sealed record Row(CpuMode Mode, Family? Family, int Valid, int Modelled, int Excluded);
}
