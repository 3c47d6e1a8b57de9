using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A theory about guests under KVM: skipped, with the reason, where the target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmTheoryAttribute : TheoryAttribute
{
    private static readonly TargetUnavailableException? Problem = KvmTarget.Probe(Host.Profile);

    public KvmTheoryAttribute() => Skip = Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";
}
