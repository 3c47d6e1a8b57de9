using System.Collections.Immutable;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests.Grids;

/// <summary>The two targets of the grids, started at the first use and shared by all rows.</summary>
public sealed class GridRunner : IDisposable
{
    private readonly Lazy<CaseRunner> _runner = new(() => CaseRunner.Create(
        [() => new X86Model(Host.Profile), () => new NativeTarget()], CaseAnalyst.For(new X86Model(Host.Profile), Host.Profile.Vendor)));

    private readonly Lazy<KnownSet> _known = new(() => KnownReader.ReadFolder(Checkout.PathOf("corpus", "known")));

    public void Dispose()
    {
        if (_runner.IsValueCreated)
        {
            _runner.Value.Dispose();
        }
    }

    /// <summary>Runs a batch on both and compares.</summary>
    internal ImmutableArray<Examination> Examine(ReadOnlySpan<TestCase> cases) => _runner.Value.Examine(cases);

    /// <summary>True for a divergence that <c>corpus/known</c> describes.</summary>
    internal bool IsKnown(Examination examination) => !_known.Value.Find(Divergence.Of(examination, _runner.Value), _runner.Value.Analyst).IsEmpty;
}
