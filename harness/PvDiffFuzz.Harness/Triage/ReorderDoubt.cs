using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Runs the case in batches among others, in the order in which it was seen and in reverse: an answer that depends on them is leaked state.</summary>
public sealed class ReorderDoubt : IDoubt
{
    /// <inheritdoc/>
    public string Name => "reorder";

    /// <inheritdoc/>
    public DoubtResult Examine(Suspect suspect)
    {
        if (suspect.Neighbours.IsEmpty)
        {
            return DoubtResult.Survived;
        }

        Outcome[] alone = Doubts.RunAlone(suspect.Runner, suspect.Case);
        TestCase[] asSeen = [.. suspect.Neighbours, suspect.Case];
        TestCase[] reversed = [suspect.Case, .. suspect.Neighbours.Reverse(), suspect.Case];
        return Compare(suspect, alone, asSeen, "after the cases that ran before it") ?? Compare(suspect, alone, reversed, "after those cases in reverse") ?? DoubtResult.Survived;
    }

    private static DoubtResult? Compare(Suspect suspect, Outcome[] alone, TestCase[] batch, string when)
    {
        Outcome[] answers = new Outcome[batch.Length];
        for (int target = 0; target < alone.Length; target++)
        {
            suspect.Runner.RunOn(target, batch, answers);
            for (int i = 0; i < batch.Length; i++)
            {
                if (ReferenceEquals(batch[i], suspect.Case) && Doubts.Changed(suspect, target, alone[target], answers[i], VerdictKind.StateLeak, when) is DoubtResult result)
                {
                    return result;
                }
            }
        }

        return null;
    }
}
