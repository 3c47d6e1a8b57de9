using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>What mutations need to know besides the cases.</summary>
/// <param name="Vendor">Whose decoder.</param>
/// <param name="Raisers">Instructions of the corpus that raise events.</param>
internal sealed record MutationContext(CpuVendor Vendor, RaiserPool Raisers);

/// <summary>Changes a case so that it stays one: it knows what the parts of a case mean. A pure function of its arguments.</summary>
internal interface IMutation
{
    /// <summary>How often it is chosen, relative to the others.</summary>
    int Weight { get; }

    /// <summary>Changes a case.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="donor">Another case of the same ABI, to take parts from.</param>
    /// <param name="random">Where choices come from.</param>
    /// <param name="context">What else it may need.</param>
    /// <returns>The changed case, which need not be well formed, or null when there is nothing to change.</returns>
    TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context);
}

/// <summary>All mutations.</summary>
internal static class Mutations
{
    /// <summary>The list. A further one is one line here.</summary>
    public static ImmutableArray<IMutation> All { get; } =
    [
        new InstructionMutation(),
        new FormMutation(),
        new EncodingMutation(),
        new RegisterMutation(),
        new BreakpointMutation(),
        new ContentsMutation(),
        new SystemMutation(),
        new StepMutation(),
        new LadderMutation(),
        new ChainMutation(),
        new InjectionMutation(),
        new SpliceMutation(),
    ];
}
