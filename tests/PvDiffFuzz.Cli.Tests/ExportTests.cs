using System.Diagnostics;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Cli.Export;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>What <c>export</c> writes: programs that are built and run here, and cases that a format cannot take.</summary>
[Collection(TerminalCollection.Name)]
public sealed class ExportTests : IDisposable
{
    /// <summary>Generated cases that are built and run in each language.</summary>
    private const int Generated = 12;

    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    /// <summary>Every regression case is a program that shows what the recorded processor showed, and says so.</summary>
    [CompilerFact]
    public void RegressionsReproduceAsPrograms()
    {
        int run = 0;
        foreach (string path in Directory.EnumerateFiles(Checkout.PathOf("corpus", "regressions"), "*.case"))
        {
            CaseFile file = CaseFile.Read(path);
            string expected = OutcomeText.Of(file.Outcomes.First(o => o.Target == "native").Outcome);

            Assert.Equal(expected, BuildAndRun(path, "asm", out _));
            Assert.Equal(expected, BuildAndRun(path, "c", out string verdicts));
            Assert.Contains("# equal to native\n", verdicts, StringComparison.Ordinal);
            run++;
        }

        Assert.True(run > 10, "there were no regression cases");
    }

    /// <summary>Generated cases, with responses and both modes among them, do in a program what they do on the native target.</summary>
    [CompilerFact]
    public void GeneratedCasesReproduceAsPrograms()
    {
        using NativeTarget native = new();
        CpuProfile host = _terminal.Composition.Host;
        Generator generator = new(new GeneratorOptions(), host);
        int responses = 0;
        int run = 0;
        for (ulong index = 0; run < Generated; index++)
        {
            TestCase testCase = generator.Generate(0x5eed, index);
            Outcome outcome = native.Run(testCase);
            if (outcome.End is not (EndKind.ReachedEnd or EndKind.Event) || Reproducer.Refuses(testCase) is not null || !Session.MayRunLive(testCase, host))
            {
                continue;
            }

            // Most generated cases take no response; those that do come first.
            if (testCase.Responses.IsEmpty && run >= Generated / 2 && responses == 0)
            {
                continue;
            }

            CaseFile file = new() { Comment = $"Index {index}.", Id = $"generated-{index}", Case = testCase, Outcomes = [new RecordedOutcome("native", TargetKind.Hardware, "hardware", Fingerprint.Empty, outcome)] };
            string path = _terminal.Write($"{file.Id}.case", file.Write());

            Assert.Equal(OutcomeText.Of(outcome), BuildAndRun(path, "asm", out _));
            Assert.Equal(OutcomeText.Of(outcome), BuildAndRun(path, "c", out _));
            responses += outcome.Events.Length - 1;
            run++;
        }

        Assert.True(responses > 0, "no case answered an event");
    }

    /// <summary>A program says that it saw something else, and what.</summary>
    [CompilerFact]
    public void AnotherAnswerIsNamed()
    {
        CaseFile file = CaseFile.Read(Checkout.PathOf("corpus", "regressions", "adc-carry-wrap.case"));
        RecordedOutcome wrong = file.Outcomes[0] with { Target = "wrong", Outcome = file.Outcomes[0].Outcome with { Memory = [new MemoryWord(0x41_0000, 1)] } };
        string path = _terminal.Write("wrong.case", (file with { Id = "wrong", Outcomes = [wrong, .. file.Outcomes] }).Write());

        BuildAndRun(path, "c", out string verdicts);

        Assert.StartsWith("# differs from wrong\n# equal to ", verdicts, StringComparison.Ordinal);
    }

    [Fact]
    public void OneFileIsPrintedWhereNoFolderIsNamed()
    {
        Printed printed = _terminal.Run("export", _terminal.WriteCase(), "--format", "asm");

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.StartsWith("# int: written by pvdf export.\n#\n# INT n through a gate of DPL 0.\n", printed.Out, StringComparison.Ordinal);
        Assert.Contains("        .byte   0xcd, 0x20 # int 0x20\n", printed.Out, StringComparison.Ordinal);
    }

    /// <summary>What a process cannot have is refused with what can be done instead.</summary>
    [Fact]
    public void CasesThatAreNoProgramsAreRefused()
    {
        TestCase testCase = CaseFile.Read(_terminal.WriteCase()).Case;
        PageRange supervisor = new(AddressMap.LowBlock + AddressMap.Supervisor, 1, PageAccess.Read | PageAccess.Supervisor);

        Assert.Null(Reproducer.Refuses(testCase));
        Assert.Contains("protection keys or debug registers", Reproducer.Refuses(testCase with { Registers = testCase.Registers with { Pkru = 4 } }), StringComparison.Ordinal);
        Assert.Contains("page 460000 is none", Reproducer.Refuses(testCase with { Layout = PageLayout.Create(testCase.Layout.Ranges.Add(supervisor)) }), StringComparison.Ordinal);
        Assert.Contains("page f000 is none", Reproducer.Refuses(testCase with { Layout = PageLayout.Create([new PageRange(0xf000, 1, PageAccess.Read)]) }), StringComparison.Ordinal);
        Assert.Contains("page 7e0000001000 is none", Reproducer.Refuses(testCase with { Layout = PageLayout.Create([new PageRange(0x7e00_0000_1000, 1, PageAccess.Read)]) }), StringComparison.Ordinal);
        Assert.Equal((int)ExitCode.Usage, _terminal.Run("export", _terminal.WriteCase(), "--format", "ada").Exit);
    }

    private string BuildAndRun(string path, string format, out string verdicts)
    {
        Printed printed = _terminal.Run("export", path, "--format", format, "--out", _terminal.Path("built"));
        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        string source = printed.Out.Trim();
        string command = File.ReadLines(source).First(line => line.Contains("Build: ", StringComparison.Ordinal)).Split("Build: ")[1];
        Start(command.Split(' '), out string complaints);
        Assert.Equal("", complaints);
        return Start([Path.ChangeExtension(source, null)], out verdicts);
    }

    private string Start(string[] command, out string error)
    {
        using Process process = Process.Start(new ProcessStartInfo(command[0], command[1..])
        {
            WorkingDirectory = _terminal.Path("built"), RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false,
        })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        error = errors.GetAwaiter().GetResult();
        Assert.True(process.ExitCode == 0, $"{command[0]} returned {process.ExitCode}: {error}");
        return output;
    }
}

/// <summary>A fact that needs a C compiler and the processor: skipped, with the reason, where either is missing.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class CompilerFactAttribute : FactAttribute
{
    private const string Compiler = "gcc";

    public CompilerFactAttribute() => Skip = NativeTarget.Probe() is TargetUnavailableException trouble ? $"{trouble.Message}; {trouble.Cure}"
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, Compiler))) ? null
        : $"there is no {Compiler} on the path; install it to build the reproducers";
}
