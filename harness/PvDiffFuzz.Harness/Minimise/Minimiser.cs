using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Bounds of the minimiser's work on one finding.</summary>
/// <param name="Candidates">Most cases run in all.</param>
/// <param name="Batch">Cases handed to the targets at once.</param>
/// <param name="Rounds">Most rounds over all reductions.</param>
/// <param name="Machines">Most machines that candidates take down. Each is booted again, or waited for first: what a thousand other candidates take, or ten thousand.</param>
public sealed record MinimiserLimits(int Candidates = 20_000, int Batch = 32, int Rounds = 8, int Machines = 24);

/// <summary>What minimising gave.</summary>
/// <param name="Divergence">The smallest case found, with the signature of the one that was given.</param>
/// <param name="Candidates">Cases that were run.</param>
/// <param name="Drifted">Smaller cases that diverged otherwise and so were refused: another finding.</param>
public sealed record Minimised(Divergence Divergence, int Candidates, int Drifted);

/// <summary>Makes a diverging case smaller as long as it diverges with the same signature. Deterministic on deterministic targets.</summary>
/// <param name="reductions">In the order of a round.</param>
/// <param name="limits">Bounds.</param>
/// <param name="allowed">False for cases that must not run on the targets, such as those with excluded instructions; null when any may.</param>
public sealed class Minimiser(ImmutableArray<IReduction> reductions, MinimiserLimits limits, Func<TestCase, bool>? allowed = null)
{
    /// <summary>Minimises.</summary>
    /// <param name="start">The divergence.</param>
    /// <param name="runner">Runs candidates.</param>
    /// <param name="cancel">Ends early with the best so far.</param>
    public Minimised Minimise(Divergence start, CaseRunner runner, CancellationToken cancel)
    {
        Search search = new(start, runner, limits, allowed, cancel);
        for (int round = 0; round < limits.Rounds; round++)
        {
            bool progress = false;
            foreach (IReduction reduction in reductions)
            {
                progress |= search.Apply(reduction);
            }

            if (!progress || search.Spent)
            {
                break;
            }
        }

        return new Minimised(search.Best, search.Candidates, search.Drifted);
    }

    private sealed class Search(Divergence start, CaseRunner runner, MinimiserLimits limits, Func<TestCase, bool>? allowed, CancellationToken cancel)
    {
        private readonly ReductionContext _context = new(runner.Analyst.VendorOf(start.Case));
        private readonly Signature _signature = start.Signature;
        private int _machines;

        public Divergence Best { get; private set; } = start;

        public int Candidates { get; private set; }

        public int Drifted { get; private set; }

        public bool Spent => Candidates >= limits.Candidates || _machines >= limits.Machines || cancel.IsCancellationRequested;

        /// <summary>Applies one reduction until it proposes nothing that helps. True when the case became smaller.</summary>
        public bool Apply(IReduction reduction)
        {
            int budget = reduction.Budget;
            bool progress = false;
            while (TryOnce(reduction, ref budget))
            {
                progress = true;
            }

            return progress;
        }

        // Candidates run in batches; the first in the order of proposals that keeps the signature is taken, whatever the batch size.
        private bool TryOnce(IReduction reduction, ref int budget)
        {
            foreach (TestCase[] batch in reduction.Propose(Best.Case, _context).Where(Acceptable).Chunk(limits.Batch))
            {
                int count = Math.Min(batch.Length, Math.Min(budget, limits.Candidates - Candidates));
                if (count <= 0 || Spent)
                {
                    return false;
                }

                budget -= count;
                Candidates += count;
                ImmutableArray<Examination> examinations = runner.Examine(batch.AsSpan(0, count));
                _machines += examinations.Count(e => e.Outcomes.Any(o => o.End is EndKind.HypervisorCrash or EndKind.HarnessError));
                foreach (Examination examination in examinations)
                {
                    if (Keeps(examination) is Divergence smaller)
                    {
                        Best = smaller;
                        return true;
                    }
                }
            }

            return false;
        }

        private bool Acceptable(TestCase candidate) =>
            candidate.Code.Lengths.Length > 0 && !candidate.Equals(Best.Case) && candidate.Check() is null && (allowed is null || allowed(candidate));

        private Divergence? Keeps(Examination examination)
        {
            if (!examination.Diverges || examination.Comparison.Consumed)
            {
                return null;
            }

            Divergence divergence = Divergence.Of(examination, runner);
            if (divergence.Signature == _signature)
            {
                return divergence;
            }

            Drifted++;
            return null;
        }
    }
}
