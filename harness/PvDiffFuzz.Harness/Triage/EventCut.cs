using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Cuts a divergence to its first differing event without running anything, for outcomes that were recorded elsewhere.</summary>
/// <remarks>
/// A case with fewer responses ends at an earlier event, and up to there every target shows what it showed. Only memory and the system side are unknown at that point: what was recorded
/// is how they were at the end, so a cut outcome has neither.
/// </remarks>
internal static class EventCut
{
    /// <summary>Cuts a divergence.</summary>
    /// <param name="divergence">A divergence between outcomes with several events.</param>
    /// <param name="runner">Compares and traces; runs nothing.</param>
    /// <returns>The divergence at its first differing event; the whole one when that is its last event, or when nothing differs there but memory.</returns>
    public static Divergence Of(Divergence divergence, CaseRunner runner)
    {
        int first = divergence.Comparison.FirstEvent;
        Outcome? longer = first < 0 ? null : divergence.Outcomes.FirstOrDefault(o => o.Comparable && o.Events.Length > first + 1);
        if (longer is null || Answers.Before(longer.Events.AsSpan(), first) >= divergence.Case.Responses.Length)
        {
            return divergence;
        }

        TestCase testCase = Answers.Cut(divergence.Case, longer.Events.AsSpan(), first);
        ImmutableArray<Outcome> outcomes = [.. divergence.Outcomes.Select(o => o.Comparable ? At(o, first) : o)];
        Examination examined = new(testCase, outcomes, runner.Comparer.Compare(testCase, outcomes.AsSpan()));
        return examined.Diverges && !examined.Comparison.Consumed ? Divergence.Of(examined, runner) : divergence;
    }

    private static Outcome At(Outcome outcome, int last) => outcome.Events.Length <= last + 1
        ? outcome with { Memory = [], System = SystemState.Empty, Alternatives = [.. outcome.Alternatives.Select(a => At(a, last))] }
        : outcome with { End = EndKind.Event, Events = outcome.Events[..(last + 1)], Registers = outcome.Events[last].Registers, Memory = [], System = SystemState.Empty, Alternatives = [.. outcome.Alternatives.Select(a => At(a, last))] };
}
