using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>A fact about a PVM host: skipped, with the reason, where this is none and none is given.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmFactAttribute : FactAttribute
{
    private static readonly string? Problem = PvmHosts.Problem(CpuProfile.DefaultAmd);

    public PvmFactAttribute() => Skip = Problem;
}
