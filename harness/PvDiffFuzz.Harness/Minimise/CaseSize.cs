using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Orders cases by how much a reader has to look at.</summary>
public static class CaseSize
{
    /// <summary>Compares two cases: instructions without padding first, then bytes of code, responses with their calls and what they let in, contents, and set registers of both sides.</summary>
    /// <returns>Less than 0 when <paramref name="a"/> is smaller.</returns>
    public static int Compare(TestCase a, TestCase b) => Measure(a).CompareTo(Measure(b));

    private static (int, int, int, int, int) Measure(TestCase testCase)
    {
        int set = 0;
        foreach (ulong value in testCase.Registers.Gpr)
        {
            set += value == 0 ? 0 : 1;
        }

        int steps = (testCase.Inject is null ? 0 : 1) + testCase.Responses.Sum(response => 1 + response.Hypercalls.Length + (response.Inject is null ? 0 : 1));
        set += testCase.System.Values.Count(v => DefaultSystem.DefaultOf(v.Key) != v.Value);

        return (CodeEdit.CountWithoutPadding(testCase.Code), testCase.Code.Bytes.Length, steps, testCase.Contents.Sum(c => c.Bytes.Length), set);
    }
}
