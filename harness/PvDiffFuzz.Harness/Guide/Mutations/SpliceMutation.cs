using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Joins two cases: the beginning of one's code and the rest of the other's, with the contents and the responses of both.</summary>
internal sealed class SpliceMutation : IMutation
{
    private const int MostResponses = 12;
    private const int MostInstructions = 48;

    /// <inheritdoc/>
    public int Weight => 8;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        if (donor.Mode != testCase.Mode || ReferenceEquals(testCase, donor))
        {
            return null;
        }

        CodePiece[] own = CodeEdit.PiecesOf(testCase.Code);
        CodePiece[] theirs = CodeEdit.PiecesOf(donor.Code);
        int keep = 1 + random.Below(own.Length);
        int from = random.Below(theirs.Length);
        if (keep + theirs.Length - from > MostInstructions)
        {
            return null;
        }

        CodePiece[] joined = [.. own[..keep], .. theirs[from..].Select(piece => piece with { Origin = -1 })];
        ImmutableArray<MemoryContents> contents = testCase.Contents;
        foreach (MemoryContents run in donor.Contents)
        {
            contents = ContentsMutation.Merge(contents, run);
        }

        ImmutableArray<Response> responses = testCase.Responses.Length + donor.Responses.Length > MostResponses ? testCase.Responses : testCase.Responses.AddRange(donor.Responses);
        return CodeEdit.Arrange(testCase with { Contents = random.Percent(50) ? contents : testCase.Contents, Responses = random.Percent(60) ? responses : testCase.Responses }, joined, context.Vendor);
    }
}
