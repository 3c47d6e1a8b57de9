using System.Text;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Writes what recordings show of a specification as a page in Markdown. The same recordings give the same page.</summary>
internal static class ConformancePage
{
    /// <summary>Writes the page.</summary>
    /// <param name="conformance">What the recordings show.</param>
    /// <param name="known">The known entries, for clauses and reasons.</param>
    public static string Write(Conformance conformance, KnownSet known)
    {
        StringBuilder page = new();
        page.Append("# Conformance of observed hosts\n\n");
        page.Append("`pvdf report conformance` wrote this page from the recordings under `corpus/recordings/`; run it again instead of editing.\n\n");
        page.Append("A clause *agrees* in a recording that executes one of its rules in the model when no known departure from it shows there: all that was recorded is as the model has it, other departures aside.\n");
        page.Append("Numbers count recordings. A clause that only an instruction's manual states is not listed.\n\n");
        Hosts(page, conformance);
        foreach (Abi abi in conformance.Hosts.Select(host => host.Abi).Distinct().Order())
        {
            Clauses(page, conformance, abi);
        }

        Departures(page, conformance, known);
        NotComparable(page, conformance);
        return page.ToString();
    }

    private static void Hosts(StringBuilder page, Conformance conformance)
    {
        page.Append("## Hosts\n\n| host | ABI | recordings | agree | known departures | not comparable | unmatched |\n| --- | --- | --- | --- | --- | --- | --- |\n");
        foreach (ObservedHost host in conformance.Hosts)
        {
            int Count(ReplayStatus status) => conformance.Cases.GetValueOrDefault((host, status));
            int all = Enum.GetValues<ReplayStatus>().Sum(Count);
            int unmatched = all - Count(ReplayStatus.Agree) - Count(ReplayStatus.Known) - Count(ReplayStatus.Unsupported);
            page.Append($"| {host.Name} | {host.Abi.Text()} | {all} | {Count(ReplayStatus.Agree)} | {Count(ReplayStatus.Known)} | {Count(ReplayStatus.Unsupported)} | {unmatched} |\n");
        }

        page.Append('\n');
        foreach (string unmatched in conformance.Unmatched)
        {
            page.Append($"* unmatched: {Escaped(unmatched)}\n");
        }
    }

    private static void Clauses(StringBuilder page, Conformance conformance, Abi abi)
    {
        ObservedHost[] hosts = [.. conformance.Hosts.Where(host => host.Abi == abi)];
        page.Append($"## Clauses: {abi.Text()}\n\n| document | clause | {string.Join(" | ", hosts.Select(host => host.Name))} |\n| --- | --- |{string.Concat(hosts.Select(_ => " --- |"))}\n");
        foreach (SpecClause clause in Conformance.ClausesOf(abi))
        {
            page.Append($"| {clause.Document} | {Escaped(clause.Section)} | {string.Join(" | ", hosts.Select(host => Cell(conformance.Of(host, clause))))} |\n");
        }

        page.Append('\n');
    }

    private static string Cell(ClauseEvidence? evidence)
    {
        if (evidence is null)
        {
            return "not exercised";
        }

        string agrees = evidence.Agree > 0 ? $"agrees {evidence.Agree}" : "";
        string departs = string.Join(", ", evidence.Departures.Select(departure => $"`{departure.Key}` {departure.Value}"));
        return departs.Length == 0 ? agrees : agrees.Length == 0 ? $"departs: {departs}" : $"{agrees}; departs: {departs}";
    }

    private static void Departures(StringBuilder page, Conformance conformance, KnownSet known)
    {
        page.Append($"## Departures\n\n| known entry | kind | clause | what | {string.Join(" | ", conformance.Hosts.Select(host => host.Name))} |\n| --- | --- | --- | --- |{string.Concat(conformance.Hosts.Select(_ => " --- |"))}\n");
        foreach ((string id, Dictionary<ObservedHost, int> counts) in conformance.Departures)
        {
            KnownEntry entry = known.Entries.First(e => e.Id == id);
            string cells = string.Join(" | ", conformance.Hosts.Select(host => counts.TryGetValue(host, out int count) ? $"{count}" : ""));
            page.Append($"| `{id}` | {entry.Kind.ToString().ToLowerInvariant()} | {Escaped(entry.Clause)} | {Escaped(entry.Reason)} | {cells} |\n");
        }

        page.Append('\n');
    }

    private static void NotComparable(StringBuilder page, Conformance conformance)
    {
        page.Append("## Not comparable\n\nWhat the model has no answer to, because the documents give none or because it lacks the instruction. The recordings are kept for other targets.\n\n");
        page.Append("| reason | recordings | cases |\n| --- | --- | --- |\n");
        foreach ((string reason, List<string> ids) in conformance.NotComparable)
        {
            page.Append($"| {Escaped(reason)} | {ids.Count} | {string.Join(", ", ids)} |\n");
        }
    }

    private static string Escaped(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);
}
