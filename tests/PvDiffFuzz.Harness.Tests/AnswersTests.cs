using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Which response answers which event, when responses make calls of their own.</summary>
public sealed class AnswersTests
{
    private static readonly Hypercall Flush = new(0x17088203, []);

    // Event 0, two calls of its response, event 3, the call of that one's response, event 5.
    private static readonly ImmutableArray<Event> Events = [PvmCases.Fault(), PvmCases.Call(), PvmCases.Call(), PvmCases.Fault(), PvmCases.Call(), PvmCases.Fault()];

    private static readonly TestCase Case = PvmCases.Supervisor("90", "90", "f9") with
    {
        Responses = [Answer(Flush, Flush), Answer(Flush)],
    };

    [Fact]
    public void TheCaseOfTheseTestsIsWellFormed() => Assert.Null(Case.Check());

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 0)] // Made by the first response, after which the guest has not gone on.
    [InlineData(2, 0)]
    [InlineData(3, 1)]
    [InlineData(4, 1)]
    [InlineData(5, 2)]
    [InlineData(6, Answers.All)]
    [InlineData(Field.Final, Answers.All)]
    public void CallsTakeNoResponse(int index, int answers)
    {
        Assert.Equal(answers, Answers.Before([Outcome.Unsupported("no"), PvmCases.Ends(Events[..1]), PvmCases.Ends(Events)], index));
        if (index is >= 0 and < 6)
        {
            Assert.Same(Events[answers switch { 0 => 0, 1 => 3, _ => 5 }], Answers.DeliveryOf(Events.AsSpan(), index));
        }
    }

    [Fact]
    public void WithoutCallsEventsAndResponsesCountAlike()
    {
        Outcome plain = PvmCases.Ends(PvmCases.Fault(), PvmCases.Fault(), PvmCases.Fault());

        Assert.All([0, 1, 2], index => Assert.Equal(index, Answers.Before([plain], index)));
    }

    [Theory]
    [InlineData(0, new int[0])]
    [InlineData(1, new[] { 1 })]
    [InlineData(2, new[] { 2 })]
    [InlineData(3, new[] { 2 })]
    [InlineData(4, new[] { 2, 1 })]
    [InlineData(5, new[] { 2, 1 })]
    public void ACutCaseMakesTheCallsUpToTheEvent(int index, int[] calls) =>
        Assert.Equal(calls, Answers.Cut(Case, Events.AsSpan(), index).Responses.Select(r => r.Hypercalls.Length));

    /// <summary>The trace that explains event 3 is that of the case with one response, though two more events stand before it.</summary>
    [Fact]
    public void ACallInTheMiddleDoesNotShiftTheTrace()
    {
        List<int> traced = [];
        CaseAnalyst analyst = new(new Asked(traced), (_, _, _) => new CaseMask { Rflags = RflagsBits.AF, Rows = ["And"] }, CpuVendor.Amd);
        Comparer comparer = new([Cases.Info("a"), Cases.Info("b")], analyst);

        Comparison hidden = comparer.Compare(Case, [PvmCases.Ends(Events), PvmCases.Ends(Events.SetItem(3, PvmCases.Fault(rflags: 0x2 | RflagsBits.AF)))]);
        Comparison shown = comparer.Compare(Case, [PvmCases.Ends(Events), PvmCases.Ends(Events.SetItem(3, PvmCases.Fault(rflags: 0x3)))]);

        Assert.Equal(ComparisonResult.Agreement, hidden.Result);
        Assert.Equal(["event[3].frame.rflags.CF"], shown.Differences.Select(d => d.Field.ToString()));
        Assert.Equal(1, traced[0]);

        foreach ((int index, int answers) in ((int, int)[])[(4, 1), (5, 2)])
        {
            List<int> asked = [];
            InstructionAt.Find(Case, [PvmCases.Ends(Events)], index, new CaseAnalyst(new Asked(asked), null, CpuVendor.Amd));
            Assert.Equal(answers, asked[0]);
        }
    }

    /// <summary>The instruction at an event is that of the interrupted context, which the frame tells: the registers at entry say where the supervisor is.</summary>
    [Fact]
    public void WithoutATraceTheFrameTellsTheInstruction()
    {
        ulong stc = Case.Code.End - 1;

        InstructionAt found = InstructionAt.Find(Case, [PvmCases.Ends(PvmCases.Fault(rip: stc), PvmCases.Call())], 1, CaseAnalyst.Blind);

        Assert.Equal(("Stc", stc), (found.Mnemonic, found.Address));
    }

    /// <summary>Code of a case that makes other code of it the handler of events: what differs at the end has to do with the instruction that the handler was entered from, be it at the first, second or third entry or that of SYSCALL.</summary>
    [Theory]
    [InlineData(0, "Stc")]
    [InlineData(256, "Stc")]
    [InlineData(512, "Stc")]
    [InlineData(0x8000, "Stc")]
    [InlineData(1, "Cld")]
    public void AHandlerOfTheCaseIsNotWhereItShows(int offset, string mnemonic)
    {
        const ulong entry = 0x440000;
        SystemState system = SystemState.Of(KeyValuePair.Create(SystemRegister.PvmEventEntry, entry), KeyValuePair.Create(SystemRegister.Lstar, entry + 0x8000));
        Outcome end = new() { End = EndKind.ReachedEnd, Registers = Case.Registers, System = system };
        Steps steps = new((Case.Code.Address, [0xf9]), (entry + (uint)offset, [0xfc]));

        InstructionAt found = InstructionAt.Find(Case, [end, end], Field.Final, new CaseAnalyst(steps, null, CpuVendor.Amd));

        Assert.Equal(mnemonic, found.Mnemonic);
    }

    /// <summary>SYSCALL leaves an address in RCX: MUL, MOV and PUSH read it, a load of ECX ends that and one of CL does not.</summary>
    [Theory]
    [InlineData("0f05 f7e1", true)]
    [InlineData("0f05 4889c8", true)]
    [InlineData("0f05 90 51", true)]
    [InlineData("0f05 b105 51", true)]
    [InlineData("0f05 b905000000 51", false)]
    [InlineData("0f05 f7e0", false)]
    [InlineData("51 0f05", false)]
    public void WhatReadsTheRcxOfASyscallIsTold(string code, bool reads)
    {
        ulong at = Case.Code.Address;
        Steps steps = new([.. code.Split(' ').Select(bytes => (at++, Convert.FromHexString(bytes)))]);
        Outcome end = new() { End = EndKind.ReachedEnd, Registers = Case.Registers };

        InstructionAt found = InstructionAt.Find(Case, [end, end], Field.Final, new CaseAnalyst(steps, null, CpuVendor.Amd));

        Assert.Equal(reads, found.Executed.Any(ran => ran.Encoding.HasFlag(Encodings.SyscallRcx)));
    }

    /// <summary>Only one target completed the instruction that event 3 interrupted; then its flags are undefined, whatever stands between.</summary>
    [Fact]
    public void WhetherAnInstructionCompletedIsReadFromTheFrame()
    {
        List<bool> completed = [];
        CaseAnalyst analyst = new(new Asked([]), (_, _, last) => Note(last), CpuVendor.Amd);
        Outcome faulted = PvmCases.Ends(Events.SetItem(3, PvmCases.Fault(rip: Case.Code.Address)));
        Outcome went = PvmCases.Ends(Events.SetItem(3, PvmCases.Fault(rip: Case.Code.Address + 1)));

        analyst.MaskAt(Case, 3, [faulted]);
        analyst.MaskAt(Case, 4, [faulted]);
        analyst.MaskAt(Case, 3, [faulted, went]);
        analyst.MaskAt(Case, int.MaxValue, [new Outcome { End = EndKind.ReachedEnd, Registers = Case.Registers }]);

        Assert.Equal([false, false, true, true], completed);

        CaseMask Note(bool last)
        {
            completed.Add(last);
            return CaseMask.None;
        }
    }

    [Theory]
    [InlineData(3, 1)]
    [InlineData(4, 2)]
    public void ARecordedDivergenceIsCutAtItsEvent(int index, int responses)
    {
        ImmutableArray<Event> other = Events.SetItem(index, Events[index] with { Registers = Events[index].Registers.With(Register.Rbx, 5) });
        SystemState end = SystemState.Of(KeyValuePair.Create(SystemRegister.Cr3, 1UL));
        using CaseRunner runner = Fakes.Runner(new FakeTarget("a", _ => PvmCases.Ends(Events) with { System = end }), new FakeTarget("b", _ => PvmCases.Ends(other)));

        Divergence cut = EventCut.Of(Fakes.Divergence(runner, Case), runner);

        Assert.Equal(responses, cut.Case.Responses.Length);
        Assert.All(cut.Outcomes, o => Assert.Equal((index + 1, EndKind.Event, 0), (o.Events.Length, o.End, o.System.Values.Length)));
        Assert.Equal(index, cut.EventIndex);
        Assert.Equal(index == 4 ? "hypercall" : "#13", cut.Signature.Event);
    }

    [Fact]
    public void TheHashesOfCasesAndOutcomesDependOnTheSystemSide()
    {
        Digest digest = default;
        Outcome outcome = PvmCases.Ends(PvmCases.Fault());
        TestCase[] cases =
        [
            Case, Case with { Responses = [] }, Case with { Responses = [Answer(Flush), Answer(Flush)] }, Case with { System = Case.System.With(SystemRegister.Cr3, 9) },
            Case with { Inject = new Injection(InjectionKind.Nmi, 2) }, Case with { Pvm = Case.Pvm! with { Path = HostPath.Warm } }, Case with { Start = GuestMode.User },
        ];
        Outcome[] outcomes = [outcome, PvmCases.Ends(PvmCases.Fault(rip: 9)), outcome with { System = Case.System }];

        Assert.Equal(cases.Length, cases.Select(c => digest.OfCase(0, c)).Distinct().Count());
        Assert.Equal(outcomes.Length, outcomes.Select(o => digest.OfOutcome(0, o)).Distinct().Count());
    }

    private static Response Answer(params ImmutableArray<Hypercall> calls) => new([]) { Return = ReturnKind.Erets, Hypercalls = calls };

    /// <summary>Notes how many responses the cases have that it is asked about.</summary>
    private sealed class Steps(params (ulong Address, byte[] Code)[] instructions) : ITracer
    {
        public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum) =>
            [.. instructions.Select(i => new TracedInstruction(i.Address, [.. i.Code], CpuMode.Long64, 0))];
    }

    private sealed class Asked(List<int> responses) : ITracer
    {
        public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
        {
            responses.Add(testCase.Responses.Length);
            return [new TracedInstruction(testCase.Code.Address, testCase.Code.Bytes[..1], CpuMode.Long64, 0)];
        }
    }
}
