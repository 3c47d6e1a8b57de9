using System.Collections.Concurrent;
using PvDiffFuzz.Instrument;

namespace PvDiffFuzz.Cli;

/// <summary>Instrumented copies of one model that nobody uses at the moment. A copy is compiled when it first runs and never unloaded, so that one is taken before another is loaded.</summary>
/// <param name="load">Loads a further copy.</param>
internal sealed class CopyPool(Func<InstrumentedModel> load)
{
    private readonly ConcurrentBag<InstrumentedModel> _idle = [];

    /// <summary>Takes a copy; it belongs to the caller until <see cref="Return"/>.</summary>
    public InstrumentedModel Take() => _idle.TryTake(out InstrumentedModel? copy) ? copy : load();

    /// <summary>Gives a copy back, its map cleared.</summary>
    public void Return(InstrumentedModel copy)
    {
        copy.Edges.AsSpan().Clear();
        _idle.Add(copy);
    }
}
