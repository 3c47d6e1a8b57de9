using System.Diagnostics;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Cli.Export;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.Pvm;
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

    /// <summary>A test for XTF has the case's pages, handlers and registers, and demands what the model said.</summary>
    [Fact]
    public void AXenCaseIsATestWithAMakefile()
    {
        CaseFile file = XenCase();
        string path = _terminal.Write("xen.case", file.Write());

        Printed printed = _terminal.Run("export", path, "--format", "xtf", "--out", _terminal.Path("xtf"));
        string main = File.ReadAllText(_terminal.Path("xtf/main.c"));

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Contains("NAME      := pvdf-int-40\nCATEGORY  := utility\nTEST-ENVS := pv64\n", File.ReadAllText(_terminal.Path("xtf/Makefile")), StringComparison.Ordinal);
        Assert.Contains("    { 0x7e0000200000, 1, PF_SYM(AD, U, P) },\n", main, StringComparison.Ordinal);
        Assert.Contains("    0xcd, 0x40, /* int 0x40 */\n", main, StringComparison.Ordinal);
        Assert.Contains("    { 0x40, 3, 0xe033, 0x7e0000200400 },\n", main, StringComparison.Ordinal);
        Assert.Contains("#define EXPECT_TARGET \"as model.xen\"\n#define EXPECT_CRASH 0\n#define EXPECT_ENTRY 0x40\n", main, StringComparison.Ordinal);
        Assert.Contains("expected_frame[] = { 0x0, 0x0, 0x402000, 0xe033, 0x202, 0x451000, 0xe02b, 0 };\n", main, StringComparison.Ordinal);
        Assert.Equal((int)ExitCode.Usage, _terminal.Run("export", path, "--format", "xtf").Exit);
    }

    /// <summary>What such a test cannot show is refused with what can be done instead.</summary>
    [Fact]
    public void CasesThatAreNoXtfTestsAreRefused()
    {
        CaseFile file = XenCase();
        Response response = new([]) { Return = ReturnKind.XenIret };
        PageLayout kernel = PageLayout.Create([new PageRange(AddressMap.LowBlock, 2, PageAccess.Read | PageAccess.Write | PageAccess.Execute)]);

        Assert.Null(XtfTest.Refuses(file));
        Assert.Contains("the case is of x86", XtfTest.Refuses(CaseFile.Read(_terminal.WriteCase())), StringComparison.Ordinal);
        Assert.Contains("the case answers events", XtfTest.Refuses(file with { Case = file.Case with { Responses = [response] } }), StringComparison.Ordinal);
        Assert.Contains("no outcome is recorded", XtfTest.Refuses(file with { Outcomes = [] }), StringComparison.Ordinal);
        Assert.Contains("descriptors of its own", XtfTest.Refuses(file with { Case = file.Case with { Xen = file.Case.Xen! with { Gdt = [new(0x18, 1)] } } }), StringComparison.Ordinal);
        Assert.Contains("page 401000 has other rights", XtfTest.Refuses(file with { Case = file.Case with { Layout = kernel } }), StringComparison.Ordinal);
        Assert.Contains("handlers lie in a page of the case", XtfTest.Refuses(file with { Case = file.Case with { Xen = file.Case.Xen! with { Traps = XenTrapTable.At(AddressMap.LowBlock, XenMap.FlatCode64) } } }), StringComparison.Ordinal);
    }

    /// <summary>A test for kvm-unit-tests has the structure with the user context, the MSRs, and the fields of the frame that the model delivered.</summary>
    [Fact]
    public void APvmCaseIsAKvmUnitTest()
    {
        CaseFile file = PvmCase();
        string text = KvmUnitTest.Write(file).Single().Text;

        Assert.Equal("pvdf-user-int3.c", KvmUnitTest.Write(file).Single().Name);
        Assert.Contains("    { 0x60, 8, 0x401ffe }, /* PvcsRip */\n", text, StringComparison.Ordinal);
        Assert.Contains("    { 0x4b564df4, 0x7e0000100000 }, /* PvmEventEntry */\n", text, StringComparison.Ordinal);
        Assert.Contains("    0xcc, /* int3 */\n", text, StringComparison.Ordinal);
        Assert.Contains("#define EXPECT_TARGET \"model.pvm\"\n#define EXPECT_ENTRY 0\n", text, StringComparison.Ordinal);
        Assert.Contains("    { \"event-vector\", 0x0c, 4, 0x3 },\n", text, StringComparison.Ordinal);
        Assert.DoesNotContain("CASE_END 0x", text, StringComparison.Ordinal);
    }

    [Fact]
    public void CasesThatAreNoKvmUnitTestsAreRefused()
    {
        CaseFile file = PvmCase();

        Assert.Null(KvmUnitTest.Refuses(file));
        Assert.Contains("the case is of xen-pv64", KvmUnitTest.Refuses(XenCase()), StringComparison.Ordinal);
        Assert.Contains("has something injected", KvmUnitTest.Refuses(file with { Case = file.Case with { Inject = new Injection(InjectionKind.Nmi, 2) } }), StringComparison.Ordinal);
        Assert.Contains("no outcome with an event", KvmUnitTest.Refuses(file with { Outcomes = [] }), StringComparison.Ordinal);
        Assert.Contains("selectors in DS, ES, FS or GS", KvmUnitTest.Refuses(file with { Case = file.Case with { Registers = file.Case.Registers with { Ds = 0x2b } } }), StringComparison.Ordinal);
        Assert.Contains("page 7e0000300000 is the test's own", KvmUnitTest.Refuses(file with { Case = file.Case with { Pvm = file.Case.Pvm! with { PvcsAddress = 0x7e00_0030_0000 } } }), StringComparison.Ordinal);
    }

    /// <summary>INT3 in user mode of a PVM guest.</summary>
    private static CaseFile PvmCase()
    {
        const ulong at = AddressMap.LowBlock + AddressMap.CodeEnd - 2;
        TestCase testCase = new()
        {
            Abi = Abi.PvmRfc1,
            Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout),
            Code = new CodeBlock(at, [0xcc, 0x90], [1, 1]),
            Registers = new RegisterState { Gpr = default, Rip = at, Rflags = 0x202 },
            Layout = PvmMap.SupervisorLayout,
            Contents = [PvmMap.ReturnInstructions],
            System = SystemState.Of(
                new(SystemRegister.Star, PvmMap.Star), new(SystemRegister.PvmVcpuStruct, PvmMap.VcpuStruct), new(SystemRegister.PvmEventEntry, PvmMap.EventEntry),
                new(SystemRegister.PvmRetuRip, PvmMap.RetuRip), new(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot), new(SystemRegister.Cr3, PvmMap.SupervisorRoot)),
        };
        using PvmModel model = new(CpuProfile.DefaultAmd);
        RecordedOutcome answer = new("model.pvm", TargetKind.Model, "model", Fingerprint.Empty, model.Run(testCase));
        return new CaseFile { Comment = "INT3 in user mode.", Id = "user-int3", Case = testCase, Outcomes = [answer] };
    }

    /// <summary>INT 40h in user code, which its handler takes.</summary>
    private static CaseFile XenCase()
    {
        const ulong at = AddressMap.LowBlock + AddressMap.CodeEnd - 2;
        const ulong stack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        RegisterState start = new RegisterState { Gpr = default, Rip = at, Rflags = 0x202, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData }.With(Register.Rsp, stack);
        RegisterState entry = start.With(Register.Rip, XenMap.Handlers + 0x400).With(Register.Rcx, XenMap.Handlers + 0x400).With(Register.R11, 0x202).With(Register.Rsp, stack - 56);
        ulong[] frame = [0, 0, at + 2, XenMap.FlatCode64, 0x202, stack, XenMap.FlatData];
        Event delivered = new(EventKind.Trap, 0x40, null, null, EntryPoint.XenTrap, entry) { Frame = [.. frame.SelectMany(BitConverter.GetBytes)] };
        Outcome outcome = new() { End = EndKind.Event, Events = [delivered], Registers = entry };
        return new CaseFile
        {
            Comment = "INT n that the virtual DPL allows.",
            Id = "int-40",
            Case = new TestCase
            {
                Abi = Abi.XenPv64,
                Code = new CodeBlock(at, [0xcd, 0x40], [2]),
                Registers = start,
                Layout = XenMap.KernelLayout(Abi.XenPv64),
                System = SystemState.Of(new(SystemRegister.XenKernelSp, stack), new(SystemRegister.XenKernelSs, XenMap.FlatData)),
                Xen = new XenState(XenMap.Traps.With(new XenTrap(0x40, 3, XenMap.FlatCode64, XenMap.Handlers + 0x400)), []) { IretFlags = 0, UserLayout = XenMap.UserLayout(Abi.XenPv64) },
            },
            Outcomes =
            [
                new RecordedOutcome("xen:4.20", TargetKind.Hypervisor, "tcg", Fingerprint.Empty, outcome with { End = EndKind.Crash, Events = [], Registers = null }),
                new RecordedOutcome("model.xen", TargetKind.Model, "model", Fingerprint.Empty, outcome),
            ],
        };
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
            WorkingDirectory = _terminal.Path("built"),
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
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
