using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf merge</c>: joins corpora and keeps few cases that together cover what all of them do.</summary>
internal static class MergeCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string[]> paths = new("path") { Description = "Case files, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string> into = new("--out") { Description = "Folder for the cases that are kept; must not exist, or be empty.", Required = true };
        Option<bool> json = CommonOptions.Json();
        Command command = new("merge", "Distil corpora to few cases that take the same edges of the models as often and execute the same rules.") { paths, into, json };
        command.SetAction(parsed => CommandLine.Guard(() => Run(composition, parsed.GetRequiredValue(paths), parsed.GetRequiredValue(into), parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(Composition composition, string[] paths, string into, bool json)
    {
        if (Directory.Exists(into) && Directory.EnumerateFileSystemEntries(into).Any())
        {
            throw new UsageException($"--out {into}: the folder is not empty");
        }

        List<object> merged = [];
        foreach (IGrouping<Abi, TestCase> cases in CorpusFiles.Find(paths).Select(file => CaseFile.Read(file, lenient: true).Case).GroupBy(testCase => testCase.Abi).OrderBy(group => group.Key))
        {
            merged.Add(Merge(composition, cases.Key, [.. cases], new CorpusFolder(into), json));
        }

        if (json)
        {
            Json.Print(new { merged });
        }

        return ExitCode.Ok;
    }

    private static object Merge(Composition composition, Abi abi, List<TestCase> cases, CorpusFolder into, bool json)
    {
        if (!ModelsByAbi.CanCount || ModelsByAbi.Of(abi) is not ModelParts model)
        {
            throw new UsageException($"{abi.Text()}: there is no instrumented model beside this program that could tell what its cases cover");
        }

        using IProbedModel probed = model.Probed(composition.Host, null);
        Distilled distilled = Distiller.Distil(probed, cases);
        foreach (int kept in distilled.Kept)
        {
            into.Save(cases[kept], "Kept by a merge of corpora: without it they would cover less.", found: null);
        }

        if (!json)
        {
            Console.WriteLine($"{abi.Text()}: {distilled.Kept.Length} of {cases.Count} cases kept, {distilled.Edges} edges by how often and {distilled.Rules} rules; {distilled.Useless} cases cannot be run");
        }

        return new { abi = abi.Text(), cases = cases.Count, kept = distilled.Kept.Length, edges = distilled.Edges, rules = distilled.Rules, useless = distilled.Useless };
    }
}
