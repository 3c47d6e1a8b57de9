using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Runs the case several times on each target: an answer that changes is not deterministic.</summary>
/// <param name="times">Runs on each target, 2 or more.</param>
public sealed class RepeatDoubt(int times) : IDoubt
{
    /// <inheritdoc/>
    public string Name => "repeat";

    /// <inheritdoc/>
    public DoubtResult Examine(Suspect suspect)
    {
        Outcome[] first = Doubts.RunAlone(suspect.Runner, suspect.Case);
        for (int run = 2; run <= times; run++)
        {
            Outcome[] again = Doubts.RunAlone(suspect.Runner, suspect.Case);
            for (int target = 0; target < first.Length; target++)
            {
                if (Doubts.Changed(suspect, target, first[target], again[target], VerdictKind.NonDeterministic, $"between run 1 and run {run}") is DoubtResult result)
                {
                    return result;
                }
            }
        }

        return DoubtResult.Survived;
    }
}
