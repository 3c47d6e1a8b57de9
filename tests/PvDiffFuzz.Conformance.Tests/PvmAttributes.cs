using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A theory about hosts of the PVM guest ABI: skipped, with the reason, where this is none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmTheoryAttribute : TheoryAttribute
{
    private static readonly TargetUnavailableException? Problem = PvmTarget.Probe(Host.Profile);

    public PvmTheoryAttribute() => Skip = Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";
}
