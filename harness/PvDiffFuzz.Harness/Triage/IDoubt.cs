using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A divergence under examination.</summary>
public sealed class Suspect
{
    /// <summary>The divergence as first seen.</summary>
    public required Divergence Divergence { get; init; }

    /// <summary>Long-lived targets of the triage thread.</summary>
    public required CaseRunner Runner { get; init; }

    /// <summary>Makes new instances of all targets.</summary>
    /// <exception cref="TargetUnavailableException">A target cannot be made any more.</exception>
    public required Func<CaseRunner> Fresh { get; init; }

    /// <summary>Cases that ran before this one where it was seen, in order; other material for another order.</summary>
    public ImmutableArray<TestCase> Neighbours { get; init; } = [];

    /// <summary>The case.</summary>
    public TestCase Case => Divergence.Case;
}

/// <summary>The result of a doubt.</summary>
/// <param name="Explanation">Null when the divergence survived; else the verdict that explains it away.</param>
public readonly record struct DoubtResult(Verdict? Explanation)
{
    /// <summary>The divergence is still unexplained.</summary>
    public static DoubtResult Survived => default;

    /// <summary>The divergence is explained.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="why">One line.</param>
    public static DoubtResult Explained(VerdictKind kind, string why) => new(new Verdict(kind, why));
}

/// <summary>One attempt to explain a divergence away before it is reported.</summary>
public interface IDoubt
{
    /// <summary>Short name, such as <c>repeat</c>.</summary>
    string Name { get; }

    /// <summary>Tries to explain.</summary>
    DoubtResult Examine(Suspect suspect);
}

/// <summary>All doubts in the order in which they are raised: the cheap and the damning first.</summary>
public static class Doubts
{
    /// <summary>The standard list.</summary>
    public static ImmutableArray<IDoubt> All { get; } = [new MaskAuditDoubt(), new StubDoubt(), new RepeatDoubt(5), new ReorderDoubt(), new IsolateDoubt()];

    /// <summary>Raises doubts until one explains the divergence.</summary>
    public static Verdict? FirstExplanation(IEnumerable<IDoubt> doubts, Suspect suspect) =>
        doubts.Select(d => d.Examine(suspect).Explanation).FirstOrDefault(v => v is not null);

    /// <summary>Compares two answers of one target to one case, undefined bits aside.</summary>
    /// <returns>Null when they are the same; else the verdict, <paramref name="kind"/> unless our machinery failed.</returns>
    internal static DoubtResult? Changed(Suspect suspect, int target, Outcome before, Outcome after, VerdictKind kind, string when)
    {
        string name = suspect.Runner.Infos[target].Name;
        if (before.Comparable != after.Comparable)
        {
            Outcome trouble = before.Comparable ? after : before;
            return DoubtResult.Explained(VerdictKind.HarnessFault, $"{name} answered {trouble.End} {when}: {trouble.Detail}");
        }

        if (!before.Comparable || OutcomeDiff.SameExactly(before, after))
        {
            return null;
        }

        CaseMask mask = suspect.Runner.Analyst.MaskAt(suspect.Case, int.MaxValue, suspect.Divergence.Outcomes.AsSpan());
        OutcomeDiff diff = new(suspect.Case, suspect.Runner.Infos[target].Masks, _ => mask, new Hidden());
        diff.Collect(before, after);
        return diff.Fields.Count == 0 ? null : DoubtResult.Explained(kind, $"{name} changed {string.Join(", ", diff.Fields.Take(4))} {when}");
    }

    /// <summary>Runs one case alone and takes the answers of all targets.</summary>
    internal static Outcome[] RunAlone(CaseRunner runner, TestCase testCase)
    {
        Outcome[] answers = new Outcome[runner.Infos.Length];
        for (int target = 0; target < answers.Length; target++)
        {
            runner.RunOn(target, [testCase], answers.AsSpan(target, 1));
        }

        return answers;
    }
}
