using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>What hosts of a system were observed to do, against the model of its specification: everything agrees or is described by an entry of its clause, and nothing else would be.</summary>
/// <param name="folder">Folder of <c>corpus/recordings</c>.</param>
/// <param name="create">Makes the model.</param>
/// <param name="notComparable">Recordings that the model has no answer to; the page on conformance has the reasons.</param>
/// <param name="fewestAgree">At least so many agree without a known departure.</param>
/// <param name="fewestFlips">At least so many changes are tried.</param>
public abstract class RecordingTests(string folder, Func<ITarget> create, int notComparable, int fewestAgree, int fewestFlips)
{
    private readonly ImmutableArray<CaseFile> _files =
        [.. Directory.GetFiles(Checkout.PathOf("corpus", "recordings", folder), "*.case", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(CaseFile.Read)];

    [Fact]
    public void EveryRecordingAgreesOrIsKnown()
    {
        Dictionary<ReplayStatus, int> counts = [];
        List<string> failures = [];
        using CaseRunner runner = Runner();
        Replay replay = new(runner, Known());
        foreach (CaseFile file in _files)
        {
            ReplayResult result = replay.Run(file.Id, file);
            counts[result.Status] = counts.GetValueOrDefault(result.Status) + 1;
            if (result.Status is not (ReplayStatus.Agree or ReplayStatus.Known or ReplayStatus.Unsupported))
            {
                failures.Add($"{file.Id}: {result.Status}: {result.Message}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.Equal(notComparable, counts[ReplayStatus.Unsupported]);
        Assert.Equal(_files.Length - notComparable, counts[ReplayStatus.Agree] + counts[ReplayStatus.Known]);
        Assert.InRange(counts[ReplayStatus.Agree], fewestAgree, _files.Length);
    }

    /// <summary>
    /// A recording that is changed in one field no longer comes out as stored: unless the field is one that an entry lists and the change keeps its conditions, or the model does not state it, or the
    /// manual leaves it undefined, or the guest is dead in the model.
    /// </summary>
    [Fact]
    public void AChangedFieldIsNoticed()
    {
        KnownSet known = Known();
        using CaseRunner runner = Runner();
        Replay replay = new(runner, known);
        List<string> unnoticed = [];
        Dictionary<string, int> allowed = [];
        int flips = 0;
        foreach (CaseFile file in _files)
        {
            ReplayResult before = replay.Run(file.Id, file);
            if (before.Status == ReplayStatus.Unsupported)
            {
                continue;
            }

            Outcome model = runner.Examine(file.Case).Outcomes[0];
            CaseMask mask = runner.Analyst.WidestMask(file.Case);
            string[] listed = [.. known.Entries.Where(e => before.KnownIds.Contains(e.Id, StringComparer.Ordinal)).SelectMany(e => e.Fields)];
            foreach ((string field, Outcome changed) in Flips.Of(file.Case, file.Outcomes[0].Outcome))
            {
                flips++;
                ReplayResult after = replay.Run(file.Id, file with { Outcomes = [file.Outcomes[0] with { Outcome = changed }] });
                if (after.Status == ReplayStatus.Changed)
                {
                    continue;
                }

                string why = Excuse(field, model, mask, listed);
                if (why.Length == 0)
                {
                    unnoticed.Add($"{file.Id}: {field} ({before.Known ?? "agrees"})");
                }
                else
                {
                    allowed[why] = allowed.GetValueOrDefault(why) + 1;
                }
            }
        }

        Assert.True(unnoticed.Count == 0, string.Join('\n', unnoticed.Take(50).Append($"{unnoticed.Count} of {flips} unnoticed; allowed {string.Join(", ", allowed)}")));
        Assert.True(flips > fewestFlips, $"{flips} changes were tried");
        Assert.True(allowed.Values.Sum() * 50 < flips, $"{string.Join(", ", allowed)} of {flips}");
    }

    private static string Excuse(string field, Outcome model, CaseMask mask, string[] listed)
    {
        if (field.StartsWith("sys.", StringComparison.Ordinal) && !model.System.Values.Any(v => field == $"sys.{v.Key.Text()}"))
        {
            return "not stated";
        }

        int flag = field.Contains("flags.", StringComparison.Ordinal) ? Field.Flags.ToList().IndexOf(field[(field.LastIndexOf('.') + 1)..]) : -1;
        return flag >= 0 && (mask.Rflags >> flag & 1) != 0 ? "undefined"
            : model.End == EndKind.Crash && listed.Contains("end", StringComparer.Ordinal) && field != "end" ? "dead in the model"
            : listed.Contains(field, StringComparer.Ordinal) || listed.Contains($"event.{field}", StringComparer.Ordinal) ? "listed"
            : "";
    }

    private static KnownSet Known() => KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));

    private CaseRunner Runner() => new([create()], CaseAnalyst.For((ITracer)create(), CpuVendor.Amd));
}
