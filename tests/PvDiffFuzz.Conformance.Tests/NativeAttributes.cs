using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A fact about the processor: skipped, with the reason, where the native target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NativeFactAttribute : FactAttribute
{
    public NativeFactAttribute() => Skip = Host.Trouble;
}

/// <summary>A theory about the processor: skipped, with the reason, where the native target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NativeTheoryAttribute : TheoryAttribute
{
    public NativeTheoryAttribute() => Skip = Host.Trouble;
}

/// <summary>What this host offers, asked once.</summary>
internal static class Host
{
    private static readonly TargetUnavailableException? Problem = NativeTarget.Probe();

    /// <summary>Why the native target cannot run, or null when it can.</summary>
    public static string? Trouble => Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";

    /// <summary>The processor at hand, or the default one where it cannot be asked.</summary>
    public static CpuProfile Profile { get; } = Problem is null ? HostProfile.Probe() : CpuProfile.DefaultAmd;
}
