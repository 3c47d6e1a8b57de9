using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Instrument;

namespace PvDiffFuzz.Cli;

/// <summary>Counts the rules of a model that cases execute, with an instrumented copy of the model. Used by one thread.</summary>
/// <param name="copy">The instrumented assembly.</param>
/// <param name="model">An instance of its model; owned from now on.</param>
internal sealed class InstrumentedRules(InstrumentedModel copy, ITarget model) : IRuleCounter
{
    /// <inheritdoc/>
    public ImmutableArray<RuleName> Rules { get; } = [.. copy.Rules.Select(rule => new RuleName(rule.Document, rule.Section, rule.Implementation))];

    /// <inheritdoc/>
    public void Count(TestCase testCase, int[] counts)
    {
        RuleHits.CollectInto(counts);
        model.Run(testCase);
        RuleHits.CollectInto(null);
    }

    /// <inheritdoc/>
    public void Dispose() => model.Dispose();
}
