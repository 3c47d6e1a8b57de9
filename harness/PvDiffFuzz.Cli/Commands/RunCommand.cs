using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf run CASE</c>: runs one case on targets and prints every outcome and the camps.</summary>
internal static class RunCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string> path = new("case") { Description = "A case file." };
        Option<string> targets = CommonOptions.Targets(composition);
        Option<bool> json = CommonOptions.Json();
        Command command = new("run", "Run one case on targets and compare; exit 1 when they differ.") { path, targets, json };
        command.SetAction(parsed => CommandLine.Guard(() =>
            Run(composition, parsed.GetRequiredValue(path), composition.Parse(parsed.GetRequiredValue(targets)), parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, string path, IReadOnlyList<string> names, bool json)
    {
        CaseFile file = CaseFile.Read(path, lenient: true);
        using CaseRunner runner = Session.Runner(composition, names);
        Examination examined = runner.Examine(file.Case);
        if (json)
        {
            Json.Print(new
            {
                outcomes = examined.Outcomes.Select((outcome, i) => OutcomeView.Of(names[i], outcome)),
                camps = examined.Comparison.Camps.Select(camp => camp.Members.Select(member => names[member])),
                differences = examined.Comparison.Differences.Select(difference => difference.Field.ToString()),
            });
        }
        else
        {
            // What agrees needs no explanation; `show` gives it on request.
            int first = examined.Comparison.FirstEvent;
            InstructionAt at = InstructionAt.Find(file.Case, examined.Outcomes.AsSpan(), first, runner.Analyst);
            CaseView.Print(file, [.. names], examined, at, examined.Diverges ? Session.RulesOf(composition.Host, file.Case, at, first) : []);
        }

        return examined.Outcomes.Any(outcome => outcome.End == EndKind.HarnessError) ? ExitCode.Failed
            : examined.Diverges ? ExitCode.Diverged
            : ExitCode.Ok;
    }
}
