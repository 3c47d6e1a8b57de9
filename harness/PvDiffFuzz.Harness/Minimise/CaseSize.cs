using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Orders cases by how much a reader has to look at.</summary>
public static class CaseSize
{
    /// <summary>Compares two cases: instructions without padding first, then bytes of code, responses, contents and set registers.</summary>
    /// <returns>Less than 0 when <paramref name="a"/> is smaller.</returns>
    public static int Compare(TestCase a, TestCase b) => Measure(a).CompareTo(Measure(b));

    private static (int, int, int, int, int) Measure(TestCase testCase)
    {
        int set = 0;
        foreach (ulong value in testCase.Registers.Gpr)
        {
            set += value == 0 ? 0 : 1;
        }

        return (CodeEdit.CountWithoutPadding(testCase.Code), testCase.Code.Bytes.Length, testCase.Responses.Length, testCase.Contents.Sum(c => c.Bytes.Length), set);
    }
}
