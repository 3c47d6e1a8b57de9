using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A signature as it stands.</summary>
/// <param name="Signature">The signature.</param>
/// <param name="Verdict">How it was judged.</param>
/// <param name="Index">Index of the first case that showed it.</param>
/// <param name="Count">Diverging cases.</param>
/// <param name="Finding">The minimised case; null for what was explained away.</param>
/// <param name="Path">Where the finding is stored, or null.</param>
public sealed record TriagedSignature(Signature Signature, Verdict Verdict, ulong Index, long Count, Finding? Finding, string? Path);

/// <summary>Judges suspicions in index order: one signature is doubted, minimised and saved once, and counted from then on.</summary>
internal sealed class TriageDesk : IDisposable
{
    // A signature that was explained away is doubted anew a few times: a real divergence may share it.
    private const int MostExaminations = 4;

    /// <summary>Most cases that ran before a suspicious one and are run again with it.</summary>
    public const int MostNeighbours = 48;

    private readonly CampaignOptions _options;
    private readonly CampaignParts _parts;
    private readonly CancellationToken _cancel;
    private readonly Minimiser _minimiser;
    private readonly Dictionary<(Signature, bool), Entry> _entries = [];
    private readonly List<Entry> _order = [];
    private CaseRunner? _runner;
    private ICaseSource? _source;

    /// <summary>Makes a desk; its targets are made when first needed.</summary>
    public TriageDesk(CampaignOptions options, CampaignParts parts, CancellationToken cancel)
    {
        (_options, _parts, _cancel) = (options, parts, cancel);
        _minimiser = new Minimiser(parts.Reductions, parts.MinimiserLimits, parts.Allowed);
    }

    /// <summary>Diverging cases that nothing explains.</summary>
    public long New { get; private set; }

    /// <summary>Diverging cases that a known entry describes.</summary>
    public BoundedCounts Known { get; } = new(BoundedCounts.Unbounded);

    /// <summary>Diverging cases that were explained away.</summary>
    public long Explained { get; private set; }

    /// <summary>Trouble with saving or with making targets; at most a few lines.</summary>
    public List<string> Troubles { get; } = [];

    /// <summary>Number of signatures judged as new.</summary>
    public int NewSignatures => _order.Count(e => e.Verdict.Kind == VerdictKind.New);

    /// <summary>All signatures, in the order of their first cases.</summary>
    public ImmutableArray<TriagedSignature> Signatures =>
        [.. _order.Select(e => new TriagedSignature(e.Signature, e.Verdict, e.Index, e.Count, e.Finding, e.Path))];

    /// <summary>Takes the next suspicion in index order.</summary>
    public void Take(Suspicion suspicion)
    {
        (Signature, bool) key = (suspicion.Divergence.Signature, suspicion.CameBack);
        if (!_entries.TryGetValue(key, out Entry? entry))
        {
            if (_entries.Count >= _options.MaximumSignatures)
            {
                New += suspicion.Count;
                return;
            }

            entry = new Entry(key.Item1, suspicion.Index);
            _entries.Add(key, entry);
            _order.Add(entry);
        }

        bool again = entry.Examined > 0 && entry.Examined < MostExaminations && (entry.Verdict.IsExplained || entry.Finding?.Instructions > 2);
        if (entry.Examined == 0 || again)
        {
            entry.Examined++;
            Examine(entry, suspicion);
        }

        entry.Count += suspicion.Count;
        Add(entry.Verdict, suspicion.Count);
    }

    /// <summary>Saves again what could not be saved before.</summary>
    public void Finish()
    {
        foreach (Entry entry in _order.Where(e => e.Unsaved))
        {
            Save(entry);
        }

        Troubles.AddRange(_order.Where(e => e.Unsaved).Select(e => e.Problem!).Take(8));
    }

    /// <inheritdoc/>
    public void Dispose() => _runner?.Dispose();

    private void Add(Verdict verdict, long count)
    {
        if (verdict.Kind == VerdictKind.New)
        {
            New += count;
        }
        else if (verdict.IsKnown)
        {
            foreach (string id in verdict.KnownIds)
            {
                Known.Add(id, count);
            }
        }
        else
        {
            Explained += count;
        }
    }

    private void Examine(Entry entry, Suspicion suspicion)
    {
        try
        {
            _runner ??= Fresh();
        }
        catch (TargetUnavailableException e)
        {
            entry.Verdict = new Verdict(VerdictKind.HarnessFault, $"no targets for triage: {e.Message}");
            Troubles.Add($"{entry.Verdict}; {e.Cure}");
            return;
        }

        // What an entry describes needs no smaller case, and no fresh target to tell whether it is the target's own.
        Divergence smallest = suspicion.Divergence;
        ImmutableArray<int> known = suspicion.CameBack ? Describe(smallest) : [];
        if (known.IsEmpty)
        {
            Suspect suspect = new() { Divergence = smallest, Runner = _runner, Fresh = Fresh, Neighbours = NeighboursOf(suspicion) };
            if ((Doubts.FirstExplanation(_parts.Doubts, suspect) ?? Vanished(suspicion)) is Verdict explained)
            {
                if (entry.Finding is null)
                {
                    entry.Verdict = explained;
                }

                return;
            }

            // What did not come back in its range has never been described.
            known = suspicion.CameBack ? [] : Describe(smallest);
        }

        if (known.IsEmpty)
        {
            smallest = Minimise(smallest);
            known = Describe(smallest);
        }

        entry.Verdict = _parts.Known.VerdictOf(known);
        if (entry.Verdict.Kind == VerdictKind.New && (entry.Finding is null || CaseSize.Compare(smallest.Case, entry.Finding.Divergence.Case) < 0))
        {
            entry.Finding = new Finding { Signature = entry.Signature, Verdict = entry.Verdict, Divergence = smallest, Seed = _options.Seed, Index = suspicion.Index };
            Save(entry);
        }
    }

    private ImmutableArray<int> Describe(Divergence smallest) => new Description(_parts.Known, _runner!, _parts.Allowed).Of(smallest);

    // Every target may be steady by itself and yet the divergence gone: then it was the state of one instance, or of one moment.
    private Verdict? Vanished(Suspicion suspicion) =>
        _runner!.Examine(suspicion.Divergence.Case).Diverges ? null
        : suspicion.CameBack ? new Verdict(VerdictKind.StateLeak, "diverges only on the targets that ran the cases before it")
        : new Verdict(VerdictKind.NonDeterministic, "seen once and never again");

    private Divergence Minimise(Divergence divergence)
    {
        Divergence smallest = _minimiser.Minimise(divergence, _runner!, _cancel).Divergence;
        if (ReferenceEquals(smallest, divergence))
        {
            return divergence;
        }

        // What is saved must hold up like what was found.
        Suspect suspect = new() { Divergence = smallest, Runner = _runner!, Fresh = Fresh };
        return Doubts.FirstExplanation(_parts.Doubts, suspect) is null ? smallest : divergence;
    }

    private CaseRunner Fresh() => CaseRunner.Create(_parts.Targets, _parts.Analyst());

    private ImmutableArray<TestCase> NeighboursOf(Suspicion suspicion)
    {
        if (!suspicion.Neighbours.IsDefault)
        {
            return suspicion.Neighbours;
        }

        _source ??= _parts.Source();
        ulong index = suspicion.Index;
        const ulong most = MostNeighbours;
        ulong first = index - Math.Min(most, index - Math.Min(index, _options.Start));
        ImmutableArray<TestCase>.Builder neighbours = ImmutableArray.CreateBuilder<TestCase>();
        for (ulong i = first; i < index; i++)
        {
            neighbours.Add(_source.Generate(i));
        }

        return neighbours.ToImmutable();
    }

    private void Save(Entry entry)
    {
        if (_parts.Store is not null && entry.Finding is not null)
        {
            StoreResult result = _parts.Store.Save(entry.Finding);
            entry.Path = result.Path ?? entry.Path;
            entry.Problem = result.Problem;
        }
    }

    private sealed class Entry(Signature signature, ulong index)
    {
        public Signature Signature { get; } = signature;

        public ulong Index { get; } = index;

        public Verdict Verdict { get; set; } = Verdict.New;

        public long Count { get; set; }

        public int Examined { get; set; }

        public Finding? Finding { get; set; }

        public string? Path { get; set; }

        public string? Problem { get; set; }

        public bool Unsaved => Problem is not null;
    }
}
