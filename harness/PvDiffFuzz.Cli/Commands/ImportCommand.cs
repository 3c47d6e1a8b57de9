using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf import FORMAT FILE --out FOLDER</c>: turns what was observed elsewhere into case files with recorded outcomes.</summary>
internal static class ImportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Command import = new("import", "Turn observations of other tools, and inputs of other fuzzers, into case files.");
        import.Subcommands.Add(Observed(composition, "pvm-observed", "What a PVM host did with a few instructions; docs/pvm-recordings.md describes the records.", "model.pvm", PvmImport.Of));
        import.Subcommands.Add(Observed(composition, "xen-observed", "What a PV guest of Xen did with a few instructions; docs/xen-recordings.md describes the records.", "model.xen", XenImport.Of));
        foreach (string format in FuzzerInputs.Formats)
        {
            import.Subcommands.Add(Inputs(format));
        }

        return import;
    }

    private static Command Observed(Composition composition, string name, string description, string model, Func<string, Imported> read)
    {
        Argument<string> file = new("file") { Description = "Records, one JSON object a line." };
        Option<string> folder = new("--out") { Description = "Folder for the case files, with one inside for each hypervisor; made if it does not exist.", Required = true };
        Option<string> targets = new("--targets") { Description = "Comma-separated targets that the records are compared with; the verdict is stored.", DefaultValueFactory = _ => model };
        Option<string?> known = CommonOptions.Known();
        Option<bool> json = CommonOptions.Json();
        Command observed = new(name, description) { file, folder, targets, known, json };
        observed.SetAction(parsed => CommandLine.Guard(() =>
            Run(
                composition,
                read(parsed.GetRequiredValue(file)),
                composition.Parse(parsed.GetRequiredValue(targets)),
                parsed.GetRequiredValue(folder),
                Session.Known(parsed.GetValue(known)),
                parsed.GetValue(json))));
        return observed;
    }

    /// <summary><c>pvdf import afl FOLDER</c> and the like: the inputs of a fuzzer that are cases.</summary>
    private static Command Inputs(string format)
    {
        Argument<string> corpus = new("folder") { Description = format == "afl" ? "Output folder of afl-fuzz, or one queue." : "Corpus of libFuzzer." };
        Option<bool> code = new("--code") { Description = "The inputs are bare code, those of the target predecoder." };
        Option<string> folder = new("--out") { Description = "Folder for the case files; made if it does not exist.", Required = true };
        Option<bool> json = CommonOptions.Json();
        Command command = new(format, $"Inputs that {(format == "afl" ? "AFL++" : "libFuzzer")} kept.") { corpus, code, folder, json };
        command.SetAction(parsed => CommandLine.Guard(() => Run(parsed.GetRequiredValue(corpus), parsed.GetValue(code), new CorpusFolder(parsed.GetRequiredValue(folder)), format, parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(string corpus, bool code, CorpusFolder into, string format, bool json)
    {
        string[] files = FuzzerInputs.Find(corpus);
        TestCase[] cases = [.. files.Select(file => FuzzerInputs.ToCase(File.ReadAllBytes(file), code)).OfType<TestCase>()];
        foreach (TestCase testCase in cases)
        {
            into.Save(testCase, $"An input that {format} kept.", found: null);
        }

        if (json)
        {
            Json.Print(new { inputs = files.Length, imported = cases.Length });
        }
        else
        {
            Console.WriteLine($"{cases.Length} of {files.Length} inputs are cases");
        }

        return ExitCode.Ok;
    }

    private static ExitCode Run(Composition composition, Imported import, IEnumerable<string> names, string folder, KnownSet known, bool json)
    {
        using CaseRunner runner = Session.Runner(composition, composition.Host, names);
        Replay replay = new(runner, known, TargetMasks.Of);
        SortedDictionary<string, int> verdicts = new(StringComparer.Ordinal);
        foreach (CaseFile file in import.Files)
        {
            string? verdict = replay.VerdictOf(file, out int comparable)?.ToString();
            string ofHypervisor = Path.Combine(folder, import.FolderOf(file));
            Directory.CreateDirectory(ofHypervisor);
            AtomicFile.Write(Path.Combine(ofHypervisor, $"{file.Id}.case"), (file with { Verdict = verdict }).Write());
            string counted = verdict ?? (comparable < 2 ? "not comparable" : "agree");
            verdicts[counted] = verdicts.GetValueOrDefault(counted) + 1;
        }

        Report(import, verdicts, json);
        return ExitCode.Ok;
    }

    private static void Report(Imported import, SortedDictionary<string, int> verdicts, bool json)
    {
        int leftOut = import.LeftOut.Sum(pair => pair.Value.Length);
        if (json)
        {
            Json.Print(new { records = import.Files.Length + leftOut, imported = import.Files.Length, leftOut = import.LeftOut, verdicts });
            return;
        }

        foreach ((string reason, ImmutableArray<string> ids) in import.LeftOut)
        {
            Console.WriteLine($"left out {ids.Length,4}  {reason}: {string.Join(", ", ids)}");
        }

        foreach ((string verdict, int count) in verdicts)
        {
            Console.WriteLine($"verdict  {count,4}  {verdict}");
        }

        Console.WriteLine($"{import.Files.Length + leftOut} records: {import.Files.Length} imported, {leftOut} left out");
    }
}
