namespace PvDiffFuzz.Harness;

/// <summary>Asks whether only undefined bits differ, or what was computed from them, by the widest reading of the undefined-bits table.</summary>
public sealed class MaskAuditDoubt : IDoubt
{
    /// <inheritdoc/>
    public string Name => "mask-audit";

    /// <inheritdoc/>
    public DoubtResult Examine(Suspect suspect)
    {
        Comparison comparison = suspect.Divergence.Comparison;
        if (comparison.Consumed)
        {
            return DoubtResult.Explained(VerdictKind.UndefinedBehaviour, string.Join(", ", comparison.ConsumedRows));
        }

        CaseMask widest = suspect.Runner.Analyst.WidestMask(suspect.Case);
        return suspect.Runner.Comparer.CompareUnder(suspect.Case, suspect.Divergence.Outcomes.AsSpan(), widest).Result == ComparisonResult.Agreement
            ? DoubtResult.Explained(VerdictKind.UndefinedBehaviour, string.Join(", ", widest.Rows))
            : DoubtResult.Survived;
    }
}
