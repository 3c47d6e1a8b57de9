using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Looks at a sample of a job's cases for which rules they execute and which bits they mask, and at every divergence for which rules it contradicts.</summary>
/// <remarks>The sample depends on the cases alone, so that evidence does not depend on the number of jobs.</remarks>
internal sealed class EvidenceCollector
{
    private readonly CaseRunner _runner;
    private readonly IRuleCounter? _counter;
    private readonly int _model;
    private readonly bool[] _confirms;
    private readonly int[] _counts;
    private readonly InstructionRules? _rules;

    /// <summary>Makes a collector.</summary>
    /// <param name="runner">The job's targets.</param>
    /// <param name="counter">Counts rules of the model among them; null when nobody can.</param>
    public EvidenceCollector(CaseRunner runner, IRuleCounter? counter)
    {
        _runner = runner;
        _model = IndexOfModel(runner.Infos);
        _counter = _model < 0 ? null : counter;
        _confirms = new bool[runner.Infos.Length];
        _counts = new int[counter?.Rules.Length ?? 0];
        _rules = _counter is null ? null : new InstructionRules(_counter, runner.Analyst);
    }

    /// <summary>True when a case belongs to the sample: one in <see cref="CampaignEvidence.SampleEvery"/>, and those in which a Xen guest dies, which are few and execute what no other does.</summary>
    /// <param name="index">Its index.</param>
    /// <param name="testCase">The case.</param>
    /// <param name="outcomes">Outcomes by target and place in the batch.</param>
    /// <param name="at">Its place in the batch.</param>
    public bool Samples(ulong index, TestCase testCase, Outcome[][] outcomes, int at) =>
        index % CampaignEvidence.SampleEvery == 0 || (_model >= 0 && testCase.Abi.IsXen() && outcomes[_model][at].End == EndKind.Crash);

    /// <summary>Looks at a sampled case.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcomes">One outcome a target.</param>
    /// <param name="comparison">How they compare; null when all comparable ones are the same to the last bit.</param>
    /// <param name="tally">Receives the counts.</param>
    public void Sample(TestCase testCase, ReadOnlySpan<Outcome> outcomes, Comparison? comparison, EvidenceTally tally)
    {
        tally.Sampled++;
        foreach (MaskedBit bit in _runner.Analyst.MaskAt(testCase, int.MaxValue, outcomes).Parts.SelectMany(MaskedBit.AllOf))
        {
            tally.Mask(bit);
        }

        if (_counter is not null)
        {
            Confirmations(outcomes, comparison, _confirms);
            Count(testCase, _counts);
            tally.Execute(_counts, _confirms);
        }
    }

    /// <summary>Which targets, of another lineage than the model, agree with it.</summary>
    /// <param name="outcomes">One outcome a target.</param>
    /// <param name="comparison">How they compare; null when all comparable ones are the same to the last bit.</param>
    /// <param name="confirms">Receives one answer a target; all false without a model.</param>
    public void Confirmations(ReadOnlySpan<Outcome> outcomes, Comparison? comparison, Span<bool> confirms)
    {
        for (int target = 0; target < confirms.Length; target++)
        {
            confirms[target] = _model >= 0 && IsRival(target) && outcomes[target].Comparable && outcomes[_model].Comparable && (comparison is null || Together(comparison, target));
        }
    }

    /// <summary>Notes what a divergence, known or new, contradicts: the rules that the instruction at which it shows executed.</summary>
    public void Contradict(Divergence divergence, EvidenceTally tally)
    {
        if (_counter is null)
        {
            return;
        }

        bool counted = false;
        for (int target = 0; target < _confirms.Length; target++)
        {
            if (IsRival(target) && divergence.Outcomes[target].Comparable && divergence.Outcomes[_model].Comparable && !Together(divergence.Comparison, target))
            {
                if (!counted)
                {
                    counted = true;
                    _rules!.Count(divergence.Case, Answers.Before(divergence.Outcomes.AsSpan(), divergence.Comparison.FirstEvent), _counts);
                }

                tally.Contradict(_counts, target);
            }
        }
    }

    private void Count(TestCase testCase, int[] counts)
    {
        counts.AsSpan().Clear();
        _counter!.Count(testCase, counts);
    }

    // Targets of the model's lineage repeat its mistakes, so their agreement confirms nothing.
    private bool IsRival(int target) => _runner.Infos[target].Lineage != _runner.Infos[_model].Lineage;

    private bool Together(Comparison comparison, int target) => !comparison.Differ(_model, target);

    private static int IndexOfModel(ImmutableArray<TargetInfo> infos)
    {
        for (int i = 0; i < infos.Length; i++)
        {
            if (infos[i].Kind == TargetKind.Model)
            {
                return i;
            }
        }

        return -1;
    }
}
