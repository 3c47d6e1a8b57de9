using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf report conformance PATH...</c>: what recordings show of a specification, clause by clause, as a page.</summary>
internal static class ReportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string[]> paths = new("path") { Description = "Case files with recorded outcomes, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string?> page = new("--out") { Description = "Write the page to this file instead of stdout." };
        Option<string?> known = CommonOptions.Known();
        Command conformance = new("conformance", "Hold recordings of hosts against the models and print what each clause of the specification came to; exit 1 when something is not described.") { paths, page, known };
        conformance.SetAction(parsed => CommandLine.Guard(() =>
            Run(composition, CorpusFiles.Find(parsed.GetRequiredValue(paths)), Session.Known(parsed.GetValue(known)), parsed.GetValue(page))));
        return new Command("report", "Write pages from stored results.") { conformance };
    }

    private static ExitCode Run(Composition composition, IReadOnlyList<string> files, KnownSet known, string? page)
    {
        using CaseRunner runner = Session.Runner(composition, composition.Host, composition.Usual.Where(name => name.StartsWith("model.", StringComparison.Ordinal)));
        Conformance conformance = Conformance.Of(files, runner, known, composition.Host);
        string text = ConformancePage.Write(conformance, known);
        if (page is null)
        {
            Console.Write(text);
        }
        else
        {
            AtomicFile.Write(page, text);
        }

        return conformance.Unmatched.Count > 0 ? ExitCode.Diverged : ExitCode.Ok;
    }
}
