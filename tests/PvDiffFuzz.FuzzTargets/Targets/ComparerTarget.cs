using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The comparer takes the outcomes that a case file stores: outcomes that are equal are one camp, the order of targets changes no camp, and who cannot be compared is in none.</summary>
/// <param name="compare">The comparer.</param>
internal sealed class ComparerTarget(Func<ImmutableArray<TargetInfo>, TestCase, ImmutableArray<Outcome>, Comparison> compare) : FuzzTarget
{
    /// <summary>Takes the comparer.</summary>
    public ComparerTarget()
        : this((infos, testCase, outcomes) => new Comparer(infos, CaseAnalyst.Blind).Compare(testCase, outcomes.AsSpan()))
    {
    }

    /// <inheritdoc/>
    public override void Run(byte[] input)
    {
        CaseFile file;
        try
        {
            file = CaseFile.Parse(input, "input", lenient: true);
        }
        catch (CaseFileException)
        {
            return;
        }

        if (file.Outcomes.IsEmpty)
        {
            return;
        }

        ImmutableArray<RecordedOutcome> recorded = file.Outcomes;
        string forward = Camps(file.Case, recorded);
        string backward = Camps(file.Case, [.. recorded.Reverse()]);
        if (!string.Equals(forward, backward, StringComparison.Ordinal))
        {
            throw new BrokenPromiseException($"camps depend on the order of targets: {forward} and {backward}");
        }

        string twice = Camps(file.Case, [recorded[0], recorded[0] with { Target = recorded[0].Target + ".twin" }]);
        if (recorded[0].Outcome.Comparable && !twice.Contains('+', StringComparison.Ordinal))
        {
            throw new BrokenPromiseException($"an outcome differs from itself: {twice}");
        }
    }

    /// <summary>Camps as text, whatever their order.</summary>
    private string Camps(TestCase testCase, ImmutableArray<RecordedOutcome> recorded)
    {
        ImmutableArray<TargetInfo> infos = [.. recorded.Select(r => new TargetInfo(r.Target, r.Kind, r.Lineage, Capabilities.None, r.Fingerprint))];
        Comparison comparison = compare(infos, testCase, [.. recorded.Select(r => r.Outcome)]);
        return string.Join('/', comparison.Camps.Select(camp => string.Join('+', camp.Members.Select(member => infos[member].Name).Order(StringComparer.Ordinal))).Order(StringComparer.Ordinal));
    }
}
