using System.Collections.Immutable;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Which rules campaigns executed, confirmed and contradicted. Rules of the models as they are now; evidence of a rule that is no longer there is left out.</summary>
/// <param name="Rules">Every rule, by document and section.</param>
internal sealed record RuleCoverage(ImmutableArray<RuleEvidence> Rules)
{
    /// <summary>Joins the rules of all models with evidence.</summary>
    public static RuleCoverage Of(CampaignEvidence evidence)
    {
        Dictionary<RuleName, RuleEvidence> known = evidence.Rules.ToDictionary(rule => rule.Rule);
        ImmutableSortedDictionary<string, long> nobody = ImmutableSortedDictionary.Create<string, long>(StringComparer.Ordinal);
        return new RuleCoverage(
        [
            .. ModelsByAbi.AllRules.Select(rule => known.GetValueOrDefault(rule) ?? new RuleEvidence(rule, 0, nobody, nobody)),
        ]);
    }

    /// <summary>Shapes it as design's <c>coverage --json</c>.</summary>
    public object ForJson() => new
    {
        total = Rules.Length,
        executed = Rules.Count(IsExecuted),
        confirmed = Rules.Count(IsConfirmed),
        contradicted = Rules.Count(IsContradicted),
        specifications = Rules.GroupBy(rule => rule.Rule.Document, StringComparer.Ordinal).Select(document => new
        {
            document = document.Key,
            total = document.Count(),
            executed = document.Count(IsExecuted),
            unreached = document.Count(IsUnreached),
            confirmed = document.Count(IsConfirmed),
            contradicted = document.Count(IsContradicted),
        }),
        list = Rules.Select(rule => new
        {
            document = rule.Rule.Document,
            section = rule.Rule.Section,
            implementation = rule.Rule.Implementation,
            unreached = IsUnreached(rule) ? UnreachedRules.Find(rule.Rule)!.Reason : null,
            executed = rule.Executed,
            confirmed = rule.Confirmed,
            contradicted = rule.Contradicted,
        }),
    };

    /// <summary>Prints it for a person: what nobody executed or confirmed by name, the rest on request.</summary>
    /// <param name="campaigns">False when there is no evidence, so that nothing can be said but how many rules there are.</param>
    /// <param name="all">List every rule.</param>
    public void Print(bool campaigns, bool all)
    {
        foreach (IGrouping<string, RuleEvidence> document in Rules.GroupBy(rule => rule.Rule.Document, StringComparer.Ordinal))
        {
            string seen = campaigns ? $": {document.Count(IsExecuted),4} executed, {document.Count(IsConfirmed),4} confirmed, {document.Count(IsContradicted),4} contradicted" : "";
            Console.WriteLine($"rules {document.Key,-23} {document.Count(),5}{seen}{(campaigns ? Excused([.. document]) : "")}");
        }

        if (campaigns)
        {
            PrintThose("not executed", rule => !IsExecuted(rule) && UnreachedRules.Find(rule.Rule) is null);
            foreach (RuleEvidence rule in Rules.Where(IsUnreached))
            {
                Console.WriteLine($"not executed, as listed: {rule.Rule}: {UnreachedRules.Find(rule.Rule)!.Reason}");
            }

            PrintThose("executed, confirmed by no target", rule => IsExecuted(rule) && !IsConfirmed(rule));
            PrintThose("contradicted", IsContradicted);
        }

        if (all)
        {
            PrintThose("rule", _ => true);
        }
    }

    private static bool IsExecuted(RuleEvidence rule) => rule.Executed > 0;

    private static bool IsUnreached(RuleEvidence rule) => !IsExecuted(rule) && UnreachedRules.Find(rule.Rule) is not null;

    private static string Excused(ImmutableArray<RuleEvidence> rules)
    {
        int unreached = rules.Count(IsUnreached);
        int missing = rules.Count(rule => !IsExecuted(rule)) - unreached;
        return missing + unreached == 0 ? ", 100 %" : missing == 0 ? $", 100 % but for {unreached} listed" : unreached == 0 ? "" : $", {unreached} of the others listed";
    }

    private static bool IsConfirmed(RuleEvidence rule) => !rule.Confirmed.IsEmpty;

    private static bool IsContradicted(RuleEvidence rule) => !rule.Contradicted.IsEmpty;

    private static string Counts(RuleEvidence rule) =>
        string.Join(", ", (string[])[$"executed {rule.Executed}", .. rule.Confirmed.Select(c => $"confirmed by {c.Key} {c.Value}"), .. rule.Contradicted.Select(c => $"contradicted by {c.Key} {c.Value}")]);

    private void PrintThose(string what, Func<RuleEvidence, bool> choose)
    {
        foreach (RuleEvidence rule in Rules.Where(choose))
        {
            Console.WriteLine($"{what}: {rule.Rule}{(IsExecuted(rule) || IsContradicted(rule) ? ": " + Counts(rule) : "")}");
        }
    }
}
