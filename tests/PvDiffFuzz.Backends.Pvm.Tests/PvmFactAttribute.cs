using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>A fact about a PVM host: skipped, with the reason, where this is none and none is given.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmFactAttribute : FactAttribute
{
    internal static readonly string? Problem = PvmHosts.Problem(CpuProfile.DefaultAmd);

    public PvmFactAttribute() => Skip = Problem;
}

/// <summary>A theory about a PVM host, skipped likewise.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PvmTheoryAttribute : TheoryAttribute
{
    public PvmTheoryAttribute() => Skip = PvmFactAttribute.Problem;
}
