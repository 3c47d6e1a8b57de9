using System.CommandLine;
using System.CommandLine.Parsing;
using PvDiffFuzz.Cli.Commands;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Spectre.Console;

namespace PvDiffFuzz.Cli;

/// <summary>Parses the command line and maps every kind of trouble to its exit code.</summary>
public static class CommandLine
{
    /// <summary>Runs one command.</summary>
    /// <param name="args">Arguments without the program's name.</param>
    /// <param name="composition">The targets.</param>
    /// <returns>A value of <see cref="ExitCode"/>.</returns>
    public static int Run(string[] args, Composition composition)
    {
        // Markup is for terminals; a file or a pipe gets plain text.
        AnsiConsole.Profile.Capabilities.Ansi &= !Console.IsOutputRedirected;
        RootCommand root = new("pvdf: a differential fuzzer for the x86 paravirtual ABIs")
        {
            DoctorCommand.Create(composition),
            FuzzCommand.Create(composition),
            RunCommand.Create(composition),
            ReplayCommand.Create(composition),
            MinimiseCommand.Create(composition),
            ShowCommand.Create(composition),
            RecordCommand.Create(composition),
            TriageCommand.Create(composition),
            ImportCommand.Create(composition),
            ReportCommand.Create(composition),
            MergeCommand.Create(composition),
            CoverageCommand.Create(),
            ExportCommand.Create(),
        };
        XenCommandOptions xen = new();
        PvmCommandOptions pvm = new();
        xen.AddTo(root);
        pvm.AddTo(root);
        ParseResult parsed = root.Parse(args);
        if (parsed.Errors.Count > 0)
        {
            foreach (ParseError error in parsed.Errors)
            {
                Console.Error.WriteLine($"pvdf: {error.Message}");
            }

            Console.Error.WriteLine("pvdf: see 'pvdf --help' or 'pvdf COMMAND --help'");
            return (int)ExitCode.Usage;
        }

        int wrong = Guard(() =>
        {
            composition.UseXen(xen.Read(parsed));
            composition.UsePvm(pvm.Read(parsed));
            return ExitCode.Ok;
        });

        // The commands handle cancellation and report their own errors.
        return wrong != 0 ? wrong : parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    /// <summary>Wraps a command's body: user mistakes are 64, host trouble is 2, each with one message.</summary>
    public static int Guard(Func<ExitCode> body)
    {
        try
        {
            return (int)body();
        }
        catch (UsageException trouble)
        {
            return Complain(trouble.Message, ExitCode.Usage);
        }
        catch (CaseFileException trouble)
        {
            return Complain(trouble.Message, ExitCode.Usage);
        }
        catch (KnownFileException trouble)
        {
            return Complain(trouble.Message, ExitCode.Usage);
        }
        catch (JournalException trouble)
        {
            return Complain(trouble.Message, ExitCode.Usage);
        }
        catch (EvidenceFileException trouble)
        {
            return Complain(trouble.Message, ExitCode.Usage);
        }
        catch (TargetUnavailableException trouble)
        {
            return Complain($"{trouble.Message}\npvdf: cure: {trouble.Cure}", ExitCode.Failed);
        }
        catch (Exception trouble) when (trouble is IOException or UnauthorizedAccessException)
        {
            return Complain(trouble.Message, ExitCode.Failed);
        }
    }

    private static int Complain(string message, ExitCode code)
    {
        Console.Error.WriteLine($"pvdf: {message}");
        return (int)code;
    }
}
