using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Makes the code of a case anew as a chain of events: instructions that raised them elsewhere, each with what stood in front of it, and a response behind each that goes on with the next.</summary>
/// <remarks>What an ABI does may depend on the events before, so that sequences of them are worth as much as places in the code. Which events is chosen evenly, however rare their instructions are.</remarks>
internal sealed class ChainMutation : IMutation
{
    private const int MostLinks = 10;
    private const int LongestSetUp = 4;

    /// <inheritdoc/>
    public int Weight => 20;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        int count = 2 + random.Below(MostLinks - 1);
        List<CodePiece> pieces = [];
        int[] ends = new int[count];
        for (int i = 0; i < count; i++)
        {
            if (context.Raisers.Draw(testCase, ref random) is not (TestCase from, int raiser))
            {
                return null;
            }

            CodePiece[] theirs = CodeEdit.PiecesOf(from.Code);
            pieces.AddRange(theirs[Math.Max(0, raiser - random.Below(LongestSetUp))..(raiser + 1)].Select(piece => piece with { Origin = -1 }));
            ends[i] = pieces.Count;
        }

        // The first takes the place of the case's first, so that what leads to the code still does.
        pieces[0] = pieces[0] with { Origin = 0 };
        if (CodeEdit.Arrange(testCase, CollectionsMarshal.AsSpan(pieces), context.Vendor) is not TestCase chain)
        {
            return null;
        }

        Response[] responses = new Response[count];
        bool stack = random.Percent(40);
        ulong at = chain.Code.Address;
        for (int i = 0, piece = 0; i < count; i++)
        {
            for (; piece < ends[i]; piece++)
            {
                at += chain.Code.Lengths[piece];
            }

            responses[i] = Rung.To(chain, at, stack);
        }

        return chain with { Responses = ImmutableCollectionsMarshal.AsImmutableArray(responses) };
    }
}
