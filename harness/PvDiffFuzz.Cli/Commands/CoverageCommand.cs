using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf coverage</c>: forms modelled out of forms valid, and what campaigns showed about the rules and about the masks.</summary>
internal static class CoverageCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string[]> folders = new("folder")
        {
            Description = "Folders of campaigns (--out of fuzz), searched for *.evidence.json: tells which rules they executed, confirmed and contradicted, and what the masks hid.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        Option<bool> json = CommonOptions.Json();
        Option<bool> missing = new("--missing") { Description = "List the forms that are not modelled." };
        Option<bool> rules = new("--rules") { Description = "List every rule with its counts." };
        Option<bool> masks = new("--masks") { Description = "List every masked bit of every form with its counts." };
        Command command = new("coverage", "Count instruction forms and rules that the models cover, and what campaigns showed about them.") { folders, json, missing, rules, masks };
        command.SetAction(parsed => CommandLine.Guard(() =>
            Run(parsed.GetValue(folders) ?? [], parsed.GetValue(json), new Details(parsed.GetValue(missing), parsed.GetValue(rules), parsed.GetValue(masks)))));
        return command;
    }

    private static ExitCode Run(string[] folders, bool json, Details details)
    {
        CampaignEvidence evidence = folders.Select(Read).Aggregate(CampaignEvidence.None, (sum, other) => sum.Add(other));
        FormCoverage forms = FormCoverage.Count(evidence);
        RuleCoverage rules = RuleCoverage.Of(evidence);
        MaskCoverage masks = MaskCoverage.Of(evidence);
        if (json)
        {
            Json.Print(new
            {
                campaigns = evidence.Campaigns,
                cases = evidence.Cases,
                comparable = evidence.Comparable,
                sampled = evidence.Sampled,
                targets = evidence.Targets,
                forms = forms.ForJson(details.Missing),
                rules = rules.ForJson(),
                progress = CoverageProgress.ForJson(evidence.Progress),
                masks = evidence.Campaigns == 0 ? null : masks.ForJson(),
            });
            return ExitCode.Ok;
        }

        forms.Print(details.Missing);
        if (evidence.Campaigns > 0)
        {
            Console.WriteLine($"{evidence.Campaigns} campaign(s), {evidence.Cases} cases, {evidence.Comparable} comparable; rules and masks were looked at in {evidence.Sampled} of them, differences in all");
        }

        rules.Print(evidence.Campaigns > 0, details.Rules);
        if (evidence.Campaigns > 0)
        {
            masks.Print(details.Masks);
            CoverageProgress.Print(evidence.Progress);
        }

        return ExitCode.Ok;
    }

    private static CampaignEvidence Read(string folder) =>
        File.Exists(folder) ? EvidenceFile.Read(folder)
        : Directory.Exists(folder) ? EvidenceFile.ReadFolder(folder)
        : throw new UsageException($"{folder}: there is no such folder");

    private sealed record Details(bool Missing, bool Rules, bool Masks);
}
