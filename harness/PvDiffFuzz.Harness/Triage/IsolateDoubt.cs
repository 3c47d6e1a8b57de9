using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Runs the case first thing on fresh targets: an answer that differs from the long-lived instance's came from what that instance kept.</summary>
public sealed class IsolateDoubt : IDoubt
{
    /// <inheritdoc/>
    public string Name => "isolate";

    /// <inheritdoc/>
    public DoubtResult Examine(Suspect suspect)
    {
        CaseRunner fresh;
        try
        {
            fresh = suspect.Fresh();
        }
        catch (TargetUnavailableException e)
        {
            return DoubtResult.Explained(VerdictKind.HarnessFault, $"a fresh target could not be made: {e.Message}");
        }

        Outcome[] before = Doubts.RunAlone(suspect.Runner, suspect.Case);
        using (fresh)
        {
            Outcome[] answers = Doubts.RunAlone(fresh, suspect.Case);
            for (int target = 0; target < answers.Length; target++)
            {
                if (Doubts.Changed(suspect, target, before[target], answers[target], VerdictKind.StateLeak, "on a fresh target") is DoubtResult result)
                {
                    return result;
                }
            }

            return DoubtResult.Survived;
        }
    }
}
