using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What reductions need to know besides the case.</summary>
/// <param name="Vendor">Whose decoder.</param>
public sealed record ReductionContext(CpuVendor Vendor);

/// <summary>Proposes simpler versions of a case. Knows nothing of targets: the minimiser keeps what still diverges with the same signature.</summary>
/// <remarks>Every proposal must be simpler than the case by the reduction's own measure, so that repeating it ends. Proposals need not be well formed: the minimiser checks.</remarks>
public interface IReduction
{
    /// <summary>Short name for reports, such as <c>drop-instructions</c>.</summary>
    string Name { get; }

    /// <summary>Most proposals examined in one pass.</summary>
    int Budget { get; }

    /// <summary>Proposals, the boldest first, in an order that depends on nothing but the case.</summary>
    IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context);
}

/// <summary>All reductions in the order of a pass: what removes most comes first.</summary>
public static class Reductions
{
    /// <summary>The standard list.</summary>
    public static ImmutableArray<IReduction> All { get; } =
    [
        new DropResponses(),
        new DropInstructions(),
        new DropSteps(),
        new DropHypercalls(),
        new DropInjections(),
        new NopInstructions(),
        new DropContents(),
        new DefaultSurroundings(),
        new DefaultSystem(),
        new DefaultXen(),
        new DropPrefixes(),
        new SimplifyOperands(),
        new SimplifyRegisters(),
        new SimplifyFlags(),
        new SimplifySegments(),
        new SimplifyContents(),
    ];

    /// <summary>Pieces of <paramref name="count"/> things to take out: all, halves, quarters, down to single ones; within a size, last first.</summary>
    internal static IEnumerable<(int Start, int Length)> Chunks(int count)
    {
        for (int size = count; size >= 1; size /= 2)
        {
            for (int end = count; end > 0; end -= size)
            {
                int start = Math.Max(0, end - size);
                yield return (start, end - start);
            }
        }
    }
}
