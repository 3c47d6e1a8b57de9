using System.Collections.Immutable;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <summary>What the generator of PVM cases makes besides <see cref="GeneratorOptions"/>.</summary>
public sealed record PvmOptions
{
    /// <summary>Changes whenever the same seed gives other PVM cases.</summary>
    public const int Version = 2;

    /// <summary>Weights of actions in supervisor code. An action that is missing has weight 0.</summary>
    public static ImmutableSortedDictionary<PvmAction, int> DefaultSupervisorWeights { get; } = WeightTable.Weighted(
        (PvmAction.InterruptFlag, 70),
        (PvmAction.Halt, 6),
        (PvmAction.FlagsOnStack, 50),
        (PvmAction.ControlRegister, 80),
        (PvmAction.DebugRegister, 45),
        (PvmAction.DescriptorTable, 30),
        (PvmAction.Invalidate, 40),
        (PvmAction.ReadMsr, 90),
        (PvmAction.WriteMsr, 110),
        (PvmAction.Forbidden, 20),
        (PvmAction.SyntheticCpuid, 30),
        (PvmAction.SegmentBase, 25),
        (PvmAction.FarReturn, 12),
        (PvmAction.SoftwareInterrupt, 30),
        (PvmAction.Undefined, 14),
        (PvmAction.DivideError, 8),
        (PvmAction.PageFault, 40),
        (PvmAction.SingleStep, 15),
        (PvmAction.StackShadow, 12),
        (PvmAction.Hypercall, 190),
        (PvmAction.Structure, 70),
        (PvmAction.ReturnToUser, 25),
        (PvmAction.ReturnToSupervisor, 60),
        (PvmAction.MoveEntry, 10));

    /// <summary>Weights of actions in user code, where most of what is privileged is a fault.</summary>
    public static ImmutableSortedDictionary<PvmAction, int> DefaultUserWeights { get; } = WeightTable.Weighted(
        (PvmAction.InterruptFlag, 20),
        (PvmAction.Halt, 8),
        (PvmAction.FlagsOnStack, 60),
        (PvmAction.ControlRegister, 20),
        (PvmAction.DebugRegister, 10),
        (PvmAction.DescriptorTable, 10),
        (PvmAction.Invalidate, 12),
        (PvmAction.ReadMsr, 12),
        (PvmAction.WriteMsr, 12),
        (PvmAction.Forbidden, 40),
        (PvmAction.SyntheticCpuid, 8),
        (PvmAction.SegmentBase, 50),
        (PvmAction.FarReturn, 20),
        (PvmAction.SoftwareInterrupt, 90),
        (PvmAction.Undefined, 40),
        (PvmAction.DivideError, 20),
        (PvmAction.PageFault, 90),
        (PvmAction.SingleStep, 30),
        (PvmAction.StackShadow, 25),
        (PvmAction.Hypercall, 70),
        (PvmAction.ReturnToUser, 4),
        (PvmAction.ReturnToSupervisor, 4));

    /// <summary>Actions of supervisor code and their weights, 0 to 10,000 each, at least one above 0.</summary>
    public ImmutableSortedDictionary<PvmAction, int> SupervisorWeights { get; init; } = DefaultSupervisorWeights;

    /// <summary>Actions of user code and their weights, 0 to 10,000 each, at least one above 0.</summary>
    public ImmutableSortedDictionary<PvmAction, int> UserWeights { get; init; } = DefaultUserWeights;

    /// <summary>Share of cases in percent that start in supervisor mode.</summary>
    public int SupervisorPercent { get; init; } = 50;

    /// <summary>Share of the steps of supervisor code in percent that are actions; the others are instructions of the families.</summary>
    public int SupervisorActionPercent { get; init; } = 60;

    /// <summary>Share of the steps of user code in percent that are actions.</summary>
    public int UserActionPercent { get; init; } = 20;

    /// <summary>Share of cases in percent in which both modes use one root. Revisions with one CR3 always do.</summary>
    public int OneRootPercent { get; init; } = 12;

    /// <summary>Share of cases in percent that ask for the hypervisor's direct way between the modes.</summary>
    public int WarmPercent { get; init; } = 50;

    /// <summary>Share of cases in percent without a per-VCPU structure.</summary>
    public int NoStructurePercent { get; init; } = 2;

    /// <summary>Share of user contexts and frames in percent that hold something odd.</summary>
    public int OddFramePercent { get; init; } = 20;

    /// <summary>Share of cases in percent that start with an interrupt or NMI pending.</summary>
    public int InjectPercent { get; init; } = 12;

    /// <summary>Share of responses in percent after which an interrupt or NMI is pending.</summary>
    public int ResponseInjectPercent { get; init; } = 15;

    /// <summary>Share of responses in percent that make hypercalls first.</summary>
    public int ResponseHypercallPercent { get; init; } = 25;

    /// <summary>All options in one line.</summary>
    public override string ToString() =>
        $"pvm {Version} supervisor={SupervisorPercent} actions={SupervisorActionPercent}/{UserActionPercent} one-root={OneRootPercent} warm={WarmPercent} no-structure={NoStructurePercent} "
        + $"odd={OddFramePercent} inject={InjectPercent}/{ResponseInjectPercent} calls={ResponseHypercallPercent} "
        + $"supervisor-actions={string.Join(',', SupervisorWeights.Select(w => $"{w.Key}={w.Value}"))} user-actions={string.Join(',', UserWeights.Select(w => $"{w.Key}={w.Value}"))}";

    /// <summary>Checks the options.</summary>
    /// <returns>Null when they are valid, else a message that names the option and the valid values.</returns>
    public string? Check()
    {
        ReadOnlySpan<(string Name, int Value)> shares =
        [
            (nameof(SupervisorPercent), SupervisorPercent), (nameof(SupervisorActionPercent), SupervisorActionPercent), (nameof(UserActionPercent), UserActionPercent),
            (nameof(OneRootPercent), OneRootPercent), (nameof(WarmPercent), WarmPercent), (nameof(NoStructurePercent), NoStructurePercent), (nameof(OddFramePercent), OddFramePercent),
            (nameof(InjectPercent), InjectPercent), (nameof(ResponseInjectPercent), ResponseInjectPercent), (nameof(ResponseHypercallPercent), ResponseHypercallPercent),
        ];
        foreach ((string name, int value) in shares)
        {
            if (value is < 0 or > 100)
            {
                return $"{name} {value}: a number from 0 to 100";
            }
        }

        return WeightTable.Check(nameof(SupervisorWeights), SupervisorWeights) ?? WeightTable.Check(nameof(UserWeights), UserWeights);
    }
}
