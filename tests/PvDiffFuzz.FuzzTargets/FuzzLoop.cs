using System.Diagnostics;
using System.Globalization;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.FuzzTargets;

/// <summary>Fuzzes a target in this process, guided by our own probes. Equal seeds and starting inputs give equal inputs.</summary>
/// <param name="run">The target, in instrumented assemblies.</param>
/// <param name="edges">Their map.</param>
/// <param name="restart">Begins a run.</param>
/// <param name="seed">Seed of the mutations.</param>
internal sealed class FuzzLoop(Action<byte[]> run, byte[] edges, Action restart, ulong seed)
{
    private const int Drawn = 4;

    private readonly SeenFeatures _seen = new(0, 0);
    private readonly List<byte[]> _corpus = [];
    private readonly List<int> _picks = [];
    private readonly List<int> _found = [];

    /// <summary>Inputs that showed something new.</summary>
    public IReadOnlyList<byte[]> Corpus => _corpus;

    /// <summary>The longest time that one input took.</summary>
    public TimeSpan Slowest { get; private set; }

    /// <summary>Edges that were taken.</summary>
    public int Edges => _seen.EdgeCount;

    /// <summary>Runs the starting inputs, and then so many mutants.</summary>
    /// <param name="inputs">Inputs to begin with.</param>
    /// <param name="count">How many mutants.</param>
    /// <param name="report">Told now and then how many there were.</param>
    /// <returns>The input that broke a promise with what it broke, or null.</returns>
    public (byte[] Input, Exception Trouble)? Run(IEnumerable<byte[]> inputs, long count, Action<long> report)
    {
        foreach (byte[] input in inputs)
        {
            if (Try(input) is Exception trouble)
            {
                return (input, trouble);
            }
        }

        if (_corpus.Count == 0)
        {
            _corpus.Add([0, 0x90]);
            _picks.Add(0);
        }

        // Code that is compiled on the way is no hang.
        Slowest = TimeSpan.Zero;
        for (long i = 0; i < count; i++)
        {
            CounterRandom random = new(seed, (ulong)i);
            int parent = Draw(ref random);
            _picks[parent]++;
            byte[] input = InputMutator.Mutate(_corpus[parent], _corpus[random.Below(_corpus.Count)], ref random);
            if (Try(input) is Exception trouble)
            {
                return (input, trouble);
            }

            if ((i & 0xffff) == 0xffff)
            {
                report(i + 1);
            }
        }

        return null;
    }

    /// <summary>Text for a person.</summary>
    public string Describe(long inputs, TimeSpan elapsed) => string.Create(
        CultureInfo.InvariantCulture,
        $"{inputs:N0} inputs in {elapsed.TotalSeconds:F0} s, {inputs / Math.Max(elapsed.TotalSeconds, 0.001):N0} a second; {Edges} edges, corpus of {_corpus.Count}; slowest {Slowest.TotalMilliseconds:F0} ms; "
        + $"{GC.GetTotalMemory(forceFullCollection: true) / 1048576.0:F1} MiB managed, {Environment.WorkingSet / 1048576.0:F0} MiB resident");

    private int Draw(ref CounterRandom random)
    {
        int best = random.Below(_corpus.Count);
        for (int i = 1; i < Drawn; i++)
        {
            int other = random.Below(_corpus.Count);
            best = _picks[other] < _picks[best] ? other : best;
        }

        return best;
    }

    private Exception? Try(byte[] input)
    {
        long start = Stopwatch.GetTimestamp();
        restart();
        try
        {
            run(input);
        }
        catch (Exception trouble)
        {
            return trouble;
        }

        TimeSpan took = Stopwatch.GetElapsedTime(start);
        Slowest = took > Slowest ? took : Slowest;
        _found.Clear();
        _seen.TakeNewEdges(edges, _found);
        if (_found.Count > 0)
        {
            _found.ForEach(feature => _seen.Add(feature));
            _corpus.Add(input);
            _picks.Add(0);
        }

        return null;
    }
}
