using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Tells which rules of a model one instruction of a case executes: the one that raises an event, or the last one before it.</summary>
/// <param name="counter">Counts the rules of a run.</param>
/// <param name="analyst">Traces cases.</param>
public sealed class InstructionRules(IRuleCounter counter, CaseAnalyst analyst)
{
    private readonly int[] _before = new int[counter.Rules.Length];

    /// <summary>Counts the rules.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="answers">Responses given before the event that the instruction leads to, as <see cref="Answers.Before(ReadOnlySpan{Outcome}, int)"/> finds them.</param>
    /// <param name="counts">Receives one count a rule; what it held is lost.</param>
    /// <remarks>A run that stops right after the instruction less one that stops right before it is what the instruction executed. No run stops before the first one, so that is compared with a NOP.</remarks>
    public void Count(TestCase testCase, int answers, int[] counts)
    {
        ImmutableArray<TracedInstruction> trace = analyst.TraceAfter(testCase, answers);
        int limit = LimitAfter(testCase, InstructionAt.LastIndex(trace.AsSpan()) + 1);
        Run(testCase, limit, counts);
        Run(limit > 1 ? testCase : CodeEdit.WithNops(testCase, _ => true), Math.Max(1, limit - 1), _before);
        for (int rule = 0; rule < counts.Length; rule++)
        {
            counts[rule] = Math.Max(0, counts[rule] - _before[rule]);
        }
    }

    /// <summary>The rules by name, in the order of the counter; none when the model does not run the instruction.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="answers">Responses given before the event that the instruction leads to, as <see cref="Answers.Before(ReadOnlySpan{Outcome}, int)"/> finds them.</param>
    public ImmutableArray<RuleName> Of(TestCase testCase, int answers)
    {
        int[] counts = new int[counter.Rules.Length];
        Count(testCase, answers, counts);
        return [.. counter.Rules.Where((_, rule) => counts[rule] > 0)];
    }

    // The smallest limit under which so many instructions are traced; iterations of REP count one each, so it may be more than their number.
    private int LimitAfter(TestCase testCase, int instructions)
    {
        int low = Math.Max(1, instructions);
        int high = Math.Max(low, testCase.Limits.Instructions);
        while (low < high)
        {
            int middle = low == instructions ? low : low + (high - low) / 2;
            if (analyst.TraceAfter(testCase with { Limits = new CaseLimits(middle) }, Answers.All).Length >= instructions)
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }

        return low;
    }

    private void Run(TestCase testCase, int limit, int[] counts)
    {
        counts.AsSpan().Clear();
        counter.Count(testCase with { Limits = new CaseLimits(limit) }, counts);
    }
}
