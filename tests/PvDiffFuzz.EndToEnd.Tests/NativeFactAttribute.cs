using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>A fact that needs the processor: skipped, with the reason, where the native target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NativeFactAttribute : FactAttribute
{
    public NativeFactAttribute() => Skip = Availability.Reason;
}

/// <summary>A theory that needs the processor: skipped, with the reason, where the native target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NativeTheoryAttribute : TheoryAttribute
{
    public NativeTheoryAttribute() => Skip = Availability.Reason;
}

/// <summary>Asks once whether this host can run the target.</summary>
internal static class Availability
{
    private static readonly TargetUnavailableException? Trouble = NativeTarget.Probe();

    /// <summary>Null when it can.</summary>
    public static string? Reason => Trouble is null ? null : $"{Trouble.Message}; {Trouble.Cure}";
}
