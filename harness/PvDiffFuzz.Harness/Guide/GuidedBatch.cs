using System.Diagnostics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A batch of guided cases with what the probed model answered to each and which rules it used, until other targets have run them too.</summary>
/// <param name="scout">Makes the cases.</param>
/// <param name="size">Most cases in a batch.</param>
/// <param name="target">Index of the target that the probed model stands for; null for none.</param>
internal sealed class GuidedBatch(Scout scout, int size, int? target)
{
    private readonly Outcome[] _outcomes = new Outcome[size];
    private readonly List<ushort> _rules = [];
    private readonly int[] _starts = new int[size + 1];
    private long _ticks;

    /// <summary>Index of the target that the probed model stands for; null for none.</summary>
    public int? Target => target;

    /// <summary>Makes the next case of the batch and runs it on the probed model.</summary>
    /// <param name="slot">Its place in the batch; a batch is filled in order.</param>
    /// <param name="index">Its index in the campaign.</param>
    public TestCase Next(int slot, ulong index)
    {
        if (slot == 0)
        {
            _rules.Clear();
        }

        long start = Stopwatch.GetTimestamp();
        TestCase testCase = scout.Next(index, out _outcomes[slot]);
        _ticks += Stopwatch.GetTimestamp() - start;
        _rules.AddRange(scout.Executed);
        _starts[slot + 1] = _rules.Count;
        return testCase;
    }

    /// <summary>Gives the model's answers.</summary>
    /// <param name="outcomes">Receives them.</param>
    /// <param name="count">How many.</param>
    /// <param name="ticks">Time that making and running the cases took, in stopwatch ticks.</param>
    public void CopyTo(Outcome[] outcomes, int count, out long ticks)
    {
        _outcomes.AsSpan(0, count).CopyTo(outcomes);
        (ticks, _ticks) = (_ticks, 0);
    }

    /// <summary>Notes which targets confirmed the rules of a case.</summary>
    public void Confirm(int slot, TestCase testCase, ReadOnlySpan<bool> confirms)
    {
        if (confirms.Contains(true))
        {
            scout.Confirm(testCase, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_rules)[_starts[slot].._starts[slot + 1]], confirms);
        }
    }
}
