using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What a comparer must not look at in this target's outcomes. Departures of a host are no masks: they are described under corpus/known.</summary>
internal static class PvmMasks
{
    /// <summary>The rows.</summary>
    public static ImmutableArray<TargetMask> All { get; } =
    [
        new TargetMask(
            "pvm.agent-return-address",
            "after a hypercall of a response RCX can be the return address of SYSCALL, which is the agent's (SDM vol.2B SYSCALL)",
            e => e.Kind == EventKind.Hypercall,
            Register.Rcx,
            ulong.MaxValue),
        NullSelector(Register.Ds),
        NullSelector(Register.Es),
        NullSelector(Register.Fs),
        NullSelector(Register.Gs),
    ];

    private static TargetMask NullSelector(Register segment) => new(
        $"pvm.null-selector-{segment.ToString().ToLowerInvariant()}",
        "an interrupt return replaces the null selectors 1 to 3 in data segment registers by 0, and a host may take an interrupt at any time (SDM vol.2A IRET, APM vol.3 IRET)",
        e => e.Registers[segment] < 4,
        segment,
        3);
}
