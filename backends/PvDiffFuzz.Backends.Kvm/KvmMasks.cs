using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>What a comparer must not look at in this target's outcomes. Departures of a host are no masks: they are described under corpus/known.</summary>
internal static class KvmMasks
{
    /// <summary>The rows for a host.</summary>
    /// <param name="nestedTask">True when RFLAGS.NT stays as a payload sets it.</param>
    public static ImmutableArray<TargetMask> For(bool nestedTask) => nestedTask ? Always : [.. Always, NestedTask];

    private static readonly ImmutableArray<TargetMask> Always =
    [
        NullSelector(Register.Ds),
        NullSelector(Register.Es),
        NullSelector(Register.Fs),
        NullSelector(Register.Gs),
    ];

    private static readonly TargetMask NestedTask = new(
        "kvm.nested-task",
        "the host loses RFLAGS.NT of a payload whenever it interrupts it, so a payload that sets NT itself may find it gone; found by probing",
        _ => true,
        Register.Rflags,
        RflagsBits.NT);

    private static TargetMask NullSelector(Register segment) => new(
        $"kvm.null-selector-{segment.ToString().ToLowerInvariant()}",
        "an interrupt return replaces the null selectors 1 to 3 in data segment registers by 0, and a host may take an interrupt at any time (SDM vol.2A IRET, APM vol.3 IRET)",
        e => e.Registers[segment] < 4,
        segment,
        3);
}
