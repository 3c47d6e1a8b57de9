using System.CommandLine;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf export</c>: turns cases into inputs of other fuzzers.</summary>
internal static class ExportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string[]> paths = new("path") { Description = "Case files, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string> format = new("--format") { Description = $"Whose inputs: {string.Join(" or ", FuzzerInputs.Formats)}.", Required = true };
        format.AcceptOnlyFromAmong(FuzzerInputs.Formats);
        Option<bool> code = new("--code") { Description = "Bare code for the target predecoder instead of the text of the case." };
        Option<string> into = new("--out") { Description = "Folder for the inputs; made if it does not exist.", Required = true };
        Option<bool> json = CommonOptions.Json();
        Command command = new("export", "Turn cases into inputs of AFL++ or libFuzzer.") { paths, format, code, into, json };
        command.SetAction(parsed => CommandLine.Guard(() =>
            Run(parsed.GetRequiredValue(paths), parsed.GetRequiredValue(format), parsed.GetValue(code), parsed.GetRequiredValue(into), parsed.GetValue(json))));
        return command;
    }

    private static ExitCode Run(string[] paths, string format, bool code, string into, bool json)
    {
        IReadOnlyList<string> files = CorpusFiles.Find(paths);
        Directory.CreateDirectory(into);
        int exported = 0;
        foreach (CaseFile file in files.Select(path => CaseFile.Read(path, lenient: true)))
        {
            if (FuzzerInputs.OfCase(file, code) is byte[] input)
            {
                File.WriteAllBytes(Path.Combine(into, FuzzerInputs.NameOf(format, exported++, file.Id, input)), input);
            }
        }

        if (json)
        {
            Json.Print(new { cases = files.Count, exported });
        }
        else
        {
            Console.WriteLine($"{exported} of {files.Count} cases exported");
        }

        return ExitCode.Ok;
    }
}
