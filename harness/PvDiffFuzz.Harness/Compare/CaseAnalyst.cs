using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>Tells what a case executed up to one of its events, and which bits are undefined there.</summary>
/// <remarks>Owned by one thread, as the tracer is. Asked only about cases whose outcomes differ.</remarks>
public sealed class CaseAnalyst
{
    private readonly ITracer? _tracer;
    private readonly Func<ImmutableArray<TracedInstruction>, CpuVendor, TestCase, CpuProfile?, bool, bool, CaseMask>? _rule;
    private readonly ImmutableArray<CpuVendor> _vendors;
    private readonly CpuProfile? _host;
    private TestCase? _tracedCase;
    private int _tracedAnswers;
    private ImmutableArray<TracedInstruction> _trace = [];

    /// <summary>Makes an analyst with a rule of one's own.</summary>
    /// <param name="tracer">Lists executed instructions; null when nobody can, and then nothing counts as undefined.</param>
    /// <param name="rule">Says what is undefined; null for nothing.</param>
    /// <param name="vendor">Maker of the processor where the case does not say.</param>
    public CaseAnalyst(ITracer? tracer, UndefinedRule? rule, CpuVendor vendor)
        : this(tracer, [vendor], rule is null ? null : (trace, maker, _, _, completed, _) => rule(trace, maker, completed))
    {
    }

    private CaseAnalyst(ITracer? tracer, ImmutableArray<CpuVendor> vendors, Func<ImmutableArray<TracedInstruction>, CpuVendor, TestCase, CpuProfile?, bool, bool, CaseMask>? rule, CpuProfile? host = null) =>
        (_tracer, _vendors, _rule, _host) = (tracer, vendors, rule, host);

    /// <summary>An analyst that knows nothing: no traces, no masks.</summary>
    public static CaseAnalyst Blind { get; } = new(null, null, CpuVendor.Intel);

    /// <summary>An analyst that follows the table of undefined bits.</summary>
    /// <param name="tracer">Lists executed instructions.</param>
    /// <param name="vendors">Makers of the processors at hand, for cases that name none; at least one. What one of them leaves undefined is undefined.</param>
    public static CaseAnalyst For(ITracer tracer, params ImmutableArray<CpuVendor> vendors) => new(tracer, vendors, AfterTable);

    /// <summary>An analyst that follows the table of undefined bits, for one processor.</summary>
    /// <param name="tracer">Lists executed instructions.</param>
    /// <param name="host">The processor of cases that name none.</param>
    public static CaseAnalyst For(ITracer tracer, CpuProfile host)
    {
        ArgumentNullException.ThrowIfNull(host);
        return new CaseAnalyst(tracer, [host.Vendor], AfterTable, host);
    }

    /// <summary>Maker of the processor that a case is about; the first one at hand where the case does not say.</summary>
    public CpuVendor VendorOf(TestCase testCase) => testCase.Profile?.Vendor ?? _vendors[0];

    /// <summary>The instructions executed until so many responses were given and the next event came, the one that raised it included if it was fetched; empty without a tracer.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="answers">A number of responses, as <see cref="Answers.Before(ReadOnlySpan{Outcome}, int)"/> finds it; anything past the last means all.</param>
    public ImmutableArray<TracedInstruction> TraceAfter(TestCase testCase, int answers)
    {
        if (_tracer is null)
        {
            return [];
        }

        answers = Math.Min(answers, testCase.Responses.Length);
        if (!ReferenceEquals(testCase, _tracedCase) || answers != _tracedAnswers)
        {
            // A case with fewer responses ends at an earlier event, so its trace is the prefix wanted.
            TestCase shortened = answers == testCase.Responses.Length ? testCase : testCase with { Responses = testCase.Responses[..answers] };
            _trace = _tracer.Trace(shortened, testCase.Limits.Instructions);
            _tracedCase = testCase;
            _tracedAnswers = answers;
        }

        return _trace;
    }

    /// <summary>What is undefined at an event.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="eventIndex">Index of the event; anything past the last means the last.</param>
    /// <param name="outcomes">What the targets answered; they tell whether the last instruction completed.</param>
    public CaseMask MaskAt(TestCase testCase, int eventIndex, ReadOnlySpan<Outcome> outcomes)
    {
        if (_rule is null)
        {
            return CaseMask.None;
        }

        int answers = Answers.Before(outcomes, eventIndex);
        ImmutableArray<TracedInstruction> trace = TraceAfter(testCase, answers);
        if (trace.IsEmpty)
        {
            return CaseMask.None;
        }

        bool resumes = Resumes(testCase, answers);
        CaseMask mask = Rule(testCase, trace, Completed(testCase.Abi, trace[^1], eventIndex, outcomes), resumes);
        return IsStacked(testCase, eventIndex, outcomes) ? mask.Or(Rule(testCase, trace, lastCompleted: false, resumes)) : mask;
    }

    private static bool IsStacked(TestCase testCase, int eventIndex, ReadOnlySpan<Outcome> outcomes)
    {
        foreach (Outcome outcome in outcomes)
        {
            if (outcome.Comparable && !outcome.Events.IsEmpty && Interrupted.IsStacked(testCase, Answers.DeliveryOf(outcome.Events.AsSpan(), eventIndex)))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The widest reading of what is undefined at the end of a case: the last instruction taken as completed and as faulted.</summary>
    public CaseMask WidestMask(TestCase testCase)
    {
        ImmutableArray<TracedInstruction> trace = TraceAfter(testCase, Answers.All);
        if (_rule is null || trace.IsEmpty)
        {
            return CaseMask.None;
        }

        bool resumes = Resumes(testCase, Answers.All);
        return Rule(testCase, trace, true, resumes).Or(Rule(testCase, trace, false, resumes));
    }

    private CaseMask Rule(TestCase testCase, ImmutableArray<TracedInstruction> trace, bool lastCompleted, bool resumes)
    {
        CpuProfile? profile = testCase.Profile ?? _host;
        CaseMask mask = _rule!(trace, VendorOf(testCase), testCase, profile, lastCompleted, resumes);
        foreach (CpuVendor other in testCase.Profile is null ? _vendors.AsSpan()[1..] : [])
        {
            mask = mask.Or(_rule(trace, other, testCase, profile, lastCompleted, resumes));
        }

        return mask;
    }

    private static CaseMask AfterTable(ImmutableArray<TracedInstruction> trace, CpuVendor vendor, TestCase testCase, CpuProfile? profile, bool lastCompleted, bool resumes)
    {
        UndefinedMask mask = UndefinedBits.After(trace, vendor, lastCompleted, resumes, profile, Interrupted.LoadsFlagsIntoR11(testCase), framesOnOwnStack: Interrupted.StoresFramesInReach(testCase));
        return new CaseMask { Rflags = mask.Rflags, Saved = mask.Saved, Gpr = mask.Gpr, Consumed = mask.Consumed, Rows = mask.Rows, Parts = mask.Parts };
    }

    // After a response, an instruction in the middle of the trace may have faulted and so defined nothing.
    private static bool Resumes(TestCase testCase, int answers) => Math.Min(answers, testCase.Responses.Length) > 0;

    // One target that completed the instruction is enough to leave its results undefined.
    private static bool Completed(Abi abi, TracedInstruction last, int eventIndex, ReadOnlySpan<Outcome> outcomes)
    {
        foreach (Outcome outcome in outcomes)
        {
            if (eventIndex >= outcome.Events.Length && RanOn(outcome))
            {
                return true;
            }

            if (!outcome.Comparable || outcome.Events.IsEmpty)
            {
                continue;
            }

            Event e = Answers.DeliveryOf(outcome.Events.AsSpan(), eventIndex);
            if (e.Kind != EventKind.Fault || Interrupted.Value(abi, e, Register.Rip) != last.Address)
            {
                return true;
            }
        }

        return false;
    }

    // Supervisor code that came to its end or halted did so without an event.
    private static bool RanOn(Outcome outcome) =>
        outcome.End is EndKind.ReachedEnd or EndKind.Halt && (outcome.Events.IsEmpty || !Equals(outcome.Registers, outcome.Events[^1].Registers));
}
