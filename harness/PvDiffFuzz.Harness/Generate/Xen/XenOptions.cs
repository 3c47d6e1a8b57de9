using System.Collections.Immutable;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <summary>What the generator of Xen cases makes besides <see cref="GeneratorOptions"/>.</summary>
public sealed record XenOptions
{
    /// <summary>Changes whenever the same seed gives other Xen cases.</summary>
    public const int Version = 1;

    /// <summary>Weights of actions in the guest's kernel. An action that is missing has weight 0.</summary>
    public static ImmutableSortedDictionary<XenAction, int> DefaultKernelWeights { get; } = WeightTable.Weighted(
        (XenAction.SoftwareInterrupt, 60),
        (XenAction.PrefixedInterrupt, 25),
        (XenAction.Icebp, 10),
        (XenAction.Undefined, 15),
        (XenAction.Bound, 6),
        (XenAction.Sysenter, 6),
        (XenAction.DivideError, 10),
        (XenAction.PageFault, 40),
        (XenAction.SingleStep, 15),
        (XenAction.StackShadow, 15),
        (XenAction.FlagsOnStack, 40),
        (XenAction.InterruptFlag, 45),
        (XenAction.Refused, 55),
        (XenAction.ControlRegister, 70),
        (XenAction.DebugRegister, 55),
        (XenAction.ReadMsr, 45),
        (XenAction.WriteMsr, 55),
        (XenAction.Port, 45),
        (XenAction.ForcedEmulation, 25),
        (XenAction.SegmentBase, 15),
        (XenAction.FarTransfer, 20),
        (XenAction.Hypercall, 240),
        (XenAction.Return, 90));

    /// <summary>Weights of actions in user code, where most of what is privileged is a fault.</summary>
    public static ImmutableSortedDictionary<XenAction, int> DefaultUserWeights { get; } = WeightTable.Weighted(
        (XenAction.SoftwareInterrupt, 120),
        (XenAction.PrefixedInterrupt, 50),
        (XenAction.Icebp, 15),
        (XenAction.Undefined, 30),
        (XenAction.Bound, 25),
        (XenAction.SystemCall, 90),
        (XenAction.Sysenter, 25),
        (XenAction.DivideError, 20),
        (XenAction.PageFault, 80),
        (XenAction.SingleStep, 30),
        (XenAction.StackShadow, 25),
        (XenAction.FlagsOnStack, 60),
        (XenAction.InterruptFlag, 25),
        (XenAction.Refused, 60),
        (XenAction.ControlRegister, 20),
        (XenAction.DebugRegister, 12),
        (XenAction.ReadMsr, 10),
        (XenAction.WriteMsr, 10),
        (XenAction.Port, 25),
        (XenAction.ForcedEmulation, 25),
        (XenAction.SegmentBase, 40),
        (XenAction.FarTransfer, 25));

    /// <summary>Actions of the guest's kernel and their weights, 0 to 10,000 each, at least one above 0.</summary>
    public ImmutableSortedDictionary<XenAction, int> KernelWeights { get; init; } = DefaultKernelWeights;

    /// <summary>Actions of user code and their weights, 0 to 10,000 each, at least one above 0.</summary>
    public ImmutableSortedDictionary<XenAction, int> UserWeights { get; init; } = DefaultUserWeights;

    /// <summary>Share of cases in percent that start in the guest's kernel.</summary>
    public int KernelPercent { get; init; } = 50;

    /// <summary>Share of kernel starts in percent that come by HYPERVISOR_iret.</summary>
    public int EnteredPercent { get; init; } = 35;

    /// <summary>Share of the steps of kernel code in percent that are actions; the others are instructions of the families.</summary>
    public int KernelActionPercent { get; init; } = 65;

    /// <summary>Share of the steps of user code in percent that are actions.</summary>
    public int UserActionPercent { get; init; } = 25;

    /// <summary>Share of cases of 64-bit guests in percent in which kernel and user code use one root.</summary>
    public int OneRootPercent { get; init; } = 5;

    /// <summary>Share of frames in percent that hold something odd.</summary>
    public int OddFramePercent { get; init; } = 15;

    /// <summary>Share of cases in percent in which an event is pending at the start.</summary>
    public int PendingPercent { get; init; } = 12;

    /// <summary>Share of responses in percent that make an event pending.</summary>
    public int ResponsePendingPercent { get; init; } = 12;

    /// <summary>Share of responses in percent that make hypercalls first.</summary>
    public int ResponseHypercallPercent { get; init; } = 20;

    /// <summary>One case in so many is made so that Xen may crash the domain; 0 for none.</summary>
    public int HazardOneIn { get; init; } = 2048;

    /// <summary>All options in one line.</summary>
    public override string ToString() =>
        $"xen {Version} kernel={KernelPercent} entered={EnteredPercent} actions={KernelActionPercent}/{UserActionPercent} one-root={OneRootPercent} odd={OddFramePercent} "
        + $"pending={PendingPercent}/{ResponsePendingPercent} calls={ResponseHypercallPercent} hazard={HazardOneIn} "
        + $"kernel-actions={string.Join(',', KernelWeights.Select(w => $"{w.Key}={w.Value}"))} user-actions={string.Join(',', UserWeights.Select(w => $"{w.Key}={w.Value}"))}";

    /// <summary>Checks the options.</summary>
    /// <returns>Null when they are valid, else a message that names the option and the valid values.</returns>
    public string? Check()
    {
        ReadOnlySpan<(string Name, int Value, int Limit)> shares =
        [
            (nameof(KernelPercent), KernelPercent, 100), (nameof(EnteredPercent), EnteredPercent, 100), (nameof(KernelActionPercent), KernelActionPercent, 100),
            (nameof(UserActionPercent), UserActionPercent, 100), (nameof(OneRootPercent), OneRootPercent, 100), (nameof(OddFramePercent), OddFramePercent, 100),
            (nameof(PendingPercent), PendingPercent, 100), (nameof(ResponsePendingPercent), ResponsePendingPercent, 100), (nameof(ResponseHypercallPercent), ResponseHypercallPercent, 100),
            (nameof(HazardOneIn), HazardOneIn, 1_000_000),
        ];
        foreach ((string name, int value, int limit) in shares)
        {
            if (value < 0 || value > limit)
            {
                return $"{name} {value}: a number from 0 to {limit}";
            }
        }

        return WeightTable.Check(nameof(KernelWeights), KernelWeights) ?? WeightTable.Check(nameof(UserWeights), UserWeights);
    }
}
