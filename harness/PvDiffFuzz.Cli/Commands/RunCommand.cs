using System.Collections.Immutable;
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
        Option<string?> targets = CommonOptions.TargetsByAbi(composition);
        Option<bool> json = CommonOptions.Json();
        Command command = new("run", "Run one case on targets and compare; exit 1 when they differ.") { path, targets, json };
        command.SetAction(parsed => CommandLine.Guard(() =>
            Run(composition, parsed.GetRequiredValue(path), parsed.GetValue(targets), parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, string path, string? targets, bool json)
    {
        CaseFile file = CaseFile.Read(path, lenient: true);
        using CaseRunner runner = Runner(composition, path, file, targets, out CpuProfile processor);
        ImmutableArray<string> names = [.. runner.Infos.Select(info => info.Name)];
        Examination examined = runner.Examine(file.Case);
        if (json)
        {
            Json.Print(new
            {
                input = StepsView.Of(file.Case),
                outcomes = examined.Outcomes.Select((outcome, i) => OutcomeView.Of(names[i], outcome, file.Case.Abi)),
                camps = examined.Comparison.Camps.Select(camp => camp.Members.Select(member => names[member])),
                differences = examined.Comparison.Differences.Select(difference => difference.Field.ToString()),
            });
        }
        else
        {
            // What agrees needs no explanation; `show` gives it on request.
            int first = examined.Comparison.FirstEvent;
            InstructionAt at = InstructionAt.Find(file.Case, examined.Outcomes.AsSpan(), first, runner.Analyst);
            CaseView.Print(file, names, examined, at, examined.Diverges ? Session.RulesOf(processor, file.Case, at, examined.Outcomes.AsSpan(), first) : []);
        }

        return examined.Outcomes.Any(outcome => outcome.End == EndKind.HarnessError) ? ExitCode.Failed
            : examined.Diverges ? ExitCode.Diverged
            : ExitCode.Ok;
    }

    /// <summary>What is stored in a case of another ABI than x86 takes part unless targets are named: few hosts have a hypervisor for it.</summary>
    private static CaseRunner Runner(Composition composition, string path, CaseFile file, string? targets, out CpuProfile processor)
    {
        Abi abi = file.Case.Abi;
        IReadOnlyList<string> names = targets is null ? composition.DefaultsFor(abi) : composition.Parse(targets);
        ImmutableArray<RecordedTarget> recorded = targets is null && abi != Abi.X86 ? RecordedTarget.Of(file) : [];
        processor = composition.ProcessorOf(abi, names);
        return names.Count + recorded.Length > 0
            ? Session.Runner(composition, processor, names, recorded)
            : throw new UsageException($"{path}: no target here runs {abi.Text()}, and no outcome is stored in the case; the targets are {string.Join(", ", composition.Names)}");
    }
}
