using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>A fact about guests: skipped, with the reason, where the target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmFactAttribute : FactAttribute
{
    public KvmFactAttribute() => Skip = Availability.Reason;
}

/// <summary>A theory about guests: skipped, with the reason, where the target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmTheoryAttribute : TheoryAttribute
{
    public KvmTheoryAttribute() => Skip = Availability.Reason;
}

/// <summary>Asks once whether this host can run the target.</summary>
internal static class Availability
{
    private static readonly TargetUnavailableException? Trouble = KvmTarget.Probe(CpuProfile.DefaultAmd);

    /// <summary>Null when it can.</summary>
    public static string? Reason => Trouble is null ? null : $"{Trouble.Message}; {Trouble.Cure}";
}
