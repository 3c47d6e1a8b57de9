using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>How a run of a paravirtual case stands.</summary>
internal enum Verdict
{
    /// <summary>It goes on.</summary>
    Running,

    /// <summary>The code ran to its end.</summary>
    ReachedEnd,

    /// <summary>An event came for which there is no response.</summary>
    Event,

    /// <summary>The guest halted.</summary>
    Halt,

    /// <summary>The guest died.</summary>
    Crash,

    /// <summary>The limit of instructions was reached.</summary>
    BudgetSpent,

    /// <summary>Something that no text defines, or that a case does not tell.</summary>
    Unsupported,
}

/// <summary>What a verdict makes of a run.</summary>
internal static class VerdictExtensions
{
    /// <summary>The outcome of a paravirtual case.</summary>
    /// <param name="verdict">How it ended.</param>
    /// <param name="reason">Why, for a crash and for what cannot be run.</param>
    /// <param name="events">Deliveries in order.</param>
    /// <param name="final">Registers at the end; null when they are those of the last event.</param>
    /// <param name="system">The system side at the end.</param>
    /// <param name="changes">Memory that changed.</param>
    public static Outcome ToOutcome(
        this Verdict verdict, string? reason, ImmutableArray<Event> events, RegisterState? final, SystemState system, ImmutableArray<MemoryWord> changes)
    {
        EndKind end;
        switch (verdict)
        {
            case Verdict.ReachedEnd:
                end = EndKind.ReachedEnd;
                break;
            case Verdict.Event:
                end = EndKind.Event;
                break;
            case Verdict.Halt:
                end = EndKind.Halt;
                break;
            case Verdict.Crash:
                return new Outcome { End = EndKind.Crash, Events = events, Detail = reason };
            case Verdict.BudgetSpent:
                return Outcome.BudgetSpent("instruction limit");
            default:
                return Outcome.Unsupported(reason ?? "unsupported");
        }

        return new Outcome { End = end, Events = events, Registers = final ?? events[^1].Registers, Memory = changes, System = system };
    }
}
