using System.Collections.Immutable;
using System.Text.Json;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Spectre.Console;
using Capabilities = PvDiffFuzz.Core.Capabilities;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>What is shown of a case's system side, and which targets and models are chosen for an ABI.</summary>
[Collection(TerminalCollection.Name)]
public sealed class SystemViewTests
{
    private static readonly TestCase Case = new()
    {
        Abi = Abi.PvmRfc1,
        Start = GuestMode.Supervisor,
        Code = new CodeBlock(AddressMap.LowBlock + PvmMap.CodeEnd - 1, [0xcc], [1]),
        Registers = new RegisterState { Gpr = default, Rip = AddressMap.LowBlock + PvmMap.CodeEnd - 1, Rflags = 2 },
        Layout = PvmMap.SupervisorLayout,
        Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout, HostPath.Warm),
        System = SystemState.Of(KeyValuePair.Create(SystemRegister.Star, PvmMap.Star), KeyValuePair.Create(SystemRegister.Cr3, 0x1000UL)),
        Inject = new Injection(InjectionKind.Interrupt, 0x21),
        Responses =
        [
            new Response([new(Register.Rip, 0x1234)]) { Return = ReturnKind.Erets, Hypercalls = [new Hypercall(0x17088203, [7, 8])], Inject = new Injection(InjectionKind.Nmi, 2) },
        ],
    };

    [Fact]
    public void ProgramsGetTheStepsAndTheSystemSide()
    {
        JsonElement input = Shape(StepsView.Of(Case));

        Assert.Equal(("pvm-rfc1", "supervisor", "warm"), (Text(input, "abi"), Text(input, "start"), Text(input, "path")));
        Assert.Equal("1000", Text(input.GetProperty("system"), "cr3"));
        Assert.Equal(("interrupt", 0x21), (Text(input.GetProperty("inject"), "kind"), input.GetProperty("inject").GetProperty("vector").GetInt32()));
        JsonElement answer = Assert.Single(input.GetProperty("responses").EnumerateArray());
        Assert.Equal("erets", Text(answer, "return"));
        Assert.Equal("1234", Text(answer.GetProperty("patches"), "rip"));
        Assert.Equal("nmi", Text(answer.GetProperty("inject"), "kind"));
        JsonElement call = Assert.Single(answer.GetProperty("hypercalls").EnumerateArray());
        Assert.Equal("17088203", Text(call, "number"));
        Assert.Equal(["7", "8"], call.GetProperty("arguments").EnumerateArray().Select(a => a.GetString()));
    }

    [Fact]
    public void ProgramsGetFramesByTheirPartsAndTheFinalSystemSide()
    {
        JsonElement outcome = Shape(OutcomeView.Of("pvm", Ends(Fault(0x77), 5), Abi.PvmRfc1));
        JsonElement only = outcome.GetProperty("events")[0];

        Assert.Equal("pvm.supervisor", Text(only, "entry"));
        Assert.Equal(128, Text(only, "frame").Length);
        Assert.Equal("77", Text(only.GetProperty("parts"), "rip"));
        Assert.Equal("d", Text(only.GetProperty("parts"), "vector"));
        Assert.Equal("5", Text(outcome.GetProperty("system"), "cr3"));
        JsonElement plain = Shape(OutcomeView.Of("x", Ends(Fault(0x77) with { Entry = EntryPoint.Idt }, 5), Abi.X86)).GetProperty("events")[0];
        Assert.Empty(plain.GetProperty("parts").EnumerateObject());
        Assert.Equal("idt", Text(plain, "entry"));
    }

    [Fact]
    public void PeopleSeeStartStepsAndDifferencesMarked()
    {
        string shown = Print(Ends(Fault(0x77), 5), Ends(Fault(0x78), 6));

        Assert.All(
            [
                "pvm-rfc1, 64-bit mode", "start   supervisor, roots warm, structure at 490000", "cr3=1000", "pending interrupt 21",
                "answer 0 hypercall 17088203 (7 8), rip=1234, nmi 02 pending, erets", "#GP error 0", "pvm.supervisor", "frame.rip *", "sys.cr3 *", "event[0].frame.rip", "hypercall returned",
            ],
            text => Assert.Contains(text, shown, StringComparison.Ordinal));
        Assert.Contains("  frame.vector ", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("frame.vector *", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("frame.errcode", shown, StringComparison.Ordinal); // 0 everywhere.
    }

    [Fact]
    public void WhatATargetDoesNotStateIsNoDifference()
    {
        string shown = Print(Ends(Fault(0x77), 5), Ends(Fault(0x77), 5) with { System = SystemState.Empty });

        Assert.Contains("sys.cr3 ", shown, StringComparison.Ordinal);
        Assert.Contains("not stated", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("sys.cr3 *", shown, StringComparison.Ordinal);
    }

    [Fact]
    public void TheDefaultTargetsOfAnAbiAreThoseThatRunIt()
    {
        Composition composition = new();
        composition.Register("model.fake", _ => new Fake(Abi.PvmRfc1));
        composition.Register("pvm.broken", _ => throw new TargetUnavailableException("no such host", "find one"));

        Assert.Equal(["model.x86", "native"], composition.DefaultsFor(Abi.X86));
        Assert.Contains("model.fake", composition.DefaultsFor(Abi.PvmRfc1));
        Assert.DoesNotContain("model.x86", composition.DefaultsFor(Abi.PvmRfc1));
        Assert.DoesNotContain("pvm.broken", composition.DefaultsFor(Abi.PvmRfc1));
        Assert.DoesNotContain("model.fake", composition.DefaultsFor(Abi.Pvm612));
    }

    [Fact]
    public void EachCaseIsTracedByTheModelOfItsAbi()
    {
        List<Abi> made = [];
        TracerByAbi tracer = new(abi =>
        {
            made.Add(abi);
            return abi == Abi.X86 ? null : new Fake(abi);
        });

        Assert.Equal([1UL], tracer.Trace(Case, 10).Select(i => i.Address));
        Assert.Equal([2UL], tracer.Trace(Case with { Abi = Abi.Pvm612 }, 10).Select(i => i.Address));
        Assert.Empty(tracer.Trace(Case with { Abi = Abi.X86 }, 10));
        tracer.Trace(Case, 10);
        Assert.Equal([Abi.PvmRfc1, Abi.Pvm612, Abi.X86], made);
        Assert.NotNull(ModelsByAbi.Of(Abi.X86));
        Assert.NotEmpty(Session.RulesOf(Abi.X86, new InstructionAt("Adc_rm64_r64", "Adc", 0, 3)));
    }

    private static string Text(JsonElement element, string name) => element.GetProperty(name).GetString()!;

    private static JsonElement Shape(object shaped) => JsonDocument.Parse(Captured(() => Json.Print(shaped))).RootElement;

    private static string Print(params ImmutableArray<Outcome> outcomes)
    {
        ImmutableArray<TargetInfo> infos = [.. outcomes.Select((_, i) => new TargetInfo($"t{i}", TargetKind.Model, $"l{i}", Capabilities.None, Fingerprint.Empty))];
        Examination examined = new(Case, outcomes, new Comparer(infos, CaseAnalyst.Blind).Compare(Case, outcomes.AsSpan()));
        CaseFile file = new() { Comment = "A test.", Id = "test", Case = Case };
        return Captured(() => CaseView.Print(file, [.. infos.Select(i => i.Name)], examined, InstructionAt.None, []));
    }

    private static string Captured(Action print)
    {
        (TextWriter before, IAnsiConsole beforeAnsi) = (Console.Out, AnsiConsole.Console);
        using StringWriter output = new();
        try
        {
            Console.SetOut(output);
            AnsiConsole.Console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.No, Interactive = InteractionSupport.No, Out = new AnsiConsoleOutput(output) });
            print();
            return output.ToString();
        }
        finally
        {
            Console.SetOut(before);
            AnsiConsole.Console = beforeAnsi;
        }
    }

    private static Event Fault(byte rip)
    {
        byte[] frame = new byte[64];
        (frame[4], frame[8]) = (13, rip);
        return new Event(EventKind.Fault, 13, 0, null, EntryPoint.PvmSupervisor, new RegisterState { Gpr = default, Rip = PvmMap.EventEntry, Rflags = 2 }) { Frame = [.. frame] };
    }

    private static Outcome Ends(Event e, ulong cr3)
    {
        Event call = new(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, e.Registers);
        return new Outcome { End = EndKind.Halt, Events = [e, call], Registers = e.Registers, System = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, cr3)) };
    }

    private sealed class Fake(Abi abi) : ITarget, ITracer
    {
        public TargetInfo Info => new("model.fake", TargetKind.Model, "model", Capabilities.None, Fingerprint.Empty) { Abis = [abi] };

        public Outcome Run(TestCase testCase) => Outcome.Unsupported("fake");

        public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum) => [new TracedInstruction((ulong)abi, testCase.Code.Bytes, CpuMode.Long64, 0)];

        public void Dispose()
        {
            // Nothing is held.
        }
    }
}
