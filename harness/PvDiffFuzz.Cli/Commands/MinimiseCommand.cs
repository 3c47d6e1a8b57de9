using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf minimise CASE</c>: makes a diverging case smaller with the same signature.</summary>
internal static class MinimiseCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string> path = new("case") { Description = "A case file whose outcomes diverge." };
        Option<string?> targets = CommonOptions.TargetsByAbi(composition);
        Option<string?> save = new("--save") { Description = "Write the smaller case to this file; default: print it on stdout." };
        Command command = new("minimise", "Make a diverging case smaller; exit 1 when it still diverges, 0 when there was nothing to minimise.") { path, targets, save };
        command.SetAction(parsed => CommandLine.Guard(() =>
            Run(composition, parsed.GetRequiredValue(path), parsed.GetValue(targets), parsed.GetValue(save))));
        return command;
    }

    private static ExitCode Run(Composition composition, string path, string? targets, string? save)
    {
        CaseFile file = CaseFile.Read(path, lenient: true);
        IReadOnlyList<string> names = targets is null ? composition.DefaultsFor(file.Case.Abi) : composition.Parse(targets);
        if (names.Count == 0)
        {
            throw new UsageException($"{path}: no target here runs {file.Case.Abi.Text()}; the targets are {string.Join(", ", composition.Names)}");
        }

        CpuProfile processor = composition.ProcessorOf(file.Case.Abi, names);
        using CaseRunner runner = Session.Runner(composition, processor, names);
        Examination examined = runner.Examine(file.Case);
        if (!examined.Diverges)
        {
            Console.Error.WriteLine($"pvdf: {path}: the targets {string.Join(", ", names)} do not differ on this case ({examined.Comparison.Result})");
            return ExitCode.Ok;
        }

        using CtrlC interruption = new();
        Minimiser minimiser = new(Reductions.All, new MinimiserLimits(), candidate => Session.MayRunLive(candidate, processor));
        Minimised minimised = minimiser.Minimise(Divergence.Of(examined, runner), runner, interruption.Token);
        Finding finding = new()
        {
            Signature = minimised.Divergence.Signature,
            Verdict = Verdict.New,
            Divergence = minimised.Divergence,
            Seed = 0,
            Index = 0,
        };
        string text = FindingText.Of(finding, processor, file.Found);
        if (save is null)
        {
            Console.Write(text);
        }
        else
        {
            AtomicFile.Write(save, text);
        }

        Console.Error.WriteLine($"pvdf: {CodeEdit.CountWithoutPadding(file.Case.Code)} -> {finding.Instructions} instruction(s) after {minimised.Candidates} candidates; {minimised.Drifted} diverged otherwise and were refused");
        return ExitCode.Diverged;
    }
}
