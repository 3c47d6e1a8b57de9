using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf doctor</c>: tells which targets work on this host, and for each that does not, what to do.</summary>
internal static class DoctorCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Option<bool> json = CommonOptions.Json();
        Option<string[]> require = new("--require")
        {
            Description = "Fail (exit 2) unless this target works; may be given several times. Without it every target is required.",
            AllowMultipleArgumentsPerToken = true,
        };
        Command command = new("doctor", "Tell which targets work on this host, and what to do about those that do not.") { json, require };
        command.SetAction(parsed => CommandLine.Guard(() => Run(composition, parsed.GetValue(json), parsed.GetValue(require) ?? [])));
        return command;
    }

    private static ExitCode Run(Composition composition, bool json, string[] require)
    {
        string? unknown = require.FirstOrDefault(name => !composition.Knows(name));
        if (unknown is not null)
        {
            throw new UsageException($"there is no target '{unknown}'; the targets are {string.Join(", ", composition.Names)}");
        }

        List<Diagnosis> rows = [.. composition.Names.Union(require, StringComparer.Ordinal).Select(name => Examine(composition, name))];
        if (json)
        {
            Json.Print(new { targets = rows });
        }
        else
        {
            foreach (Diagnosis row in rows)
            {
                Console.WriteLine(row.Ok ? $"ok    {row.Name}  [{row.Fingerprint}]" : $"skip  {row.Name}: {row.Reason}; cure: {row.Cure}");
            }
        }

        return rows.Exists(row => !row.Ok && (require.Length == 0 || require.Contains(row.Name, StringComparer.Ordinal))) ? ExitCode.Failed : ExitCode.Ok;
    }

    private static Diagnosis Examine(Composition composition, string name)
    {
        try
        {
            using ITarget target = composition.Create(name);
            return new Diagnosis(name, Ok: true, Reason: null, Cure: null, target.Info.Fingerprint.ToString());
        }
        catch (TargetUnavailableException trouble)
        {
            return new Diagnosis(name, Ok: false, trouble.Message, trouble.Cure, Fingerprint: null);
        }
    }

    private sealed record Diagnosis(string Name, bool Ok, string? Reason, string? Cure, string? Fingerprint);
}
