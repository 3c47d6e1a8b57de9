using System.Collections.Immutable;
using System.Diagnostics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Runs ranges of cases on one job's targets. What it returns depends on the range alone.</summary>
internal sealed class RangeWorker
{
    /// <summary>Differences of a range that may be gone when their cases run again, before the range is not trusted: then it was what a target had become, not what its cases are.</summary>
    private const int MostGone = 32;

    /// <summary>Differences of a range that nothing describes and that come back, before the same is done on new targets: a target that has become another one is so again and again.</summary>
    private const int MostStrange = 256;

    private readonly CampaignOptions _options;
    private readonly CampaignParts _parts;
    private readonly CaseRunner _runner;
    private readonly ICaseSource _source;
    private readonly JobCounters _counters;
    private readonly EvidenceCollector _evidence;
    private readonly Outcome[] _answers;
    private readonly bool[] _confirms;
    private readonly TestCase[] _cases;
    private readonly ulong[] _indices;
    private readonly Outcome[][] _outcomes;
    private readonly GuidedBatch? _guided;
    private Digest _digest;
    private int _located;
    private int _gone;
    private int _mostGone;
    private int _strange;
    private int _mostStrange;
    private bool _isTheirWay;

    /// <summary>Makes a worker.</summary>
    /// <param name="options">What the campaign does.</param>
    /// <param name="parts">What it works with.</param>
    /// <param name="runner">The job's targets.</param>
    /// <param name="rules">Counts rules; null when nobody can.</param>
    /// <param name="counters">The job's live counters.</param>
    /// <param name="scout">Makes guided cases; null when they come from the source.</param>
    public RangeWorker(CampaignOptions options, CampaignParts parts, CaseRunner runner, IRuleCounter? rules, JobCounters counters, Scout? scout)
    {
        (_options, _parts, _runner, _source, _counters) = (options, parts, runner, parts.Source(), counters);
        _evidence = new EvidenceCollector(runner, rules);
        _answers = new Outcome[runner.Infos.Length];
        _confirms = new bool[runner.Infos.Length];
        _cases = new TestCase[options.BatchSize];
        _indices = new ulong[options.BatchSize];
        _guided = scout is null ? null : new GuidedBatch(scout, options.BatchSize, parts.Guide!.Target);
        _outcomes = new Outcome[runner.Infos.Length][];
        for (int i = 0; i < _outcomes.Length; i++)
        {
            _outcomes[i] = new Outcome[options.BatchSize];
        }
    }

    /// <summary>
    /// Runs a range; a second time when too much of what differs in it does not come back, and on new targets when too much does that nothing describes. Targets that differ as much when they are new do so by
    /// themselves and are not made again. Guided cases cannot be made again, so they are run once.
    /// </summary>
    /// <param name="range">The cases.</param>
    /// <param name="stop">Asked before each batch; true ends the range early.</param>
    /// <exception cref="TargetUnavailableException">A target cannot be made again.</exception>
    public RangeResult Run(CaseRange range, Func<bool> stop)
    {
        RangeResult first = RunOnce(range, stop, _guided is null ? MostGone : int.MaxValue, _guided is null && !_isTheirWay ? MostStrange : int.MaxValue);
        bool renews = _strange >= _mostStrange;
        if (_gone < _mostGone && !renews)
        {
            return first;
        }

        if (renews)
        {
            _runner.Renew();
        }

        RangeResult second = RunOnce(range, stop, int.MaxValue, int.MaxValue);
        _isTheirWay |= renews && _strange >= MostStrange;
        second.RanAgain++;
        return second;
    }

    private RangeResult RunOnce(CaseRange range, Func<bool> stop, int mostGone, int mostStrange)
    {
        RangeResult result = new(range, _outcomes.Length);
        Dictionary<(Signature, bool), Suspicion> seen = [];
        (_located, _gone, _mostGone, _strange, _mostStrange) = (0, 0, mostGone, 0, mostStrange);
        for (ulong done = 0; done < range.Count; done += (ulong)_options.BatchSize)
        {
            if (stop() || IsDistrusted)
            {
                return result;
            }

            int count = Fill(range.First + done, (int)Math.Min((ulong)_options.BatchSize, range.Count - done), result);
            RunTargets(count, result);
            Compare(count, result, seen);
            _counters.AddCases(count);
        }

        result.Complete = true;
        return result;
    }

    private bool IsDistrusted => _gone >= _mostGone || _strange >= _mostStrange;

    private int Fill(ulong first, int count, RangeResult result)
    {
        int filled = 0;
        for (ulong index = first; index < first + (ulong)count; index++)
        {
            if (IsSkipped(index))
            {
                result.Skipped++;
                continue;
            }

            _indices[filled] = index;
            _cases[filled] = _guided is null ? _source.Generate(index) : _guided.Next(filled, index);
            filled++;
        }

        return filled;
    }

    private bool IsSkipped(ulong index)
    {
        foreach (CaseRange skip in _options.Skip)
        {
            if (skip.Contains(index))
            {
                return true;
            }
        }

        return false;
    }

    private void RunTargets(int count, RangeResult result)
    {
        for (int target = 0; target < _outcomes.Length; target++)
        {
            if (_guided?.Target == target)
            {
                // The probed model has run them already.
                _guided.CopyTo(_outcomes[target], count, out long spent);
                result.Targets[target].Ticks += spent;
                _counters.AddTicks(target, spent);
                continue;
            }

            long start = Stopwatch.GetTimestamp();
            _runner.RunOn(target, _cases.AsSpan(0, count), _outcomes[target]);
            long ticks = Stopwatch.GetTimestamp() - start;
            result.Targets[target].Ticks += ticks;
            _counters.AddTicks(target, ticks);
        }
    }

    private void Compare(int count, RangeResult result, Dictionary<(Signature, bool), Suspicion> seen)
    {
        result.Cases += count;
        for (int i = 0; i < count && !IsDistrusted; i++)
        {
            ulong hash = _digest.OfCase(_indices[i], _cases[i]);
            result.CaseDigest += hash;
            for (int target = 0; target < _outcomes.Length; target++)
            {
                Outcome outcome = _outcomes[target][i];
                TargetTally tally = result.Targets[target];
                tally.Ends[(int)outcome.End]++;
                tally.Digest += _digest.OfOutcome(hash, outcome);
            }

            bool same = Comparer.AllSame(_outcomes, i, out int comparable);
            if (comparable >= 2)
            {
                result.Comparable++;
            }

            if (comparable < _outcomes.Length)
            {
                CountMissing(i, result);
            }

            Comparison? comparison = null;
            if (!same)
            {
                Examination examination = _runner.Compare(_cases[i], _outcomes, i);
                comparison = examination.Comparison;
                foreach (MaskedBit bit in comparison.HiddenBits)
                {
                    result.Evidence.Hide(bit);
                }

                foreach (string row in examination.Comparison.HidingRows)
                {
                    result.MaskRows.Add(row);
                }

                if (examination.Diverges)
                {
                    Judge(i, examination, result, seen);
                }
                else
                {
                    result.Masked++;
                }
            }

            if (_guided is not null && comparable >= 2)
            {
                _evidence.Confirmations(Answers(i), comparison, _confirms);
                _guided.Confirm(i, _cases[i], _confirms);
            }

            if (_evidence.Samples(_indices[i], _cases[i], _outcomes, i))
            {
                _evidence.Sample(_cases[i], Answers(i), comparison, result.Evidence);
            }
        }
    }

    private Outcome[] Answers(int index)
    {
        for (int target = 0; target < _answers.Length; target++)
        {
            _answers[target] = _outcomes[target][index];
        }

        return _answers;
    }

    /// <summary>Guided cases cannot be made again from their indices, so those before a suspicious one are kept with it.</summary>
    private ImmutableArray<TestCase> NeighboursOf(int index) =>
        _guided is null ? default : ImmutableArray.Create(_cases.AsSpan(Math.Max(0, index - TriageDesk.MostNeighbours)..index));

    // The instruction that read undefined bits is named with its operands; reports count mnemonics.
    private static string WithoutOperands(string row)
    {
        const string reader = "read by ";
        int end = row.StartsWith(reader, StringComparison.Ordinal) ? row.IndexOf(' ', reader.Length) : -1;
        return end < 0 ? row : row[..end];
    }

    private void CountMissing(int index, RangeResult result)
    {
        int ends = 0;
        for (int target = 0; target < _outcomes.Length; target++)
        {
            Outcome outcome = _outcomes[target][index];
            if (!outcome.Comparable)
            {
                ends |= 1 << (int)outcome.End;

                // Whoever looks for the trouble wants to run the case, which its index names.
                string which = outcome.End == EndKind.HarnessError ? $" of case {_indices[index]}" : string.Empty;
                result.Targets[target].Reasons.Add($"{outcome.End}{which}: {outcome.Detail}");
            }
        }

        result.Unsupported += (ends >> (int)EndKind.Unsupported) & 1;
        result.HarnessErrors += (ends >> (int)EndKind.HarnessError) & 1;
        result.BudgetSpent += (ends >> (int)EndKind.BudgetSpent) & 1;
    }

    private void Judge(int index, Examination examination, RangeResult result, Dictionary<(Signature, bool), Suspicion> seen)
    {
        Divergence divergence = Divergence.Of(examination, _runner);
        if (Explains(divergence, result))
        {
            return;
        }

        if (_located++ >= _options.MaximumLocatedPerRange)
        {
            result.Unexamined++;
            return;
        }

        Examination? first = Locator.FirstDivergence(examination.Case, _runner, _parts.Allowed);
        if (first is null)
        {
            _gone++;
        }
        else
        {
            divergence = Divergence.Of(first, _runner);
            if (Explains(divergence, result))
            {
                return;
            }

            _strange++;
        }

        _evidence.Contradict(divergence, result.Evidence);
        Suspicion suspicion = new(_indices[index], divergence, CameBack: first is not null) { Neighbours = NeighboursOf(index) };
        if (seen.TryGetValue((divergence.Signature, suspicion.CameBack), out Suspicion? earlier))
        {
            earlier.Count++;
        }
        else
        {
            seen.Add((divergence.Signature, suspicion.CameBack), suspicion);
            result.Suspicions.Add(suspicion);
        }
    }

    private bool Explains(Divergence divergence, RangeResult result)
    {
        if (divergence.Comparison.Consumed)
        {
            result.Undefined++;
            foreach (string row in divergence.Comparison.ConsumedRows)
            {
                result.MaskRows.Add(WithoutOperands(row));
            }

            return true;
        }

        ImmutableArray<int> known = _parts.Known.Find(divergence, _runner.Analyst);
        foreach (int entry in known)
        {
            result.Known.Add(_parts.Known.Entries[entry].Id);
        }

        if (!known.IsEmpty)
        {
            _evidence.Contradict(divergence, result.Evidence);
        }

        return !known.IsEmpty;
    }
}
