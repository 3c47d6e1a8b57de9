using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>One statement of a specification and what implements it.</summary>
/// <param name="Document">Document name.</param>
/// <param name="Section">Section in it.</param>
/// <param name="Implementation">The type or member, such as <c>Arithmetic.Adc</c>.</param>
public sealed record RuleName(string Document, string Section, string Implementation)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Document} {Section} ({Implementation})";
}

/// <summary>Counts which rules of a model a case executes. Much slower than the model itself is allowed to be: a campaign asks about a sample of its cases. Used by one thread.</summary>
public interface IRuleCounter : IDisposable
{
    /// <summary>The rules, in the order of the counters.</summary>
    ImmutableArray<RuleName> Rules { get; }

    /// <summary>Runs a case and counts.</summary>
    /// <param name="testCase">A well-formed case.</param>
    /// <param name="counts">One counter a rule; each use of the rule adds one.</param>
    void Count(TestCase testCase, int[] counts);
}
