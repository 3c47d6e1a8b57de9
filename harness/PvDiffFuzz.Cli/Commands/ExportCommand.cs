using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Export;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf export PATH... --format FORMAT</c>: writes cases down for another tool.</summary>
internal static class ExportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string[]> paths = new("path") { Description = "Case files, or folders that are searched for *.case.", Arity = ArgumentArity.OneOrMore };
        Option<string> format = new("--format")
        {
            Description = string.Join("; ", [.. ExportFormat.All.Select(f => $"{f.Name}: {f.Description}"), $"{string.Join(", ", FuzzerInputs.Formats)}: inputs of that fuzzer"]),
            Required = true,
        };
        format.AcceptOnlyFromAmong([.. ExportFormat.All.Select(f => f.Name), .. FuzzerInputs.Formats]);
        Option<bool> code = new("--code") { Description = "For fuzzers: bare code for the target predecoder instead of the text of the case." };
        Option<string?> into = new("--out") { Description = "Folder for what is written, made if it does not exist; default: one file is printed." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("export", "Write cases down for another tool.") { paths, format, code, into, json };
        command.SetAction(parsed => CommandLine.Guard(() =>
        {
            string name = parsed.GetRequiredValue(format);
            string? folder = parsed.GetValue(into);
            IReadOnlyList<string> files = CorpusFiles.Find(parsed.GetRequiredValue(paths));
            return ExportFormat.All.FirstOrDefault(f => f.Name == name) is ExportFormat known
                ? Run(files, known, folder, parsed.GetValue(json))
                : RunInputs(files, name, parsed.GetValue(code), folder ?? throw new UsageException($"--format {name} writes a file for each case; name a folder with --out"), parsed.GetValue(json));
        }));
        return command;
    }

    private static ExitCode Run(IReadOnlyList<string> paths, ExportFormat format, string? folder, bool json)
    {
        List<string> written = [];
        foreach (string path in paths)
        {
            CaseFile file = CaseFile.Read(path, lenient: true);
            if (format.Refuses(file) is string trouble)
            {
                throw new UsageException($"{path} cannot be exported as {format.Name}: {trouble}");
            }

            ImmutableArray<ExportedFile> files = format.Write(file);
            if (folder is null)
            {
                Console.Out.Write(files.Length == 1 && paths.Count == 1 ? files[0].Text : throw new UsageException($"--format {format.Name} writes {files.Length * paths.Count} files; name a folder with --out"));
                return ExitCode.Ok;
            }

            // Files with fixed names need a folder for each case.
            string target = files.Length > 1 && paths.Count > 1 ? Path.Combine(folder, file.Id) : folder;
            Directory.CreateDirectory(target);
            foreach (ExportedFile exported in files)
            {
                written.Add(Path.Combine(target, exported.Name));
                AtomicFile.Write(written[^1], exported.Text);
            }
        }

        if (json)
        {
            Json.Print(new { cases = paths.Count, exported = paths.Count, files = written });
        }
        else
        {
            written.ForEach(Console.WriteLine);
        }

        return ExitCode.Ok;
    }

    private static ExitCode RunInputs(IReadOnlyList<string> paths, string format, bool code, string folder, bool json)
    {
        Directory.CreateDirectory(folder);
        int exported = 0;
        foreach (CaseFile file in paths.Select(path => CaseFile.Read(path, lenient: true)))
        {
            if (FuzzerInputs.OfCase(file, code) is byte[] input)
            {
                File.WriteAllBytes(Path.Combine(folder, FuzzerInputs.NameOf(format, exported++, file.Id, input)), input);
            }
        }

        if (json)
        {
            Json.Print(new { cases = paths.Count, exported });
        }
        else
        {
            Console.WriteLine($"{exported} of {paths.Count} cases exported");
        }

        return ExitCode.Ok;
    }
}
