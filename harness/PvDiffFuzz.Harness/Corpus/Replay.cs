using System.Collections.Immutable;
using System.Diagnostics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What replaying a stored case showed.</summary>
public enum ReplayStatus
{
    /// <summary>All comparable outcomes agree, as stored.</summary>
    Agree,

    /// <summary>The divergence that a known entry describes, as stored.</summary>
    Known,

    /// <summary>Stored as new and still diverging: an open finding.</summary>
    Open,

    /// <summary>The verdict or a target's answer is not what was stored. Better or worse, somebody must look.</summary>
    Changed,

    /// <summary>Fewer than two comparable outcomes, stored ones included: nothing was shown.</summary>
    Unsupported,

    /// <summary>The file could not be read, or our machinery failed.</summary>
    Failed,
}

/// <summary>One replayed case.</summary>
/// <param name="Path">The file.</param>
/// <param name="Status">What it showed.</param>
/// <param name="Message">One line that explains the status.</param>
/// <param name="Fields">Fields that differ between camps or from a target's stored answer.</param>
/// <param name="Seconds">Time taken.</param>
public sealed record ReplayResult(string Path, ReplayStatus Status, string Message, ImmutableArray<string> Fields, double Seconds)
{
    /// <summary>Id of the known entry that describes what the case shows now, ids of several that do so together, or null.</summary>
    public string? Known { get; init; }

    /// <summary>The ids of <see cref="Known"/>, one by one.</summary>
    public IEnumerable<string> KnownIds => Known?.Split(Verdict.Separator) ?? [];
}

/// <summary>
/// Runs stored cases again, each on those targets that run its ABI. Stored outcomes of targets that are not here take part in the comparison; those of targets that are here must come out
/// again.
/// </summary>
/// <param name="all">Targets at hand; owned by the caller.</param>
/// <param name="known">Described divergences.</param>
/// <param name="masksOf">Mask rows of a target that is not at hand, by name; null for none.</param>
public sealed class Replay(CaseRunner all, KnownSet known, Func<string, ImmutableArray<TargetMask>>? masksOf = null)
{
    private readonly Dictionary<Abi, CaseRunner> _byAbi = [];

    /// <summary>Replays files in the given order. A file that cannot be read is a result, too; one written by hand need not be canonical.</summary>
    public IEnumerable<ReplayResult> Run(IEnumerable<string> paths)
    {
        foreach (string path in paths)
        {
            CaseFile? file = null;
            string problem = "";
            try
            {
                file = CaseFile.Read(path, lenient: true);
            }
            catch (CaseFileException e)
            {
                problem = e.Message;
            }

            yield return file is null ? new ReplayResult(path, ReplayStatus.Failed, problem, [], 0) : Run(path, file);
        }
    }

    /// <summary>Replays one case.</summary>
    /// <param name="path">Name for the result.</param>
    /// <param name="file">The stored case.</param>
    public ReplayResult Run(string path, CaseFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        long start = Stopwatch.GetTimestamp();
        (ReplayStatus status, string message, ImmutableArray<string> fields, string? id) = Judge(file);
        return new ReplayResult(path, status, message, fields, Stopwatch.GetElapsedTime(start).TotalSeconds) { Known = id };
    }

    /// <summary>Judges a case as if it were stored now.</summary>
    /// <param name="file">A case with recorded outcomes; its own verdict does not matter.</param>
    /// <param name="comparable">Outcomes that can be compared, here and stored; with fewer than two there is no verdict.</param>
    /// <returns>The verdict to store, or null when all outcomes agree.</returns>
    public Verdict? VerdictOf(CaseFile file, out int comparable)
    {
        ArgumentNullException.ThrowIfNull(file);
        CaseRunner live = LiveOf(file.Case.Abi);
        return Compare(live, file, live.Examine(file.Case).Outcomes, out comparable) is Divergence divergence ? VerdictOf(divergence, live) : null;
    }

    private Verdict VerdictOf(Divergence divergence, CaseRunner live) => known.VerdictOf(known.Find(divergence, live.Analyst));

    private (ReplayStatus Status, string Message, ImmutableArray<string> Fields, string? Known) Judge(CaseFile file)
    {
        CaseRunner live = LiveOf(file.Case.Abi);
        ImmutableArray<Outcome> answers = live.Examine(file.Case).Outcomes;
        for (int i = 0; i < answers.Length; i++)
        {
            if (answers[i].End == EndKind.HarnessError)
            {
                return (ReplayStatus.Failed, $"{live.Infos[i].Name}: {answers[i].Detail}", [], null);
            }
        }

        if (FromStored(live, file, answers) is (string target, ImmutableArray<string> differing))
        {
            return (ReplayStatus.Changed, $"{target} no longer answers as stored: {string.Join(", ", differing)}", differing, null);
        }

        Divergence? divergence = Compare(live, file, answers, out int comparable);
        if (comparable < 2)
        {
            return (ReplayStatus.Unsupported, $"{comparable} comparable outcomes of {answers.Length} targets here and {file.Outcomes.Length} stored answers; two are needed", [], null);
        }

        Verdict? verdict = divergence is null ? null : VerdictOf(divergence, live);
        ImmutableArray<string> fields = divergence is null ? [] : [.. divergence.Comparison.Differences.Select(d => d.Field.ToString())];
        string stored = file.Verdict ?? "agree";
        string now = verdict?.ToString() ?? "agree";
        string? id = verdict is { IsKnown: true } ? verdict.Why : null;
        if (file.Verdict is null && id is not null && known.Entries.Where(e => verdict!.KnownIds.Contains(e.Id, StringComparer.Ordinal)).SelectMany(e => e.Targets).ToArray() is TargetPattern[] described
            && live.Infos.Any(info => described.Any(t => t.Matches(info)) && !file.Outcomes.Any(o => o.Target == info.Name)))
        {
            // The stored agreement says nothing of a target that was not there; what it does is described.
            return (ReplayStatus.Known, now, fields, id);
        }

        return stored != now ? (ReplayStatus.Changed, $"stored as '{stored}', now '{now}'", fields, id)
            : verdict is null ? (ReplayStatus.Agree, $"{comparable} outcomes agree", fields, id)
            : (id is null ? ReplayStatus.Open : ReplayStatus.Known, now, fields, id);
    }

    private CaseRunner LiveOf(Abi abi)
    {
        if (!_byAbi.TryGetValue(abi, out CaseRunner? live))
        {
            _byAbi[abi] = live = all.Only(abi);
        }

        return live;
    }

    // The same target here and in the file: one more comparison of two, under its own mask.
    private (string Target, ImmutableArray<string> Fields)? FromStored(CaseRunner live, CaseFile file, ImmutableArray<Outcome> answers)
    {
        foreach (RecordedOutcome stored in file.Outcomes)
        {
            int index = IndexOf(live, stored.Target);
            if (index >= 0)
            {
                Comparer comparer = new([live.Infos[index], live.Infos[index]], live.Analyst);
                Comparison comparison = comparer.Compare(file.Case, [answers[index], stored.Outcome]);
                if (comparison.Result == ComparisonResult.Divergence && !comparison.Consumed)
                {
                    return (stored.Target, [.. comparison.Differences.Select(d => d.Field.ToString())]);
                }
            }
        }

        return null;
    }

    private Divergence? Compare(CaseRunner live, CaseFile file, ImmutableArray<Outcome> answers, out int comparable)
    {
        RecordedOutcome[] absent = [.. file.Outcomes.Where(o => IndexOf(live, o.Target) < 0)];
        ImmutableArray<TargetInfo> infos =
        [
            .. live.Infos,
            .. absent.Select(o => new TargetInfo(RecordedTarget.Prefix + o.Target, TargetKind.Recording, o.Lineage, Capabilities.None, o.Fingerprint) { Masks = masksOf?.Invoke(o.Target) ?? [] }),
        ];
        ImmutableArray<Outcome> outcomes = [.. answers, .. absent.Select(o => o.Outcome)];
        Comparison comparison = new Comparer(infos, live.Analyst).Compare(file.Case, outcomes.AsSpan());
        comparable = comparison.Comparable;
        return comparison.Result == ComparisonResult.Divergence && !comparison.Consumed
            ? new Divergence(file.Case, outcomes, comparison, infos, InstructionAt.Find(file.Case, outcomes.AsSpan(), comparison.FirstEvent, live.Analyst))
            : null;
    }

    private static int IndexOf(CaseRunner live, string name)
    {
        for (int i = 0; i < live.Infos.Length; i++)
        {
            if (string.Equals(live.Infos[i].Name, name, StringComparison.Ordinal))
            {
                return i;
            }
        }

        return -1;
    }
}
