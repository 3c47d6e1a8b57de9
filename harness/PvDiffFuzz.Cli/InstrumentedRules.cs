using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli;

/// <summary>Counts the rules of <c>model.x86</c> that cases execute, with an instrumented copy of the model.</summary>
internal sealed class InstrumentedRules : IRuleCounter
{
    private static readonly Lazy<InstrumentedModel> Copy = new(() => InstrumentedModel.Load(typeof(X86Model)));

    private readonly ITarget _model;

    /// <summary>Makes a counter for the calling thread.</summary>
    /// <param name="profile">The processor for cases that name none.</param>
    public InstrumentedRules(CpuProfile profile)
    {
        _model = Copy.Value.Create<ITarget>(typeof(X86Model), profile, null);
        Rules = [.. Copy.Value.Rules.Select(rule => new RuleName(rule.Document, rule.Section, rule.Implementation))];
    }

    /// <inheritdoc/>
    public ImmutableArray<RuleName> Rules { get; }

    /// <inheritdoc/>
    public void Count(TestCase testCase, int[] counts)
    {
        RuleHits.CollectInto(counts);
        _model.Run(testCase);
        RuleHits.CollectInto(null);
    }

    /// <inheritdoc/>
    public void Dispose() => _model.Dispose();
}
