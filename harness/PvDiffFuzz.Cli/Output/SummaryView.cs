using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>The result of a campaign, for programs and for people.</summary>
internal static class SummaryView
{
    // Rows that name an instruction instead of a row of the table.
    private const string Consumer = "read by ";

    /// <summary>Shapes it as design's <c>fuzz --json</c>.</summary>
    public static object Of(CampaignSummary summary) => new
    {
        cases = summary.Cases,
        comparable = summary.Comparable,
        unsupported = summary.Unsupported,
        harnessErrors = summary.HarnessErrors,
        budgetSpent = summary.BudgetSpent,
        skipped = summary.Skipped,
        masked = summary.Masked,
        unexamined = summary.Unexamined,
        ranAgain = summary.RanAgain,
        divergences = new { @new = summary.New, known = summary.Known, explained = summary.Explained },
        findings = summary.Findings.Select(found => new
        {
            signature = found.Signature.ToString(),
            @case = found.Path,
            instructions = found.Finding?.Instructions,
            count = found.Count,
        }),
        knownMatches = summary.KnownMatches,
        maskRows = summary.MaskRows,
        caseDigest = summary.CaseDigest,
        guide = summary.Evidence.Progress.IsEmpty ? null : new { edges = summary.Evidence.Progress[^1].Edges, rules = summary.Evidence.Progress[^1].Rules, corpus = summary.Evidence.Progress[^1].Corpus },
        casesPerSecond = Math.Round(Rate(summary), 1),
        seconds = Math.Round(summary.Elapsed.TotalSeconds, 3),
        seed = summary.Seed,
        shard = summary.Shard.ToString(),
        targets = summary.Targets.Select(target => new
        {
            name = target.Info.Name,
            kind = target.Info.Kind,
            lineage = target.Info.Lineage,
            fingerprint = target.Info.Fingerprint.ToString(),
            casesPerSecond = Math.Round(target.Rate, 1),
            ends = target.Ends.OrderBy(end => end.Key).ToDictionary(end => end.Key.ToString(), end => end.Value, StringComparer.Ordinal),
            reasons = target.Reasons,
            outcomeDigest = target.Digest,
        }),
    };

    /// <summary>Prints it for a person.</summary>
    public static void Print(CampaignSummary summary, int forms)
    {
        Console.WriteLine($"seed {summary.Seed:x}, shard {summary.Shard}{(summary.Cancelled ? ", stopped by request" : string.Empty)}");
        Console.WriteLine($"{summary.Cases} cases in {summary.Elapsed.TotalSeconds:f1} s, {Rate(summary):f0} a second; {Percent(summary.Comparable, summary.Cases)} comparable; {forms} forms executed");
        Console.WriteLine($"unsupported {summary.Unsupported}, budget spent {summary.BudgetSpent}, harness errors {summary.HarnessErrors}, skipped {summary.Skipped}, ranges run again {summary.RanAgain}");
        if (!summary.Evidence.Progress.IsEmpty)
        {
            CoverageSample reached = summary.Evidence.Progress[^1];
            Console.WriteLine($"guided: {reached.Edges} edges and {reached.Rules} rules of the model, corpus of {reached.Corpus} cases");
        }

        foreach (TargetSummary target in summary.Targets)
        {
            Console.WriteLine($"target {target.Info.Name}: {target.Rate:f0} cases a second and job, digest {target.Digest:x16}  [{target.Info.Fingerprint}]");
            foreach ((string reason, long count) in target.Reasons.Where(reason => reason.Key.StartsWith(nameof(EndKind.HarnessError), StringComparison.Ordinal)))
            {
                Console.WriteLine($"trouble {target.Info.Name}: {reason}: {count}");
            }
        }

        Console.WriteLine($"divergences: new {summary.New}, known {summary.Known}, explained {summary.Explained}; masked bits alone: {summary.Masked}");
        PrintKnown(summary.KnownMatches);
        foreach ((string row, long count) in summary.MaskRows.Where(row => !row.Key.StartsWith(Consumer, StringComparison.Ordinal)).OrderByDescending(row => row.Value))
        {
            Console.WriteLine($"mask   {row}: {count}");
        }

        Console.WriteLine($"undefined bits were read by {summary.MaskRows.Where(row => row.Key.StartsWith(Consumer, StringComparison.Ordinal)).Sum(row => row.Value)} instructions, which explains what came after");
        foreach (TriagedSignature found in summary.Findings)
        {
            Console.WriteLine($"new    {found.Signature}: {found.Count} times, {found.Finding?.Instructions} instruction(s), {found.Path ?? "not saved"}");
        }
    }

    /// <summary>Prints how often each known entry matched; one that matched nothing may be out of date, so it shows, too.</summary>
    public static void PrintKnown(IEnumerable<KeyValuePair<string, long>> matches)
    {
        foreach ((string id, long count) in matches.OrderByDescending(pair => pair.Value).ThenBy(pair => pair.Key, StringComparer.Ordinal))
        {
            Console.WriteLine($"known  {id}: {(count > 0 ? count : "0, matched nothing here")}");
        }
    }

    private static double Rate(CampaignSummary summary) => summary.Cases / Math.Max(summary.Elapsed.TotalSeconds, 0.001);

    private static string Percent(long part, long whole) => whole == 0 ? "none" : $"{100.0 * part / whole:f2} %";
}
