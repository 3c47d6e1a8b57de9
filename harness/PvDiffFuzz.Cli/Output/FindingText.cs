using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Writes a finding as a case file that explains itself.</summary>
internal static class FindingText
{
    // More would make a line that a case file cannot hold, and that nobody reads; the outcomes have them all.
    private const int MostFields = 16;

    /// <summary>The text of the file.</summary>
    /// <param name="finding">A minimised divergence.</param>
    /// <param name="host">Stored as the case's profile, so that the case means the same on another machine.</param>
    /// <param name="found">Where the case came from, when that was not the campaign of the finding.</param>
    public static string Of(Finding finding, CpuProfile host, string? found = null)
    {
        Divergence divergence = finding.Divergence;
        TestCase testCase = divergence.Case with { Profile = divergence.Case.Profile ?? host };
        return new CaseFile
        {
            Comment = Explain(divergence),
            Id = finding.Name,
            Spec = [.. Session.RulesOf(host, testCase, divergence.Instruction, divergence.Outcomes.AsSpan(), divergence.Comparison.FirstEvent).Select(Cite).Distinct(StringComparer.Ordinal)],
            Found = found ?? $"generator {Generator.Version} seed {finding.Seed:x}:{finding.Index}",
            Case = testCase,
            CodeComments = [.. Session.Disassemble(testCase).Select(instruction => instruction.Text)],
            Outcomes = Outcomes(divergence),
            Verdict = finding.Verdict.ToString(),
        }.Write();
    }

    private static ImmutableArray<RecordedOutcome> Outcomes(Divergence divergence) =>
    [
        .. divergence.Targets.Select((target, i) => new RecordedOutcome(target.Name, target.Kind, target.Lineage, target.Fingerprint, divergence.Outcomes[i])),
    ];

    private static string Explain(Divergence divergence)
    {
        IEnumerable<string> camps = divergence.Comparison.Camps.Select(camp => string.Join(" and ", camp.Members.Select(member => divergence.Targets[member].Name)));
        ImmutableArray<FieldDifference> differences = divergence.Comparison.Differences;
        IEnumerable<string> fields = differences.Take(MostFields).Select(difference => $"{difference.Field} ({string.Join(" against ", difference.Values)})");
        string more = differences.Length > MostFields ? $" and {differences.Length - MostFields} more" : "";
        return $"{string.Join(" against ", camps)}: they differ at {divergence.Instruction.Mnemonic} ({divergence.Instruction.Form})\nin {string.Join(", ", fields)}{more}.";
    }

    private static string Cite(RuleName rule) => $"{rule.Document} {rule.Section}";
}
