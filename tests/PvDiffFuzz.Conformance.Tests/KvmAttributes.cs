using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A fact about guests under KVM: skipped, with the reason, where the target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmFactAttribute : FactAttribute
{
    public KvmFactAttribute() => Skip = Kvm.Trouble;
}

/// <summary>A theory about guests under KVM: skipped, with the reason, where the target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmTheoryAttribute : TheoryAttribute
{
    public KvmTheoryAttribute() => Skip = Kvm.Trouble;
}

/// <summary>Asks once whether this host runs guests.</summary>
internal static class Kvm
{
    private static readonly TargetUnavailableException? Problem = KvmTarget.Probe(Host.Profile);

    /// <summary>Why it does not, or null when it does.</summary>
    public static string? Trouble => Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";
}
