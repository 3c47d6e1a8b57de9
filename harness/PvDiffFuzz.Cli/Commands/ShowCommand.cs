using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf show CASE</c>: prints a case with the outcomes stored in it, and with live ones on request.</summary>
internal static class ShowCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string> path = new("case") { Description = "A case file." };
        Option<string?> targets = new("--targets") { Description = $"Also run these now: {string.Join(", ", composition.Names)}." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("show", "Print a case: disassembly, stored outcomes side by side, differences, rules.") { path, targets, json };
        command.SetAction(parsed => CommandLine.Guard(() => Run(composition, parsed.GetRequiredValue(path), parsed.GetValue(targets), parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, string path, string? live, bool json)
    {
        CaseFile file = CaseFile.Read(path, lenient: true);
        ImmutableArray<ITarget> recorded = [.. RecordedTarget.Of(file)];
        IReadOnlyList<string> names = live is null ? [] : composition.Parse(live);
        if (recorded.IsEmpty && names.Count == 0)
        {
            names = file.Case.Abi == Abi.X86 ? ["model.x86"] : composition.DefaultsFor(file.Case.Abi);
        }

        CpuProfile processor = composition.ProcessorOf(file.Case.Abi, names);
        using CaseRunner runner = Session.Runner(composition, processor, names, recorded);
        ImmutableArray<string> columns = [.. runner.Infos.Select(info => info.Name)];
        Examination examined = runner.Examine(file.Case);
        int first = examined.Comparison.FirstEvent;
        InstructionAt at = InstructionAt.Find(file.Case, examined.Outcomes.AsSpan(), first, runner.Analyst);
        ImmutableArray<RuleName> rules = Session.RulesOf(processor, file.Case, at, examined.Outcomes.AsSpan(), first);
        if (json)
        {
            Json.Print(new
            {
                id = file.Id,
                comment = file.Comment,
                verdict = file.Verdict,
                input = StepsView.Of(file.Case),
                code = Session.Disassemble(file.Case).Select(i => new { address = i.Address, bytes = Convert.ToHexStringLower(i.Bytes.AsSpan()), text = i.Text }),
                outcomes = examined.Outcomes.Select((outcome, i) => OutcomeView.Of(columns[i], outcome, file.Case.Abi)),
                camps = examined.Comparison.Camps.Select(camp => camp.Members.Select(member => columns[member])),
                differences = examined.Comparison.Differences.Select(difference => difference.Field.ToString()),
                instruction = new { form = at.Form, mnemonic = at.Mnemonic, address = at.Address, length = at.Length },
                rules,
            });
        }
        else
        {
            CaseView.Print(file, columns, examined, at, rules);
        }

        return ExitCode.Ok;
    }
}
