using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests.Contract;

/// <summary>One promise that every target keeps.</summary>
/// <param name="Name">The promise as a sentence.</param>
/// <param name="Cases">The cases that show it; a recording stores their outcomes.</param>
/// <param name="Check">Runs them and asserts.</param>
public sealed record ContractRule(string Name, ImmutableArray<TestCase> Cases, Action<ITarget, ImmutableArray<TestCase>> Check)
{
    /// <inheritdoc/>
    public override string ToString() => Name;
}
