using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Asks whether supervisor code reads the bytes behind it, where each target has a jump stub of its own.</summary>
/// <remarks>A case says nothing of these bytes, so a model has zeros there. With other bytes there, a model shows whether any of them matters.</remarks>
public sealed class StubDoubt : IDoubt
{
    private const byte Other = 0xa5;

    /// <inheritdoc/>
    public string Name => "stub";

    /// <inheritdoc/>
    public DoubtResult Examine(Suspect suspect)
    {
        TestCase testCase = suspect.Case;
        if (testCase.Start != GuestMode.Supervisor)
        {
            return DoubtResult.Survived;
        }

        MemoryContents stub = new(testCase.Code.End, [.. Enumerable.Repeat(Other, TestCase.StubLength)]);
        TestCase other = testCase with { Contents = testCase.Contents.Add(stub) };
        for (int target = 0; target < suspect.Runner.Infos.Length; target++)
        {
            if (suspect.Runner.Infos[target].Kind == TargetKind.Model && !OutcomeDiff.SameExactly(Answer(suspect.Runner, target, testCase), Answer(suspect.Runner, target, other)))
            {
                return DoubtResult.Explained(VerdictKind.HarnessFault, "the payload reads the jump stub behind it, which is each target's own");
            }
        }

        return DoubtResult.Survived;
    }

    private static Outcome Answer(CaseRunner runner, int target, TestCase testCase)
    {
        Outcome[] answer = new Outcome[1];
        runner.RunOn(target, [testCase], answer);
        return answer[0];
    }
}
