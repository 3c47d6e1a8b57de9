using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Inserts, drops, replaces, repeats and moves runs of instructions. What is inserted comes from another case with the set-up in front of it.</summary>
internal sealed class InstructionMutation : IMutation
{
    private const int LongestRun = 8;
    private const int MostInstructions = 64;

    /// <inheritdoc/>
    public int Weight => 30;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        List<CodePiece> pieces = [.. CodeEdit.PiecesOf(testCase.Code)];
        int at = random.Below(pieces.Count + 1);
        int length = Math.Min(1 + random.Below(random.Percent(50) ? 2 : LongestRun), pieces.Count - at);
        switch (random.Below(6))
        {
            case 0 or 1 when donor.Mode == testCase.Mode:
                pieces.InsertRange(at, Foreign(donor, ref random));
                break;
            case 2 when donor.Mode == testCase.Mode && length > 0:
                pieces.RemoveRange(at, length);
                pieces.InsertRange(at, Foreign(donor, ref random));
                break;
            case 3 when length > 0 && length < pieces.Count:
                pieces.RemoveRange(at, length);
                break;
            case 4 when length > 0:
                pieces.InsertRange(random.Below(pieces.Count + 1), pieces.GetRange(at, length));
                break;
            case 5 when length > 0 && length < pieces.Count:
                List<CodePiece> moved = pieces.GetRange(at, length);
                pieces.RemoveRange(at, length);
                pieces.InsertRange(random.Below(pieces.Count + 1), moved);
                break;
            default:
                return null;
        }

        return pieces.Count is 0 or > MostInstructions ? null : CodeEdit.Arrange(testCase, [.. pieces], context.Vendor);
    }

    /// <summary>A run of another case's instructions: mostly a few from somewhere, sometimes everything up to one.</summary>
    private static CodePiece[] Foreign(TestCase donor, ref CounterRandom random)
    {
        CodePiece[] pieces = CodeEdit.PiecesOf(donor.Code);
        int end = 1 + random.Below(pieces.Length);
        int length = Math.Min(1 + random.Below(random.Percent(50) ? 3 : LongestRun), end);
        return [.. pieces[(end - length)..end].Select(piece => piece with { Origin = -1 })];
    }
}
