using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Benchmarks;

/// <summary>A target that notes each sequence of four vectors among the events of the cases it runs, and changes nothing: what a fault behind any such sequence would have been found by.</summary>
/// <param name="inner">What runs the cases; disposed with this.</param>
/// <param name="seen">Where it notes them; shared by the jobs of a campaign.</param>
internal sealed class SequenceWatch(ITarget inner, SeenSequences seen) : ITarget
{
    /// <inheritdoc/>
    public TargetInfo Info => inner.Info with { Name = "model.watched" };

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        Outcome outcome = inner.Run(testCase);
        seen.Add(outcome.Events);
        return outcome;
    }

    /// <inheritdoc/>
    public void Dispose() => inner.Dispose();
}

/// <summary>Which sequences of four vectors were seen.</summary>
internal sealed class SeenSequences
{
    // Vectors below 32 have a number of their own, those above share: the cases raise one of them, 128.
    private const int Bits = 6;
    private const int Own = 32;
    private const int Steps = 4;
    private readonly bool[] _seen = new bool[1 << (Bits * Steps)];

    /// <summary>Notes every sequence of four among events. Jobs may race; each only ever sets.</summary>
    public void Add(ImmutableArray<Event> events)
    {
        int key = 0;
        for (int i = 0; i < events.Length; i++)
        {
            key = Next(key, events[i].Vector);
            if (i >= Steps - 1)
            {
                _seen[key] = true;
            }
        }
    }

    /// <summary>True when these four vectors came in this order.</summary>
    public bool Contains(ReadOnlySpan<byte> vectors)
    {
        int key = 0;
        foreach (byte vector in vectors)
        {
            key = Next(key, vector);
        }

        return _seen[key];
    }

    private int Next(int key, byte vector) => ((key << Bits) | (vector < Own ? vector : Own + (vector % Own))) & (_seen.Length - 1);
}
