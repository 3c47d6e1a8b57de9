using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Values that a mutation puts in place of another.</summary>
internal static class Values
{
    /// <summary>A value like an old one, or one at which something changes, or an address of the case.</summary>
    /// <param name="old">The old value.</param>
    /// <param name="testCase">The case.</param>
    /// <param name="random">Where choices come from.</param>
    public static ulong Next(ulong old, TestCase testCase, ref CounterRandom random) => random.Below(8) switch
    {
        0 or 1 => old ^ (1UL << random.Below(64)),
        2 => old + (ulong)random.Below(33) - 16,
        3 or 4 => random.Pick(EdgeValues.Operands.AsSpan()),
        5 => Instruction(testCase, ref random),
        6 => Page(testCase, ref random),
        _ => random.Next() >> random.Below(64),
    };

    /// <summary>The address of an instruction of the code, or the end of it.</summary>
    public static ulong Instruction(TestCase testCase, ref CounterRandom random)
    {
        ulong at = testCase.Code.Address;
        int count = random.Below(testCase.Code.Lengths.Length + 1);
        for (int i = 0; i < count; i++)
        {
            at += testCase.Code.Lengths[i];
        }

        return at;
    }

    /// <summary>An address in a page of the case, or right before or behind one.</summary>
    private static ulong Page(TestCase testCase, ref CounterRandom random)
    {
        // A guest may have no user root, and then no user pages.
        PageLayout pages = random.Percent(50) || testCase.UserPages.Ranges.IsEmpty ? testCase.Layout : testCase.UserPages;
        PageRange range = pages.Ranges[random.Below(pages.Ranges.Length)];
        return random.Below(4) switch
        {
            0 => range.Address - (ulong)random.Below(9),
            1 => range.Last - (ulong)random.Below(17) + 1,
            _ => range.Address + (ulong)(random.Below(PageLayout.PageSize / 8) * 8),
        };
    }
}
