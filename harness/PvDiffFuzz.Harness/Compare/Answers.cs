using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Tells which responses of a case were given when one of its events came. The only place that turns indices of events into numbers of responses.</summary>
/// <remarks>An event of kind <see cref="EventKind.Hypercall"/> is what a response's own call gave back: no response answers it, and the response that made the call has not returned yet.</remarks>
public static class Answers
{
    /// <summary>In place of a number: all responses that the case has.</summary>
    public const int All = int.MaxValue;

    /// <summary>True for events that use a response up, or end the case when none is left.</summary>
    public static bool Takes(Event e) => e.Kind != EventKind.Hypercall;

    /// <summary>Responses after which the guest went on before an event came.</summary>
    /// <param name="outcomes">What targets answered. Up to the first event that differs they tell the same, so one that has the event is asked.</param>
    /// <param name="index">Index of the event; <see cref="Field.Final"/>, or anything past the last, means all responses.</param>
    /// <returns>A number of responses, or <see cref="All"/>.</returns>
    public static int Before(ReadOnlySpan<Outcome> outcomes, int index)
    {
        if (index < 0 || index == int.MaxValue)
        {
            return All;
        }

        ImmutableArray<Event> events = Longest(outcomes);
        return index < events.Length ? Before(events.AsSpan(), index) : All;
    }

    /// <summary>Responses after which the guest went on before an event came.</summary>
    /// <param name="events">Events of one outcome.</param>
    /// <param name="index">Index of one of them.</param>
    public static int Before(ReadOnlySpan<Event> events, int index)
    {
        int taken = 0;
        for (int i = 0; i < index; i++)
        {
            taken += Takes(events[i]) ? 1 : 0;
        }

        // The response that makes this call was begun, but the guest has not gone on.
        return Takes(events[index]) ? taken : Math.Max(0, taken - 1);
    }

    /// <summary>The event to which the guest's own instructions led: the given one, or for the return of a hypercall the one whose response made the call.</summary>
    /// <param name="events">Events of one outcome, at least one.</param>
    /// <param name="index">Index of an event; anything past the last means the last.</param>
    public static Event DeliveryOf(ReadOnlySpan<Event> events, int index)
    {
        int at = Math.Min(index, events.Length - 1);
        while (at > 0 && !Takes(events[at]))
        {
            at--;
        }

        return events[at];
    }

    /// <summary>The case as it was up to the return of a hypercall, or to another event: later responses are gone, and of the last one the calls that were not made yet.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="events">Events of one outcome.</param>
    /// <param name="index">Index of the last event that stays.</param>
    public static TestCase Cut(TestCase testCase, ReadOnlySpan<Event> events, int index)
    {
        int answers = Math.Min(Before(events, index), testCase.Responses.Length);
        if (Takes(events[index]) || answers == testCase.Responses.Length)
        {
            return answers == testCase.Responses.Length ? testCase : testCase with { Responses = testCase.Responses[..answers] };
        }

        int calls = 0;
        for (int i = index; i >= 0 && !Takes(events[i]); i--)
        {
            calls++;
        }

        Response last = testCase.Responses[answers];
        ImmutableArray<Hypercall> made = last.Hypercalls[..Math.Min(calls, last.Hypercalls.Length)];
        return testCase with { Responses = [.. testCase.Responses[..answers], last with { Hypercalls = made }] };
    }

    private static ImmutableArray<Event> Longest(ReadOnlySpan<Outcome> outcomes)
    {
        ImmutableArray<Event> longest = [];
        foreach (Outcome outcome in outcomes)
        {
            if (outcome.Comparable && outcome.Events.Length > longest.Length)
            {
                longest = outcome.Events;
            }
        }

        return longest;
    }
}
