using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What a comparer must not look at in this target's outcomes. Departures of a Xen are no masks: they are described under corpus/known.</summary>
internal static class XenMasks
{
    /// <summary>The rows.</summary>
    public static ImmutableArray<TargetMask> All { get; } =
    [
        NullSelector(Register.Ds),
        NullSelector(Register.Es),
        NullSelector(Register.Fs),
        NullSelector(Register.Gs),
    ];

    private static TargetMask NullSelector(Register segment) => new(
        $"xen.null-selector-{segment.ToString().ToLowerInvariant()}",
        "an interrupt return replaces the null selectors 1 to 3 in data segment registers by 0, and Xen may take an interrupt at any time (SDM vol.2A IRET, APM vol.3 IRET)",
        e => e.Registers[segment] < 4,
        segment,
        3);
}
