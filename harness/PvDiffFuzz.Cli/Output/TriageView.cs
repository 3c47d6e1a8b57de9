using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Spectre.Console;

namespace PvDiffFuzz.Cli.Output;

/// <summary>The result of a triage, for programs and for people. docs/triage.md lists the keys.</summary>
/// <param name="report">The result.</param>
/// <param name="hosts">The recordings with the processors of their hosts.</param>
internal sealed class TriageView(HostTriageReport report, ImmutableArray<(string Path, CpuProfile? Host)> hosts)
{
    /// <summary>Shapes it for <c>--json</c>.</summary>
    public object ForPrograms() => new
    {
        cases = report.Cases,
        compared = report.Compared,
        agree = report.Agree,
        masked = report.Masked,
        notCompared = report.NotCompared,
        incomplete = report.Incomplete,
        unsupported = report.Sides.Sum(side => side.Count(EndKind.Unsupported)),
        harnessErrors = report.Sides.Sum(side => side.Count(EndKind.HarnessError)),
        cancelled = report.Cancelled,
        divergences = new { @new = report.New, known = report.Known, explained = report.Explained },
        targets = report.Sides.Select(side => new
        {
            name = side.Info.Name,
            source = side.Source,
            kind = side.Info.Kind,
            lineage = side.Info.Lineage,
            fingerprint = side.Info.Fingerprint.ToString(),
            facts = side.Info.Fingerprint.Facts.ToDictionary(f => f.Key, f => f.Value, StringComparer.Ordinal),
            comparable = side.Comparable,
            unsupported = side.Count(EndKind.Unsupported),
            budgetSpent = side.Count(EndKind.BudgetSpent),
            harnessErrors = side.Count(EndKind.HarnessError),
            missing = side.Missing,
            reasons = side.Reasons,
        }),
        differingFacts = Facts.Where(f => f.Differs).Select(f => f.Name),
        differingProcessors = ProcessorDifferences(),
        groups = report.Groups.Select(group => new
        {
            signature = group.Signature.ToString(),
            verdict = group.Verdict.ToString(),
            count = group.Count,
            cases = group.Cases,
            instruction = group.Cut.Instruction.Form,
            camps = Camps(group),
            dissenters = group.Dissenters,
            fields = group.Cut.Comparison.Differences.Select(d => new { field = d.Field.ToString(), values = d.Values }),
            clauses = Clauses(group),
        }),
        knownMatches = report.KnownMatches,
    };

    /// <summary>Prints it for a person.</summary>
    public void Print()
    {
        foreach (SideSummary side in report.Sides)
        {
            Console.WriteLine(
                $"side    {side.Info.Name} ({side.Source ?? "live"}): {side.Comparable} comparable, {side.Count(EndKind.Unsupported)} unsupported, {side.Count(EndKind.BudgetSpent)} budget spent, "
                + $"{side.Count(EndKind.HarnessError)} harness errors, {side.Missing} missing");
        }

        PrintFacts();
        foreach (string difference in ProcessorDifferences())
        {
            Console.WriteLine($"hosts   {difference}");
        }

        foreach (TriageGroup group in report.Groups.Where(g => g.Verdict.Kind == VerdictKind.New))
        {
            PrintGroup(group);
        }

        foreach (TriageGroup group in report.Groups.Where(g => g.Verdict.Kind is VerdictKind.NonDeterministic or VerdictKind.StateLeak or VerdictKind.HarnessFault))
        {
            Console.WriteLine($"{group.Verdict}: {Count(group.Count)} ({string.Join(", ", group.Cases)})");
        }

        SummaryView.PrintKnown(report.KnownMatches.Where(match => match.Value > 0));
        int signatures = report.Groups.Count(g => g.Verdict.Kind == VerdictKind.New);
        Console.WriteLine($"{Count(report.Cases)}: {report.Agree} agree ({report.Masked} of them under a mask), {report.New} new in {signatures} signatures, {report.Known} known, {report.Explained} explained");
        Console.WriteLine($"{report.NotCompared} not compared, {report.Incomplete} without an answer of every side{(report.Cancelled ? "; stopped by request" : string.Empty)}");
    }

    private void PrintGroup(TriageGroup group)
    {
        Comparison comparison = group.Cut.Comparison;
        Console.WriteLine($"new     {group.Signature}: {Count(group.Count)} ({string.Join(", ", group.Cases)}{(group.Count > group.Cases.Length ? ", ..." : string.Empty)})");
        Console.WriteLine($"        camps   {string.Join(" | ", Camps(group).Select(camp => string.Join(" = ", camp)))}");
        foreach (FieldDifference difference in comparison.Differences)
        {
            Console.WriteLine($"        {difference.Field}  {string.Join(" | ", difference.Values)}");
        }

        if (!group.Dissenters.IsEmpty)
        {
            Console.WriteLine($"        dissenter  {string.Join(", ", group.Dissenters)}");
        }

        foreach (string clause in Clauses(group))
        {
            Console.WriteLine($"        clause  {clause}");
        }
    }

    private void PrintFacts()
    {
        Table table = new Table().Border(TableBorder.Simple).AddColumn(string.Empty);
        foreach (SideSummary side in report.Sides)
        {
            table.AddColumn(new TableColumn(new Text(side.Info.Name)));
        }

        foreach ((string name, ImmutableArray<string?> values, bool differs) in Facts)
        {
            Style style = differs ? new Style(Color.Red, decoration: Decoration.Bold) : Style.Plain;
            table.AddRow([new Text(differs ? $"{name} *" : name), .. values.Select(value => new Text(value ?? "-", style))]);
        }

        AnsiConsole.Write(table);
    }

    /// <summary>Every fact that some side states, with the value of each side; it differs when two sides state different values.</summary>
    private IEnumerable<(string Name, ImmutableArray<string?> Values, bool Differs)> Facts =>
        report.Sides.SelectMany(side => side.Info.Fingerprint.Facts.Select(f => f.Key)).Distinct(StringComparer.Ordinal).Select(name =>
        {
            ImmutableArray<string?> values =
                [.. report.Sides.Select(side => side.Info.Fingerprint.Facts.Where(f => f.Key == name).Select(f => f.Value).FirstOrDefault())];
            return (name, values, values.OfType<string>().Distinct(StringComparer.Ordinal).Skip(1).Any());
        });

    private static IEnumerable<IEnumerable<string>> Camps(TriageGroup group) =>
        group.Cut.Comparison.Camps.Select(camp => camp.Members.Select(member => group.Cut.Targets[member].Name));

    private static IEnumerable<string> Clauses(TriageGroup group) =>
        Session.RulesOf(group.Signature.Abi, group.Cut.Instruction).Select(rule => $"{rule.Document} {rule.Section}").Distinct(StringComparer.Ordinal);

    /// <summary>What differs between the processors of the recordings, one line each, as <c>vendor: a.rec Amd, b.rec Intel</c>.</summary>
    private IEnumerable<string> ProcessorDifferences()
    {
        (string Path, CpuProfile Host)[] known = [.. hosts.Where(h => h.Host is not null).Select(h => (h.Path, h.Host!))];
        (string Name, Func<CpuProfile, string> Value)[] parts =
        [
            ("vendor", host => host.Vendor.ToString()),
            ("family", host => host.Family.ToString()),
            ("linear bits", host => host.LinearBits.ToString()),
            ("gates", host => string.Join(' ', host.UserGates.Order())),
            ("GDT limit", host => host.GdtLimit.ToString("x")),
            ("descriptors", host => string.Join(' ', host.Descriptors.Select(d => $"{d.Index}:{d.Type:x}"))),
            ("features", host => string.Join(' ', host.Features.Except(known.Select(k => k.Host.Features).Aggregate((a, b) => a.Intersect(b))))),
        ];
        return known.Length < 2 ? [] : parts
            .Where(part => known.Select(k => part.Value(k.Host)).Distinct(StringComparer.Ordinal).Skip(1).Any())
            .Select(part => $"{part.Name}: {string.Join(", ", known.Select(k => $"{Path.GetFileName(k.Path)} {(part.Value(k.Host) is { Length: > 0 } value ? value : "none")}"))}");
    }

    private static string Count(long cases) => cases == 1 ? "1 case" : $"{cases} cases";
}
