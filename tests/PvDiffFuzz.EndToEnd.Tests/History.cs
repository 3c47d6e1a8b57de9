using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using IcedRegister = Iced.Intel.Register;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>One executed instruction.</summary>
/// <param name="Traced">As fetched.</param>
/// <param name="Instruction">Decoded.</param>
internal readonly record struct Step(TracedInstruction Traced, Instruction Instruction);

/// <summary>What a case executed before one of its events, so that a planted fault can tell whose result a guest sees there.</summary>
internal sealed class History
{
    private History(TestCase testCase, ImmutableArray<Step> completed, Step? faulted) => (Case, Completed, Faulted) = (testCase, completed, faulted);

    /// <summary>The case.</summary>
    public TestCase Case { get; }

    /// <summary>Instructions that completed, in order.</summary>
    public ImmutableArray<Step> Completed { get; }

    /// <summary>The instruction that raised the event as a fault, if one did.</summary>
    public Step? Faulted { get; }

    /// <summary>The history up to an event.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="events">All of its events.</param>
    /// <param name="index">Which one.</param>
    /// <param name="tracer">Lists instructions.</param>
    /// <param name="vendor">Whose decoder.</param>
    public static History Before(TestCase testCase, ImmutableArray<Event> events, int index, ITracer tracer, CpuVendor vendor)
    {
        TestCase shortened = testCase with { Responses = testCase.Responses[..Math.Min(index, testCase.Responses.Length)] };
        ImmutableArray<TracedInstruction> trace = tracer.Trace(shortened, testCase.Limits.Instructions);
        HashSet<ulong> faults = [.. events[..(index + 1)].Where(e => e.Kind == EventKind.Fault).Select(e => e.Registers.Rip)];
        ImmutableArray<Step> steps = [.. trace.Select(traced => new Step(traced, CodeEdit.DecodeOne(traced.Bytes.AsSpan(), traced.Address, traced.Mode, vendor)))];
        Event last = events[index];
        bool faulted = last.Kind == EventKind.Fault && steps.Length > 0 && steps[^1].Traced.Address == last.Registers.Rip;

        // A repeated string instruction that faulted has completed some of its iterations.
        return new History(testCase, [.. steps.Where(step => step.Instruction.IsStringInstruction || !faults.Contains(step.Traced.Address))], faulted ? steps[^1] : null);
    }

    /// <summary>The instruction whose value a flag has at the event; null when it still has its first.</summary>
    public Step? LastWriterOf(ulong flag)
    {
        for (int i = Completed.Length - 1; i >= 0; i--)
        {
            FlagEffect effect = FlagEffects.Of(Completed[i].Instruction.Code, count: null);
            if (FlagEffects.HasCount(Completed[i].Instruction.Code) || ((effect.Defined | effect.Undefined) & flag) != 0)
            {
                return Completed[i];
            }
        }

        return null;
    }

    /// <summary>The instruction that is the last to write a general register, or to write it perhaps; null for none.</summary>
    /// <param name="full">The 64-bit register.</param>
    public Step? LastWriterOf(IcedRegister full)
    {
        InstructionInfoFactory factory = new();
        for (int i = Completed.Length - 1; i >= 0; i--)
        {
            Instruction instruction = Completed[i].Instruction;
            foreach (UsedRegister used in factory.GetInfo(in instruction).GetUsedRegisters())
            {
                if (used.Register.GetFullRegister() == full && used.Access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.None or OpAccess.NoMemAccess))
                {
                    return Completed[i];
                }
            }
        }

        return null;
    }

    /// <summary>True when execution went straight from the start of the case to a step and never came back to it.</summary>
    public bool IsStraightTo(Step step)
    {
        ulong before = 0;
        foreach (Step at in Completed)
        {
            if (at.Traced.Address <= before)
            {
                return false;
            }

            before = at.Traced.Address;
            if (before == step.Traced.Address)
            {
                return Case.Responses.IsEmpty;
            }
        }

        return false;
    }
}
