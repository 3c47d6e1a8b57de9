using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Export;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf export CASE --format FORMAT</c>: writes a case down for another tool.</summary>
internal static class ExportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string> path = new("case") { Description = "A case file." };
        Option<string> format = new("--format")
        {
            Description = string.Join("; ", ExportFormat.All.Select(f => $"{f.Name}: {f.Description}")),
            Required = true,
        };
        format.AcceptOnlyFromAmong([.. ExportFormat.All.Select(f => f.Name)]);
        Option<string?> folder = new("--out") { Description = "Folder for what is written, made if it does not exist; default: one file is printed." };
        Command command = new("export", "Write a case down for another tool.") { path, format, folder };
        command.SetAction(parsed => CommandLine.Guard(() => Run(parsed.GetRequiredValue(path), parsed.GetRequiredValue(format), parsed.GetValue(folder))));
        return command;
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
