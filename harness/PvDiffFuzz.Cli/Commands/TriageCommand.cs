using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf triage A B...</c>: compares recordings of hosts with each other and with live targets, and groups what differs.</summary>
internal static class TriageCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string[]> sides = new("side") { Description = $"Recordings, or live targets: {string.Join(", ", composition.Names)}.", Arity = ArgumentArity.OneOrMore };
        Option<string[]> corpus = new("--corpus") { Description = "More cases for live targets: case files, recordings (*.rec) or folders.", AllowMultipleArgumentsPerToken = true };
        Option<string?> known = CommonOptions.Known();
        Option<string?> save = new("--save") { Description = "Write the first case of each new difference into this folder." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("triage", "Compare recordings and live targets; exit 1 when something differs that is not known.") { sides, corpus, known, save, json };
        command.SetAction(parsed => CommandLine.Guard(() => Run(
            composition,
            new TriageSides(composition, parsed.GetRequiredValue(sides)),
            RecordedCases.Read(parsed.GetValue(corpus) ?? []),
            Session.Known(parsed.GetValue(known)),
            parsed.GetValue(save),
            parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, TriageSides sides, IReadOnlyList<CaseFile> more, KnownSet known, string? save, bool json)
    {
        ImmutableArray<CaseFile> cases = HostTriage.Union(sides.Recordings.SelectMany(r => r.Recording.Cases).Concat(more));
        if (cases.IsEmpty)
        {
            throw new UsageException("there are no cases; name a recording that has some, or cases with --corpus");
        }

        foreach ((string path, Recording recording) in sides.Recordings.Where(r => r.Recording.Cases.Length < r.Recording.Planned))
        {
            Console.Error.WriteLine($"pvdf: {path} was stopped after {recording.Cases.Length} of {recording.Planned} cases");
        }

        CaseAnalyst analyst = CaseAnalyst.For(ModelsByAbi.Tracer(sides.Processor), sides.Vendors);
        using HostTriage triage = new(sides.Make(), analyst, known);
        using CtrlC interruption = new();
        Progress progress = new("compared", cases.Length);
        HostTriageReport report = triage.Run(cases, interruption.Token, progress.Show);
        TriageView view = new(report, [.. sides.Recordings.Select(r => (r.Path, r.Recording.Host))]);
        if (json)
        {
            Json.Print(view.ForPrograms());
        }
        else
        {
            view.Print();
        }

        if (save is not null && !Save(report, sides.Processor, save))
        {
            return ExitCode.Failed;
        }

        return Judge(report);
    }

    /// <summary>Silence is no agreement: where nothing was compared, or a live target had trouble of its own, the answer is not 0.</summary>
    private static ExitCode Judge(HostTriageReport report)
    {
        if (report.New > 0)
        {
            return ExitCode.Diverged;
        }

        bool trouble = report.Sides.Any(side => side.Source is null && side.Count(EndKind.HarnessError) > 0) || report.Groups.Any(g => g.Verdict.Kind == VerdictKind.HarnessFault);
        if (report.Compared == 0)
        {
            Console.Error.WriteLine("pvdf: nothing was compared: no case has two comparable outcomes");
        }

        return trouble || report.Compared == 0 || report.Cancelled ? ExitCode.Failed : ExitCode.Ok;
    }

    private static bool Save(HostTriageReport report, CpuProfile processor, string folder)
    {
        FolderStore store = new(folder, finding => FindingText.Of(finding, processor, "pvdf triage"));
        bool saved = true;
        foreach (TriageGroup group in report.Groups.Where(g => g.Verdict.Kind == VerdictKind.New))
        {
            StoreResult result = store.Save(new Finding { Signature = group.Signature, Verdict = group.Verdict, Divergence = group.First, Seed = 0, Index = 0 });
            saved &= result.Problem is null;
            Console.Error.WriteLine($"pvdf: {result.Problem ?? $"saved {result.Path}"}");
        }

        return saved;
    }
}
