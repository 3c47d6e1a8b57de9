using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Holds divergences against the known entries, and where they tell too little as they are, asks the targets for more.</summary>
/// <param name="known">The entries.</param>
/// <param name="runner">The targets.</param>
/// <param name="allowed">False for cases that must not run on the targets; null when any may.</param>
internal sealed class Description(KnownSet known, CaseRunner runner, Func<TestCase, bool>? allowed)
{
    /// <summary>The entries that describe a divergence as it is, cut to where it first shows, since another cause can have taken the place of the one that was looked for, or as <see cref="OfAlive"/> has it.</summary>
    /// <param name="divergence">The divergence.</param>
    /// <returns>Indexes of entries; empty when nothing describes it.</returns>
    public ImmutableArray<int> Of(Divergence divergence)
    {
        ImmutableArray<int> found = AsIsOrCut(divergence);
        return found.IsEmpty ? OfAlive(divergence) : found;
    }

    /// <summary>
    /// The entries that describe the same code with handlers that show everything: a crash, or a handler of the case, tells too little. What it shows at another instruction is another matter.
    /// </summary>
    /// <param name="divergence">The divergence.</param>
    /// <returns>Indexes of entries; empty when nothing describes it, or it tells all there is.</returns>
    public ImmutableArray<int> OfAlive(Divergence divergence)
    {
        if (Revival.Of(divergence) is not TestCase alive || allowed?.Invoke(alive) == false || runner.Examine(alive) is not { Diverges: true, Comparison.Consumed: false } examined)
        {
            return [];
        }

        Divergence shown = Divergence.Of(examined, runner);
        return shown.Instruction.Address == divergence.Instruction.Address ? AsIsOrCut(shown) : [];
    }

    private ImmutableArray<int> AsIsOrCut(Divergence divergence)
    {
        ImmutableArray<int> found = known.Find(divergence, runner.Analyst);
        return found.IsEmpty && Locator.FirstDivergence(divergence.Case, runner, allowed) is Examination first ? known.Find(Divergence.Of(first, runner), runner.Analyst) : found;
    }
}
