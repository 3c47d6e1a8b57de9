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

    /// <summary>Open cases that are looked into together: targets that wait for something wait for all of them at once.</summary>
    private const int OpenTogether = 64;

    private readonly CampaignOptions _options;
    private readonly CampaignParts _parts;
    private readonly CaseRunner _runner;
    private readonly ICaseSource _source;
    private readonly JobCounters _counters;
    private readonly EvidenceCollector _evidence;
    private readonly Description _description;
    private readonly Outcome[] _answers;
    private readonly bool[] _confirms;
    private readonly Batch[] _batches;
    private readonly List<Open> _open = [];
    private readonly GuidedBatch? _guided;
    private readonly bool _besides;
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
        _description = new Description(parts.Known, runner, parts.Allowed);
        _answers = new Outcome[runner.Infos.Length];
        _confirms = new bool[runner.Infos.Length];
        _batches = [.. Enumerable.Range(0, 3).Select(_ => new Batch(options.BatchSize, runner.Infos.Length))];
        _guided = scout is null ? null : new GuidedBatch(scout, options.BatchSize, parts.Guide!.Target);
        _besides = _guided is null && Environment.ProcessorCount > options.Jobs;
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
        RangeResult result = new(range, _runner.Infos.Length) { Complete = true };
        Dictionary<(Signature, bool), Suspicion> seen = [];
        (_located, _gone, _mostGone, _strange, _mostStrange) = (0, 0, mostGone, 0, mostStrange);
        _open.Clear();
        Batch? before = null;
        int turn = 0;
        ulong done = 0;
        for (Batch? batch = Prepare(range, ref done, turn++, result); batch is not null;)
        {
            if (stop() || IsDistrusted)
            {
                result.Complete = false;
                break;
            }

            Batch? judged = before;
            Batch? next = null;
            RunBeside(batch, result, () =>
            {
                Judge(judged, result);
                next = _guided is null ? Prepare(range, ref done, turn++, result) : null;
            });
            Settle(before, result, seen);
            before = batch;
            if (_guided is not null)
            {
                // What a batch has shown steers the next one.
                Judge(before, result);
                Settle(before, result, seen);
                before = null;
                next = Prepare(range, ref done, turn++, result);
            }

            batch = next;
        }

        Judge(before, result);
        Settle(before, result, seen);
        SettleOpen(result, seen);
        return result;
    }

    /// <summary>The next cases of a range, with what models answer; null behind the last.</summary>
    private Batch? Prepare(CaseRange range, ref ulong done, int turn, RangeResult result)
    {
        if (done >= range.Count)
        {
            return null;
        }

        Batch batch = _batches[turn % _batches.Length];
        Fill(batch, range.First + done, (int)Math.Min((ulong)_options.BatchSize, range.Count - done), result);
        RunTargets(batch, result, models: true);
        done += (ulong)_options.BatchSize;
        return batch;
    }

    /// <summary>
    /// Runs a batch on what is no model, and does something else meanwhile, on another thread where there is a processor for it, so that a target that waits for nothing but cases waits little.
    /// What needs these targets waits until they have answered, so that what runs on them and when is the same either way.
    /// </summary>
    private void RunBeside(Batch batch, RangeResult result, Action rest)
    {
        Task done = _besides ? Task.Run(rest) : Task.CompletedTask;
        try
        {
            RunTargets(batch, result, models: false);
        }
        finally
        {
            done.GetAwaiter().GetResult();
        }

        if (!_besides)
        {
            rest();
        }
    }

    private bool IsDistrusted => _gone >= _mostGone || _strange >= _mostStrange;

    private void Fill(Batch batch, ulong first, int count, RangeResult result)
    {
        batch.Count = 0;
        batch.Open.Clear();
        for (ulong index = first; index < first + (ulong)count; index++)
        {
            if (IsSkipped(index))
            {
                result.Skipped++;
                continue;
            }

            batch.Indices[batch.Count] = index;
            batch.Cases[batch.Count] = _guided is null ? _source.Generate(index) : _guided.Next(batch.Count, index);
            batch.Count++;
        }
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

    private void RunTargets(Batch batch, RangeResult result, bool models)
    {
        for (int target = 0; target < batch.Outcomes.Length; target++)
        {
            if (_runner.Infos[target].Kind == TargetKind.Model != models)
            {
                continue;
            }

            if (_guided?.Target == target)
            {
                // The probed model has run them already.
                _guided.CopyTo(batch.Outcomes[target], batch.Count, out long spent);
                result.Targets[target].Ticks += spent;
                _counters.AddTicks(target, spent);
                continue;
            }

            long start = Stopwatch.GetTimestamp();
            _runner.RunOn(target, batch.Cases.AsSpan(0, batch.Count), batch.Outcomes[target]);
            long ticks = Stopwatch.GetTimestamp() - start;
            result.Targets[target].Ticks += ticks;
            _counters.AddTicks(target, ticks);
        }
    }

    /// <summary>Compares a batch and holds what differs against the entries, as it is. What they do not describe stays open.</summary>
    private void Judge(Batch? batch, RangeResult result)
    {
        if (batch is null)
        {
            return;
        }

        result.Cases += batch.Count;
        for (int i = 0; i < batch.Count; i++)
        {
            ulong hash = _digest.OfCase(batch.Indices[i], batch.Cases[i]);
            result.CaseDigest += hash;
            for (int target = 0; target < batch.Outcomes.Length; target++)
            {
                Outcome outcome = batch.Outcomes[target][i];
                TargetTally tally = result.Targets[target];
                tally.Ends[(int)outcome.End]++;
                tally.Digest += _digest.OfOutcome(hash, outcome);
            }

            bool same = Comparer.AllSame(batch.Outcomes, i, out int comparable);
            if (comparable >= 2)
            {
                result.Comparable++;
            }

            if (comparable < batch.Outcomes.Length)
            {
                CountMissing(batch, i, result);
            }

            Comparison? comparison = same ? null : Judge(batch, i, result);
            if (_guided is not null && comparable >= 2)
            {
                _evidence.Confirmations(Answers(batch, i), comparison, _confirms);
                _guided.Confirm(i, batch.Cases[i], _confirms);
            }

            if (_evidence.Samples(batch.Indices[i], batch.Cases[i], batch.Outcomes, i))
            {
                _evidence.Sample(batch.Cases[i], Answers(batch, i), comparison, result.Evidence);
            }
        }

        _counters.AddCases(batch.Count);
    }

    private Comparison Judge(Batch batch, int index, RangeResult result)
    {
        Examination examination = _runner.Compare(batch.Cases[index], batch.Outcomes, index);
        foreach (MaskedBit bit in examination.Comparison.HiddenBits)
        {
            result.Evidence.Hide(bit);
        }

        foreach (string row in examination.Comparison.HidingRows)
        {
            result.MaskRows.Add(row);
        }

        if (!examination.Diverges)
        {
            result.Masked++;
            return examination.Comparison;
        }

        Divergence divergence = Divergence.Of(examination, _runner);
        if (!Explains(divergence, result))
        {
            batch.Open.Add((index, divergence));
        }

        return examination.Comparison;
    }

    private Outcome[] Answers(Batch batch, int index)
    {
        for (int target = 0; target < _answers.Length; target++)
        {
            _answers[target] = batch.Outcomes[target][index];
        }

        return _answers;
    }

    /// <summary>Guided cases cannot be made again from their indices, so those before a suspicious one are kept with it.</summary>
    private ImmutableArray<TestCase> NeighboursOf(Batch batch, int index) =>
        _guided is null ? default : ImmutableArray.Create(batch.Cases.AsSpan(Math.Max(0, index - TriageDesk.MostNeighbours)..index));

    // The instruction that read undefined bits is named with its operands; reports count mnemonics.
    private static string WithoutOperands(string row)
    {
        const string reader = "read by ";
        int end = row.StartsWith(reader, StringComparison.Ordinal) ? row.IndexOf(' ', reader.Length) : -1;
        return end < 0 ? row : row[..end];
    }

    private static void CountMissing(Batch batch, int index, RangeResult result)
    {
        int ends = 0;
        for (int target = 0; target < batch.Outcomes.Length; target++)
        {
            Outcome outcome = batch.Outcomes[target][index];
            if (!outcome.Comparable)
            {
                ends |= 1 << (int)outcome.End;

                // Whoever looks for the trouble wants to run the case, which its index names.
                string which = outcome.End == EndKind.HarnessError ? $" of case {batch.Indices[index]}" : string.Empty;
                result.Targets[target].Reasons.Add($"{outcome.End}{which}: {outcome.Detail}");
            }
        }

        result.Unsupported += (ends >> (int)EndKind.Unsupported) & 1;
        result.HarnessErrors += (ends >> (int)EndKind.HarnessError) & 1;
        result.BudgetSpent += (ends >> (int)EndKind.BudgetSpent) & 1;
    }

    /// <summary>Takes what is open in a batch, and settles it when it is enough.</summary>
    private void Settle(Batch? batch, RangeResult result, Dictionary<(Signature, bool), Suspicion> seen)
    {
        if (batch is null)
        {
            return;
        }

        int most = Math.Min(batch.Open.Count, _options.MaximumLocatedPerRange - _located);
        result.Unexamined += batch.Open.Count - most;
        _located += most;
        foreach ((int index, Divergence divergence) in batch.Open[..most])
        {
            _open.Add(new Open(batch.Indices[index], divergence, NeighboursOf(batch, index)));
        }

        batch.Open.Clear();
        if (_open.Count >= OpenTogether)
        {
            SettleOpen(result, seen);
        }
    }

    /// <summary>Looks for where open cases begin to diverge, which the targets are asked for: where halving leads first, as that tells enough of nearly all, and then what is really the first.</summary>
    private void SettleOpen(RangeResult result, Dictionary<(Signature, bool), Suspicion> seen)
    {
        Examination?[] cuts = Locator.LocalDivergences([.. _open.Select(open => open.Divergence.Case)], _runner, _parts.Allowed);
        int[] left = [.. Enumerable.Range(0, cuts.Length).Where(i => cuts[i] is not Examination cut || !Explains(Divergence.Of(cut, _runner), result))];
        int[] strange = [.. left.Where(i => cuts[i] is not null)];
        Examination?[] firsts = Locator.FirstDivergences([.. strange.Select(i => _open[i].Divergence.Case)], _runner, _parts.Allowed);
        foreach (int i in left)
        {
            if (IsDistrusted)
            {
                break;
            }

            Settle(_open[i], Array.IndexOf(strange, i) is int at and >= 0 ? firsts[at] : null, result, seen);
        }

        _open.Clear();
    }

    private void Settle(Open open, Examination? first, RangeResult result, Dictionary<(Signature, bool), Suspicion> seen)
    {
        Divergence divergence = open.Divergence;
        if (first is null)
        {
            _gone++;
        }
        else
        {
            divergence = Divergence.Of(first, _runner);
            if (Explains(divergence, result) || Notes(_description.OfAlive(divergence), divergence, result))
            {
                return;
            }

            _strange++;
        }

        _evidence.Contradict(divergence, result.Evidence);
        Suspicion suspicion = new(open.Index, divergence, CameBack: first is not null) { Neighbours = open.Neighbours };
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

        return Notes(_parts.Known.Find(divergence, _runner.Analyst), divergence, result);
    }

    /// <summary>Counts the entries that describe a divergence. False for none.</summary>
    private bool Notes(ImmutableArray<int> known, Divergence divergence, RangeResult result)
    {
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

    /// <summary>Cases that run together, what was answered, and what of it nothing describes yet.</summary>
    private sealed class Batch(int size, int targets)
    {
        public TestCase[] Cases { get; } = new TestCase[size];

        public ulong[] Indices { get; } = new ulong[size];

        public Outcome[][] Outcomes { get; } = [.. Enumerable.Range(0, targets).Select(_ => new Outcome[size])];

        public int Count { get; set; }

        public List<(int Index, Divergence Divergence)> Open { get; } = [];
    }

    /// <summary>A case that differs in something that nothing describes as it is.</summary>
    /// <param name="Index">Its index.</param>
    /// <param name="Divergence">How it differs.</param>
    /// <param name="Neighbours">Cases that ran before it, where they cannot be made again.</param>
    private sealed record Open(ulong Index, Divergence Divergence, ImmutableArray<TestCase> Neighbours);
}
