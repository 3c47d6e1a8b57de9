using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Tests;

/// <summary>A target with a fault that shows only behind some events in one order: then the carry flag is wrong in the last of them. Compiled into each project that needs it.</summary>
/// <param name="inner">What runs the cases; disposed with this.</param>
/// <param name="vectors">The events.</param>
/// <param name="shown">Told each time that the fault shows.</param>
internal sealed class PlantedSequence(ITarget inner, byte[] vectors, Action shown) : ITarget
{
    /// <inheritdoc/>
    public TargetInfo Info => inner.Info with { Name = "model.planted" };

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        Outcome outcome = inner.Run(testCase);
        ImmutableArray<Event> events = outcome.Events;
        for (int last = vectors.Length - 1; last < events.Length; last++)
        {
            if (EndsAt(events, last))
            {
                shown();
                RegisterState registers = events[last].Registers;
                return outcome with { Events = events.SetItem(last, events[last] with { Registers = registers with { Rflags = registers.Rflags ^ RflagsBits.CF } }) };
            }
        }

        return outcome;
    }

    /// <inheritdoc/>
    public void Dispose() => inner.Dispose();

    private bool EndsAt(ImmutableArray<Event> events, int last)
    {
        for (int i = 0; i < vectors.Length; i++)
        {
            if (events[last - i].Vector != vectors[^(i + 1)])
            {
                return false;
            }
        }

        return true;
    }
}
