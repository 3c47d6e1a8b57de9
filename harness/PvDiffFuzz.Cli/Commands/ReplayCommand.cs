using System.CommandLine;
using System.Text;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf replay PATH...</c>: runs stored cases again and tells which verdicts changed.</summary>
internal static class ReplayCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string[]> paths = new("path") { Description = "Case files, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string?> targets = new("--targets") { Description = $"Comma-separated targets: {string.Join(", ", composition.Names)}; default: those that work here." };
        Option<string?> known = CommonOptions.Known();
        Option<string?> junit = new("--junit") { Description = "Also write a JUnit report to this file." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("replay", "Run stored cases again; exit 1 when a verdict or an answer changed.") { paths, targets, known, junit, json };
        command.SetAction(parsed => CommandLine.Guard(() => Run(
            composition,
            CorpusFiles.Find(parsed.GetRequiredValue(paths)),
            parsed.GetValue(targets) is string list ? composition.Parse(list) : Working(composition),
            Session.Known(parsed.GetValue(known)),
            parsed.GetValue(junit),
            parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, IReadOnlyList<string> files, IReadOnlyList<string> names, KnownSet known, string? junit, bool json)
    {
        using CaseRunner runner = Session.Runner(composition, composition.Host, names);

        // What Linux hides is hidden in the stored outcomes of native too, wherever they are replayed.
        Replay replay = new(runner, known, TargetMasks.Of);
        List<ReplayResult> results = [.. replay.Run(files)];
        ReplayReport report = ReplayReport.Of(results, known);
        if (junit is not null)
        {
            // The writer's encoding is what the document declares, and files are UTF-8.
            using MemoryStream text = new();
            using StreamWriter writer = new(text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
            JUnit.Write(writer, "pvdf replay", results);
            writer.Flush();
            AtomicFile.Write(junit, Encoding.UTF8.GetString(text.GetBuffer(), 0, (int)text.Length));
        }

        if (json)
        {
            Json.Print(report);
        }
        else
        {
            foreach (ReplayResult result in results.Where(result => result.Status is not (ReplayStatus.Agree or ReplayStatus.Known)))
            {
                Console.WriteLine($"{result.Status.ToString().ToLowerInvariant(),-12} {result.Path}: {result.Message}");
            }

            SummaryView.PrintKnown(report.KnownMatches.Select(match => KeyValuePair.Create(match.Key, (long)match.Value)));
            Console.WriteLine($"{report.Cases} cases on {string.Join(", ", names)}: {report.Agree} agree, {report.Known} known, {report.Open} open, {report.Changed} changed, {report.Unsupported} unsupported, {report.Failed} failed");
        }

        return report.Changed > 0 ? ExitCode.Diverged : report.Failed > 0 ? ExitCode.Failed : ExitCode.Ok;
    }

    private static List<string> Working(Composition composition) => [.. composition.Usual.Where(name => Works(composition, name))];

    private static bool Works(Composition composition, string name)
    {
        try
        {
            composition.Create(name).Dispose();
            return true;
        }
        catch (TargetUnavailableException trouble)
        {
            Console.Error.WriteLine($"pvdf: {name} is left out: {trouble.Message}; cure: {trouble.Cure}");
            return false;
        }
    }
}
