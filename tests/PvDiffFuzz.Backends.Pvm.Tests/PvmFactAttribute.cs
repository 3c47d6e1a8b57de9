using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>A fact about a PVM host: skipped, with the reason, where this is none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmFactAttribute : FactAttribute
{
    private static readonly TargetUnavailableException? Problem = PvmTarget.Probe(CpuProfile.DefaultAmd);

    public PvmFactAttribute() => Skip = Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";
}
