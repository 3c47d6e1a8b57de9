using System.Text.Json;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using Spectre.Console;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>All tests that capture the console: it belongs to the process, so they run one after another.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class TerminalCollection
{
    public const string Name = "terminal";
}

/// <summary>What a command printed and returned.</summary>
/// <param name="Exit">Exit code.</param>
/// <param name="Out">Standard output.</param>
/// <param name="Error">Standard error.</param>
internal sealed record Printed(int Exit, string Out, string Error)
{
    /// <summary>Standard output as the one JSON object that it must be.</summary>
    public JsonElement Json => JsonDocument.Parse(Out).RootElement;
}

/// <summary>Runs commands in this process, with a folder for their files.</summary>
internal sealed class Terminal : IDisposable
{
    /// <summary>Name of a target that is right, so that two models can be compared on any host.</summary>
    public const string Twin = "model.twin";

    /// <summary>Name of a target that loses the IDT bit (bit 1) in the error code of a #GP from INT n.</summary>
    public const string Planted = "model.planted";

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pvdf-cli-");

    public Terminal()
    {
        Composition.Register(Twin, profile => new Wrapped(Twin, new X86Model(profile), outcome => outcome));
        Composition.Register(Planted, profile => new Wrapped(Planted, new X86Model(profile), LoseIdtBit));
    }

    /// <summary>The targets.</summary>
    public Composition Composition { get; } = new();

    /// <inheritdoc/>
    public void Dispose() => _folder.Delete(recursive: true);

    /// <summary>A path in the folder.</summary>
    public string Path(string name) => System.IO.Path.Combine(_folder.FullName, name);

    /// <summary>Writes a file into the folder.</summary>
    /// <returns>Its path.</returns>
    public string Write(string name, string text)
    {
        File.WriteAllText(Path(name), text);
        return Path(name);
    }

    /// <summary>A stored case: <c>inc rax; inc rbx; int 0x20</c>, which raises #GP with error code 0x102.</summary>
    /// <returns>Its path.</returns>
    public string WriteCase()
    {
        const ulong at = AddressMap.LowBlock + AddressMap.CodeEnd - 8;
        TestCase testCase = new()
        {
            Code = new CodeBlock(at, [0x48, 0xff, 0xc0, 0x48, 0xff, 0xc3, 0xcd, 0x20], [3, 3, 2]),
            Registers = new RegisterState { Gpr = default, Rip = at, Rflags = RflagsBits.Fixed1 | RflagsBits.IF }
                .With(Register.Rsp, AddressMap.LowBlock + AddressMap.Stack + 0x1000)
                .With(Register.Rbx, 0x1234_5678_9abc_def0),
            Layout = AddressMap.Standard,
        };
        return Write("int.case", new CaseFile { Comment = "INT n through a gate of DPL 0.", Id = "int", Case = testCase }.Write());
    }

    /// <summary>Runs a command with the console captured.</summary>
    public Printed Run(params string[] args)
    {
        (TextWriter before, TextWriter beforeError, IAnsiConsole beforeAnsi) = (Console.Out, Console.Error, AnsiConsole.Console);
        using StringWriter output = new();
        using StringWriter error = new();
        try
        {
            Console.SetOut(output);
            Console.SetError(error);
            AnsiConsole.Console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.No, Interactive = InteractionSupport.No, Out = new AnsiConsoleOutput(output) });
            int exit = CommandLine.Run(args, Composition);
            return new Printed(exit, output.ToString(), error.ToString());
        }
        finally
        {
            Console.SetOut(before);
            Console.SetError(beforeError);
            AnsiConsole.Console = beforeAnsi;
        }
    }

    private static Outcome LoseIdtBit(Outcome outcome) => outcome with
    {
        Events = [.. outcome.Events.Select(e => e is { Vector: 13, ErrorCode: uint error } ? e with { ErrorCode = error & ~2u } : e)],
    };
}

/// <summary>A model under another name, with its outcomes changed.</summary>
internal sealed class Wrapped(string name, X86Model model, Func<Outcome, Outcome> change) : ITarget
{
    public TargetInfo Info { get; } = model.Info with { Name = name };

    public Outcome Run(TestCase testCase) => change(model.Run(testCase));

    public void Dispose() => model.Dispose();
}
