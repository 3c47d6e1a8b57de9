using System.Collections.Immutable;
using System.Diagnostics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>The loop: cases on all targets, compared, judged, minimised, saved. Run once.</summary>
/// <remarks>
/// Each job is a thread with targets of its own that takes ranges of cases; triage runs on the calling thread and takes the results in order. So what a bounded campaign finds depends
/// on seed and range alone. No console; progress is polled.
/// </remarks>
public sealed class Campaign
{
    private static readonly TimeSpan EvidenceInterval = TimeSpan.FromMinutes(1);

    private readonly CampaignOptions _options;
    private readonly CampaignParts _parts;
    private readonly RangeLedger _ledger;
    private readonly JobCounters[] _counters;
    private readonly RangeResult _totals;
    private CaseGuide? _guide;
    private readonly long _started;
    private Exception? _failure;
    private volatile TargetBox? _infos;
    private string? _evidenceTrouble;
    private long _evidenceSaved;
    private volatile Seen _seen = new(0, 0, 0, 0, 0, 0, 0);

    /// <summary>Prepares a campaign.</summary>
    /// <param name="options">What to do.</param>
    /// <param name="parts">What to do it with.</param>
    /// <exception cref="ArgumentException">The options contradict each other; the message says what would be right.</exception>
    public Campaign(CampaignOptions options, CampaignParts parts)
    {
        if (options.Check() is string problem)
        {
            throw new ArgumentException(problem, nameof(options));
        }

        (_options, _parts) = (options, parts);
        _ledger = new RangeLedger(options);
        _counters = [.. Enumerable.Range(0, options.Jobs).Select(_ => new JobCounters(parts.Targets.Length))];
        _totals = new RangeResult(default, parts.Targets.Length);
        _started = parts.Clock.GetTimestamp();
        _evidenceSaved = _started;
    }

    /// <summary>How the campaign stands. May be asked from any thread at any time.</summary>
    public CampaignProgress Progress
    {
        get
        {
            Seen seen = _seen;
            long cases = _counters.Sum(c => c.Cases);
            return new CampaignProgress(
                Elapsed,
                cases,
                seen.Comparable,
                seen.Unsupported,
                seen.HarnessErrors,
                seen.New,
                seen.Known,
                seen.Explained,
                seen.Findings,
                _ledger.Waiting,
                [.. Enumerable.Range(0, _parts.Targets.Length).Select(RateOf)]);

            double RateOf(int target) => cases / Math.Max(1e-9, _counters.Sum(c => c.TicksOf(target)) / (double)Stopwatch.Frequency);
        }
    }

    private TimeSpan Elapsed => _parts.Clock.GetElapsedTime(_started);

    /// <summary>Runs the campaign to its end.</summary>
    /// <param name="cancel">Ends it early; everything found so far is examined, though less thoroughly minimised, and saved.</param>
    public CampaignSummary Run(CancellationToken cancel)
    {
        using CancellationTokenRegistration registration = cancel.Register(Stop);
        using TriageDesk desk = new(_options, _parts, cancel);
        using JournalKeeper journal = new(_options, _parts.JournalPath);
        BeginGuide();
        Thread[] jobs = [.. Enumerable.Range(0, _options.Jobs).Select(job => StartJob(job, journal))];
        try
        {
            TakeResults(desk, journal);
        }
        catch (Exception e)
        {
            Fail(e);
            while (_ledger.Take() is not null)
            {
                // Jobs end at once; their results are of no use without triage.
            }
        }

        foreach (Thread job in jobs)
        {
            job.Join();
        }

        desk.Finish();
        if (_failure is null)
        {
            journal.End();
        }

        CampaignEvidence evidence = Evidence();
        SaveEvidence(evidence);
        return Summarise(desk, evidence, journal.Troubles, cancel.IsCancellationRequested);
    }

    private void TakeResults(TriageDesk desk, JournalKeeper journal)
    {
        while (_ledger.Take() is RangeResult result)
        {
            _totals.Add(result);
            foreach (Suspicion suspicion in result.Suspicions)
            {
                desk.Take(suspicion);
                Publish(desk);
            }

            Publish(desk);
            if (result.Complete)
            {
                journal.Done(_ledger.StartAfter(result.Range));
            }

            if (_parts.Clock.GetElapsedTime(_evidenceSaved) >= EvidenceInterval)
            {
                SaveEvidence(Evidence());
            }
        }
    }

    private CampaignEvidence Evidence() =>
        _totals.Evidence.ToEvidence(_infos?.Infos ?? [], _infos?.Rules ?? []) with
        {
            Cases = _totals.Cases,
            Comparable = _totals.Comparable,
            Progress = _guide?.Samples ?? [],
        };

    private void SaveEvidence(CampaignEvidence evidence)
    {
        try
        {
            _evidenceSaved = _parts.Clock.GetTimestamp();
            _parts.SaveEvidence?.Invoke(evidence);
            SaveCorpus();
            _evidenceTrouble = null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _evidenceTrouble = $"evidence about rules and masks, or the corpus, was not saved: {e.Message}";
        }
    }

    /// <summary>Runs the starting corpus, so that every range knows it.</summary>
    private void BeginGuide()
    {
        if (_parts.Guide is not GuideParts guide)
        {
            return;
        }

        using Scout scout = MakeScout(_parts.Targets.Length, _parts.Analyst().VendorOf);
        CaseGuide corpus = new(guide.Options, scout.Model.Rules.Length, _parts.Targets.Length);
        scout.Begin(corpus.ViewFor(0));
        foreach (TestCase testCase in guide.Corpus)
        {
            scout.Look(testCase);
        }

        corpus.Begin(scout.End().Candidates);
        _guide = corpus;
    }

    private Scout MakeScout(int targets, Func<TestCase, CpuVendor> vendorOf)
    {
        return new Scout(_options.Seed, _parts.Guide!, targets, vendorOf(_parts.Source().Generate(0)), _parts.Allowed);
    }

    private void SaveCorpus()
    {
        if (_guide is not null && _parts.Guide?.Save is Action<IReadOnlyList<TestCase>> save)
        {
            save(_guide.TakeUnsaved());
        }
    }

    private Thread StartJob(int job, JournalKeeper journal)
    {
        // Handlers of a model recurse little, but a generous stack costs address space only.
        Thread thread = new(() => RunJob(job, journal), maxStackSize: 16 << 20) { Name = $"pvdf job {job}", IsBackground = true };
        thread.Start();
        return thread;
    }

    private void RunJob(int job, JournalKeeper journal)
    {
        try
        {
            using CaseRunner runner = CaseRunner.Create(_parts.Targets, _parts.Analyst());
            using Scout? scout = _guide is null ? null : MakeScout(runner.Infos.Length, runner.Analyst.VendorOf);
            using IRuleCounter? rules = scout is null ? _parts.Rules?.Invoke() : null;
            _infos ??= new TargetBox(runner.Infos, scout?.Model.Rules ?? rules?.Rules ?? []);
            journal.Open(runner.Infos.Select(i => i.Name));
            RangeWorker worker = new(_options, _parts, runner, scout is null ? rules : scout.Model, _counters[job], scout);
            while (_ledger.TryHand(out long number, out CaseRange range))
            {
                RangeResult? result = null;
                try
                {
                    journal.Running(job, range);
                    scout?.Begin(_guide!.ViewFor(number));
                    result = worker.Run(range, MustStop);
                }
                finally
                {
                    if (scout is not null)
                    {
                        _guide!.Submit(number, scout.End());
                    }

                    // Triage waits for this number, whatever happened.
                    _ledger.Submit(number, result ?? new RangeResult(range, _parts.Targets.Length));
                }
            }
        }
        catch (Exception e)
        {
            Fail(e);
        }
        finally
        {
            _ledger.JobEnded();
        }
    }

    private bool MustStop()
    {
        if (_options.Duration is TimeSpan duration && Elapsed >= duration)
        {
            Stop();
        }

        return _ledger.Stopped;
    }

    private void Fail(Exception e)
    {
        Interlocked.CompareExchange(ref _failure, e, null);
        Stop();
    }

    private void Stop()
    {
        _ledger.Stop();
        _guide?.Stop();
    }

    private void Publish(TriageDesk desk) => _seen = new Seen(
        _totals.Comparable,
        _totals.Unsupported,
        _totals.HarnessErrors,
        desk.New + _totals.Unexamined,
        _totals.Known.Total + desk.Known.Total,
        _totals.Undefined + desk.Explained,
        desk.NewSignatures);

    private CampaignSummary Summarise(TriageDesk desk, CampaignEvidence evidence, IEnumerable<string> troubles, bool cancelled)
    {
        BoundedCounts known = new(BoundedCounts.Unbounded);
        foreach (KnownEntry entry in _parts.Known.Entries)
        {
            known.Add(entry.Id, 0);
        }

        known.Add(_totals.Known);
        known.Add(desk.Known);
        ImmutableArray<TargetInfo> infos = _infos?.Infos ?? [];
        return new CampaignSummary
        {
            Seed = _options.Seed,
            Shard = _options.Shard,
            Cases = _totals.Cases,
            Skipped = _totals.Skipped,
            Comparable = _totals.Comparable,
            Unsupported = _totals.Unsupported,
            HarnessErrors = _totals.HarnessErrors,
            BudgetSpent = _totals.BudgetSpent,
            Masked = _totals.Masked,
            New = desk.New + _totals.Unexamined,
            Known = known.Total,
            Explained = _totals.Undefined + desk.Explained,
            Unexamined = _totals.Unexamined,
            RanAgain = _totals.RanAgain,
            KnownMatches = known.ToImmutable(),
            MaskRows = _totals.MaskRows.ToImmutable(),
            Evidence = evidence,
            Signatures = desk.Signatures,
            Targets = [.. infos.Select((info, i) => Summarise(info, _totals.Targets[i]))],
            CaseDigest = _totals.CaseDigest,
            Elapsed = Elapsed,
            Troubles = [.. troubles, .. desk.Troubles, .. _evidenceTrouble is null ? (string[])[] : [_evidenceTrouble]],
            Failure = _failure,
            Cancelled = cancelled,
        };
    }

    private static TargetSummary Summarise(TargetInfo info, TargetTally tally) => new(
        info,
        Enum.GetValues<EndKind>().ToImmutableDictionary(k => k, k => tally.Ends[(int)k]),
        tally.Ticks / (double)Stopwatch.Frequency,
        tally.Digest,
        tally.Reasons.ToImmutable());

    private sealed record Seen(long Comparable, long Unsupported, long HarnessErrors, long New, long Known, long Explained, int Findings);

    private sealed record TargetBox(ImmutableArray<TargetInfo> Infos, ImmutableArray<RuleName> Rules);
}
