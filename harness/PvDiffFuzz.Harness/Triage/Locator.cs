using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Finds the earliest point at which a case diverges, so that equal causes look equal before anything expensive is done.</summary>
/// <remarks>
/// What follows the first divergence follows from it: a wrong carry becomes a wrong branch, then other events. So a case is cut to its shortest diverging prefix, first
/// by responses, then by instructions (the rest becomes NOPs, so that no address changes). Cost: one batch of responses + 1 cases and one of at most
/// <see cref="MaximumPrefixes"/>.
/// </remarks>
public static class Locator
{
    /// <summary>Most prefixes tried in one case.</summary>
    public const int MaximumPrefixes = 64;

    /// <summary>Cuts a diverging case.</summary>
    /// <param name="testCase">A case that was seen to diverge.</param>
    /// <param name="runner">Runs the candidates.</param>
    /// <param name="allowed">False for cases that must not run on the targets; null when any may.</param>
    /// <returns>The shortest prefix that diverges, perhaps the whole case; null when not even the whole case diverges again.</returns>
    public static Examination? FirstDivergence(TestCase testCase, CaseRunner runner, Func<TestCase, bool>? allowed)
    {
        TestCase[] byResponse = new TestCase[testCase.Responses.Length + 1];
        for (int i = 0; i < testCase.Responses.Length; i++)
        {
            byResponse[i] = testCase with { Responses = testCase.Responses[..i] };
        }

        byResponse[^1] = testCase;
        Examination? cut = FirstOf(runner, byResponse);
        if (cut is null || cut.Case.Code.Lengths.Length == 1)
        {
            return cut;
        }

        int instructions = cut.Case.Code.Lengths.Length;
        HashSet<int> returns = cut.Case.Responses.IsEmpty ? [] : ReturnsOf(cut.Case);
        List<TestCase> prefixes = [];
        for (int kept = Math.Max(1, instructions - MaximumPrefixes); kept < instructions; kept++)
        {
            TestCase prefix = CodeEdit.WithNops(cut.Case, i => i >= kept && !returns.Contains(i));
            if (allowed is null || allowed(prefix))
            {
                prefixes.Add(prefix);
            }
        }

        return FirstOf(runner, [.. prefixes]) ?? cut;
    }

    /// <summary>Instructions by which answers return, where they stand in the code: without them a case with answers is another one.</summary>
    private static HashSet<int> ReturnsOf(TestCase testCase)
    {
        HashSet<int> found = [];
        ulong at = testCase.Code.Address;
        for (int i = 0; i < testCase.Code.Lengths.Length; at += testCase.Code.Lengths[i++])
        {
            if (IsAt(SystemRegister.PvmRetuRip, at) || IsAt(SystemRegister.PvmRetsRip, at))
            {
                found.Add(i);
            }
        }

        return found;

        bool IsAt(SystemRegister register, ulong address) => testCase.System.TryGet(register, out ulong stated) && stated == address;
    }

    private static Examination? FirstOf(CaseRunner runner, TestCase[] candidates) => runner.Examine(candidates).FirstOrDefault(e => e.Diverges);
}
