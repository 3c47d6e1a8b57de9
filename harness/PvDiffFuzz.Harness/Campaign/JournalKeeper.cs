namespace PvDiffFuzz.Harness;

/// <summary>A campaign's journal, or none. Trouble with it never ends a campaign: it goes on without and says so.</summary>
/// <param name="options">What the journal's header says.</param>
/// <param name="path">Where, or null for no journal.</param>
internal sealed class JournalKeeper(CampaignOptions options, string? path) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<string> _troubles = [];
    private Journal? _journal;
    private bool _opened;

    /// <summary>What went wrong, at most two lines.</summary>
    public IReadOnlyList<string> Troubles => _troubles;

    /// <summary>Starts the journal; calls after the first do nothing.</summary>
    public void Open(IEnumerable<string> targets)
    {
        lock (_gate)
        {
            if (_opened || path is null)
            {
                return;
            }

            _opened = true;
            Try(() => _journal = new Journal(path, options, targets));
        }
    }

    /// <summary>Tells that a job is about to run a range.</summary>
    public void Running(int job, CaseRange range) => Use(j => j.Running(job, range));

    /// <summary>Tells that all cases below an index are done.</summary>
    public void Done(ulong next) => Use(j => j.Done(next));

    /// <summary>Tells that the campaign ended by itself.</summary>
    public void End() => Use(j => j.End());

    /// <inheritdoc/>
    public void Dispose() => _journal?.Dispose();

    private void Use(Action<Journal> use)
    {
        lock (_gate)
        {
            if (_journal is Journal journal)
            {
                Try(() => use(journal));
            }
        }
    }

    private void Try(Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _journal?.Dispose();
            _journal = null;
            _troubles.Add($"no journal: {e.Message}; a crash of the host will not name its cases");
        }
    }
}
