using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli;

/// <summary>The instrumented copy of a model: answers like the model, and tells which edges and rules a case executes. Used by one thread.</summary>
internal sealed class ProbedModel : IProbedModel
{
    private readonly CopyPool _copies;
    private readonly InstrumentedModel _copy;
    private readonly ITarget _model;

    /// <summary>Makes a model.</summary>
    /// <param name="copies">Where the copy comes from and goes back to.</param>
    /// <param name="model">Type of the plain model; its constructor takes a profile and a <see cref="FormUsage"/> first.</param>
    /// <param name="host">The processor of cases that name none.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    /// <param name="more">What its constructor takes besides.</param>
    public ProbedModel(CopyPool copies, Type model, CpuProfile host, FormUsage? usage, params ReadOnlySpan<object?> more)
    {
        (_copies, _copy) = (copies, copies.Take());
        _model = _copy.Create<ITarget>(model, [host, usage is null ? null : _copy.Create<object>(typeof(FormUsage), usage.Marks), .. more]);
        Rules = [.. _copy.Rules.Select(rule => new RuleName(rule.Document, rule.Section, rule.Implementation))];
    }

    /// <inheritdoc/>
    public TargetInfo Info => _model.Info;

    /// <inheritdoc/>
    public ImmutableArray<RuleName> Rules { get; }

    /// <inheritdoc/>
    public Span<byte> Edges => _copy.Edges;

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        _copy.Restart();
        return _model.Run(testCase);
    }

    /// <inheritdoc/>
    public void AddRules(Span<int> counts) => _copy.AddRules(counts);

    /// <inheritdoc/>
    public void Count(TestCase testCase, int[] counts)
    {
        Run(testCase);
        AddRules(counts);
        Edges.Clear();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _copies.Return(_copy);
    }
}
