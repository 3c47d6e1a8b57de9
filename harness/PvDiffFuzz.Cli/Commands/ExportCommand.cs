using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Export;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf export CASE --format FORMAT</c>: writes a case down for another tool, or a corpus as inputs of another fuzzer.</summary>
internal static class ExportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string[]> paths = new("case") { Description = "A case file; for another fuzzer also several, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string> format = new("--format")
        {
            Description = string.Join("; ", ExportFormat.All.Select(f => $"{f.Name}: {f.Description}").Concat(FuzzerInputs.Formats.Select(f => $"{f}: inputs of our fuzz targets under this fuzzer"))),
            Required = true,
        };
        format.AcceptOnlyFromAmong([.. ExportFormat.All.Select(f => f.Name), .. FuzzerInputs.Formats]);
        Option<string?> folder = new("--out") { Description = "Folder for what is written, made if it does not exist; default: one file is printed." };
        Option<bool> code = new("--code") { Description = "For another fuzzer: bare code for the target predecoder instead of the text of the case." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("export", "Write a case down for another tool, or cases as inputs of another fuzzer.") { paths, format, folder, code, json };
        command.SetAction(parsed => CommandLine.Guard(() =>
        {
            string[] cases = parsed.GetRequiredValue(paths);
            string name = parsed.GetRequiredValue(format);
            return FuzzerInputs.Formats.Contains(name, StringComparer.Ordinal) ? Run(cases, name, parsed.GetValue(code), parsed.GetValue(folder), parsed.GetValue(json))
                : cases is [string one] ? Run(one, name, parsed.GetValue(folder))
                : throw new UsageException($"--format {name} writes one case; give one file");
        }));
        return command;
    }

    /// <summary>Writes the inputs that cases are for another fuzzer.</summary>
    private static ExitCode Run(string[] paths, string format, bool code, string? into, bool json)
    {
        if (into is null)
        {
            throw new UsageException($"--format {format} writes many files; name a folder with --out");
        }

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

    private static ExitCode Run(string path, string name, string? folder)
    {
        ExportFormat format = ExportFormat.All.Single(f => f.Name == name);
        CaseFile file = CaseFile.Read(path, lenient: true);
        if (format.Refuses(file) is string trouble)
        {
            throw new UsageException($"{path} cannot be exported as {name}: {trouble}");
        }

        ImmutableArray<ExportedFile> files = format.Write(file);
        if (folder is null)
        {
            if (files.Length > 1)
            {
                throw new UsageException($"--format {name} writes {files.Length} files; name a folder with --out");
            }

            Console.Out.Write(files[0].Text);
            return ExitCode.Ok;
        }

        Directory.CreateDirectory(folder);
        foreach (ExportedFile written in files)
        {
            string target = Path.Combine(folder, written.Name);
            AtomicFile.Write(target, written.Text);
            Console.WriteLine(target);
        }

        return ExitCode.Ok;
    }
}
