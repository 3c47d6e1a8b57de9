using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Instrument;

namespace PvDiffFuzz.Cli;

/// <summary>Counts the rules of a model that cases execute, with an instrumented copy of the model. Used by one thread.</summary>
internal sealed class InstrumentedRules : IRuleCounter
{
    private readonly CopyPool _copies;
    private readonly InstrumentedModel _copy;
    private readonly ITarget _model;

    /// <summary>Makes a counter.</summary>
    /// <param name="copies">Where the copy comes from and goes back to.</param>
    /// <param name="model">Type of the plain model.</param>
    /// <param name="host">The processor of cases that name none.</param>
    public InstrumentedRules(CopyPool copies, Type model, CpuProfile host)
    {
        (_copies, _copy) = (copies, copies.Take());
        _model = _copy.Create<ITarget>(model, host, null);
        Rules = [.. _copy.Rules.Select(rule => new RuleName(rule.Document, rule.Section, rule.Implementation))];
    }

    /// <inheritdoc/>
    public ImmutableArray<RuleName> Rules { get; }

    /// <inheritdoc/>
    public void Count(TestCase testCase, int[] counts)
    {
        _copy.Restart();
        _model.Run(testCase);
        _copy.AddRules(counts);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _copies.Return(_copy);
    }
}
