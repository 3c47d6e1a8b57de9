using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Finds the earliest point at which a case diverges, so that equal causes look equal before anything expensive is done.</summary>
/// <remarks>
/// What follows the first divergence follows from it: a wrong carry becomes a wrong branch, then other events. So a case is cut to its shortest diverging prefix, first
/// by responses, then by instructions (the rest becomes NOPs, so that no address changes). Cost: one batch of responses + 1 cases and one of at most
/// <see cref="MaximumPrefixes"/>; the logarithms of that, and as many batches, for a cut that is only shortest among its neighbours.
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
    public static Examination? FirstDivergence(TestCase testCase, CaseRunner runner, Func<TestCase, bool>? allowed) => FirstDivergences([testCase], runner, allowed)[0];

    /// <summary>Cuts diverging cases, all in the same two batches: targets that wait for something wait for all of them at once.</summary>
    /// <param name="cases">Cases that were seen to diverge.</param>
    /// <param name="runner">Runs the candidates.</param>
    /// <param name="allowed">False for cases that must not run on the targets; null when any may.</param>
    /// <returns>For each the shortest prefix that diverges, perhaps the whole case; null when not even the whole case diverges again.</returns>
    public static Examination?[] FirstDivergences(IReadOnlyList<TestCase> cases, CaseRunner runner, Func<TestCase, bool>? allowed)
    {
        Examination?[] cuts = FirstOfEach(runner, cases.Select(ByResponse));
        Examination?[] shorter = FirstOfEach(runner, cuts.Select(cut => cut is null ? [] : Prefixes(cut.Case, allowed)));
        for (int i = 0; i < cuts.Length; i++)
        {
            cuts[i] = shorter[i] ?? cuts[i];
        }

        return cuts;
    }

    /// <summary>Cuts diverging cases by halves, which asks for a fraction of the runs: a prefix that diverges where the one before it does not. Where a divergence goes away and comes back, it need not be the first.</summary>
    /// <param name="cases">Cases that were seen to diverge.</param>
    /// <param name="runner">Runs the candidates.</param>
    /// <param name="allowed">False for cases that must not run on the targets; null when any may.</param>
    /// <returns>For each a prefix that diverges, perhaps the whole case; null when the whole case does not diverge again.</returns>
    public static Examination?[] LocalDivergences(IReadOnlyList<TestCase> cases, CaseRunner runner, Func<TestCase, bool>? allowed)
    {
        Examination?[] cuts = [.. runner.Examine([.. cases]).Select(whole => whole.Diverges ? whole : null)];

        // Most diverge at once, without an answer. Then the instruction at which that shows tends to be the last that is needed.
        Halve(runner, cuts, cut => ByResponse(cut.Case)[..^1], (_, _) => 0);
        Halve(runner, cuts, cut => Prefixes(cut.Case, allowed), (cut, prefixes) => LastNeeded(Divergence.Of(cut, runner), prefixes));
        return cuts;
    }

    /// <summary>The case with its first responses only, the fewest first, and the whole case last.</summary>
    private static List<TestCase> ByResponse(TestCase testCase) => [.. Enumerable.Range(0, testCase.Responses.Length).Select(i => testCase with { Responses = testCase.Responses[..i] }), testCase];

    /// <summary>The case with its first instructions only, the fewest first.</summary>
    private static List<TestCase> Prefixes(TestCase testCase, Func<TestCase, bool>? allowed)
    {
        int instructions = testCase.Code.Lengths.Length;
        HashSet<int> returns = testCase.Responses.IsEmpty ? [] : ReturnsOf(testCase);
        List<TestCase> prefixes = [];
        for (int kept = Math.Max(1, instructions - MaximumPrefixes); kept < instructions; kept++)
        {
            TestCase prefix = CodeEdit.WithNops(testCase, i => i >= kept && !returns.Contains(i));
            if (allowed is null || allowed(prefix))
            {
                prefixes.Add(prefix);
            }
        }

        return prefixes;
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

    /// <summary>Of each list of candidates the first that diverges.</summary>
    private static Examination?[] FirstOfEach(CaseRunner runner, IEnumerable<List<TestCase>> candidates)
    {
        List<TestCase>[] lists = [.. candidates];
        ImmutableArray<Examination> examined = runner.Examine([.. lists.SelectMany(list => list)]);
        Examination?[] firsts = new Examination?[lists.Length];
        int at = 0;
        for (int i = 0; i < lists.Length; at += lists[i++].Count)
        {
            firsts[i] = examined.AsSpan().Slice(at, lists[i].Count).ToArray().FirstOrDefault(e => e.Diverges);
        }

        return firsts;
    }

    /// <summary>The first prefix that has the instruction at which a divergence shows.</summary>
    private static int LastNeeded(Divergence divergence, List<TestCase> prefixes)
    {
        ulong end = divergence.Case.Code.Address;
        int instructions = 0;
        foreach (byte length in divergence.Case.Code.Lengths)
        {
            instructions++;
            end += length;
            if (end > divergence.Instruction.Address)
            {
                break;
            }
        }

        return Math.Clamp(prefixes.Count - (divergence.Case.Code.Lengths.Length - instructions), 0, Math.Max(0, prefixes.Count - 1));
    }

    /// <summary>Puts a smaller candidate that diverges in the place of each cut, all cuts together step by step: first the one that is guessed and the one before it, then the middle of what is left.</summary>
    private static void Halve(CaseRunner runner, Examination?[] cuts, Func<Examination, List<TestCase>> candidatesOf, Func<Examination, List<TestCase>, int> guess)
    {
        List<TestCase>[] candidates = [.. cuts.Select(cut => cut is null ? [] : candidatesOf(cut))];
        int[] low = new int[cuts.Length];
        int[] high = [.. candidates.Select(list => list.Count)];
        int[] next = [.. cuts.Select((cut, i) => candidates[i].Count == 0 ? 0 : guess(cut!, candidates[i]))];
        for (bool guessed = true; Enumerable.Range(0, cuts.Length).Where(i => low[i] < high[i]).ToArray() is { Length: > 0 } open; guessed = false)
        {
            (int Cut, int Place)[] asked = [.. open.SelectMany(i => guessed && next[i] > 0 ? [(i, next[i]), (i, next[i] - 1)] : ((int, int)[])[(i, next[i])])];
            ImmutableArray<Examination> examined = runner.Examine([.. asked.Select(a => candidates[a.Cut][a.Place])]);
            for (int k = 0; k < asked.Length; k++)
            {
                (int i, int place) = asked[k];
                if (!examined[k].Diverges)
                {
                    low[i] = Math.Max(low[i], place + 1);
                }
                else if (place < high[i])
                {
                    (high[i], cuts[i]) = (place, examined[k]);
                }
            }

            foreach (int i in open)
            {
                next[i] = (low[i] + high[i]) / 2;
            }
        }
    }
}
