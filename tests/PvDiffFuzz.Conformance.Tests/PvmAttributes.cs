using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A theory about hosts of the PVM guest ABI: skipped, with the reason, where this is none and none is given.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmTheoryAttribute : TheoryAttribute
{
    private static readonly string? Problem = PvmHosts.Problem(Host.Profile);

    public PvmTheoryAttribute() => Skip = Problem;
}
