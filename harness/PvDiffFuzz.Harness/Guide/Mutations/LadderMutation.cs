using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Gives a case one response an instruction, each of which goes on one instruction further than the one before, so that every instruction is reached, whichever of them raise events.</summary>
internal sealed class LadderMutation : IMutation
{
    private const int MostResponses = 32;

    /// <inheritdoc/>
    public int Weight => 6;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context) => Climb(testCase, ref random);

    /// <summary>The case with its ladder; what its own responses call and make pending stays.</summary>
    public static TestCase Climb(TestCase testCase, ref CounterRandom random)
    {
        bool stack = random.Percent(40);
        Response[] rungs = new Response[Math.Min(MostResponses, testCase.Code.Lengths.Length)];
        ulong at = testCase.Code.Address;
        for (int i = 0; i < rungs.Length; i++)
        {
            at += testCase.Code.Lengths[i];
            Response? own = i < testCase.Responses.Length ? testCase.Responses[i] : null;
            rungs[i] = Rung.To(testCase, at, stack) with { Hypercalls = own?.Hypercalls ?? [], Inject = own?.Inject };
        }

        return testCase with { Responses = ImmutableCollectionsMarshal.AsImmutableArray(rungs) };
    }
}
