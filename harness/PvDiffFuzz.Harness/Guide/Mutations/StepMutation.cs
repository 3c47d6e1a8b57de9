using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Changes what the supervisor does after events: a response more or less, where it goes, what it patches, which hypercalls it makes.</summary>
internal sealed class StepMutation : IMutation
{
    private const int MostResponses = 12;

    /// <inheritdoc/>
    public int Weight => 16;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        ImmutableArray<Response> responses = testCase.Responses;
        int at = random.Below(responses.Length + 1);
        switch (random.Below(8))
        {
            case 0 or 1 when responses.Length < MostResponses:
                // One more that goes on behind what raised the event, or a donor's.
                return testCase with { Responses = responses.Insert(at, Another(testCase, donor, ref random)) };
            case 2 when responses.Length > 0:
                return testCase with { Responses = responses.RemoveAt(random.Below(responses.Length)) };
            case 3 when responses.Length > 0 && responses.Length < MostResponses:
                return testCase with { Responses = responses.Insert(at, responses[random.Below(responses.Length)]) };
            case < 8 when responses.Length > 0:
                int changed = random.Below(responses.Length);
                return Change(responses[changed], testCase, donor, ref random) is Response other ? testCase with { Responses = responses.SetItem(changed, other) } : null;
            default:
                return null;
        }
    }

    private static Response Another(TestCase testCase, TestCase donor, ref CounterRandom random) =>
        donor.Responses.Length > 0 && random.Percent(40) ? donor.Responses[random.Below(donor.Responses.Length)]
        : new Response(random.Percent(85) ? [KeyValuePair.Create(Register.Rip, Values.Instruction(testCase, ref random))] : [])
        {
            Return = testCase.Responses.Length > 0 ? testCase.Responses[random.Below(testCase.Responses.Length)].Return
                : donor.Responses.Length > 0 ? donor.Responses[0].Return
                : Rung.Back(testCase),
        };

    private static Response? Change(Response response, TestCase testCase, TestCase donor, ref CounterRandom random)
    {
        Response? other = donor.Responses.Length > 0 ? donor.Responses[random.Below(donor.Responses.Length)] : null;
        switch (random.Below(8))
        {
            case < 3:
                return response with { Patches = Patched(response.Patches, Register.Rip, Values.Instruction(testCase, ref random)) };
            case 3 when !response.Patches.IsEmpty:
                return response with { Patches = response.Patches.RemoveAt(random.Below(response.Patches.Length)) };
            case 4 when other is { Patches.IsEmpty: false }:
                (Register register, ulong value) = other.Patches[random.Below(other.Patches.Length)];
                return response with { Patches = Patched(response.Patches, register, value) };
            case 5 when !response.Patches.IsEmpty:
                (Register patched, ulong now) = response.Patches[random.Below(response.Patches.Length)];
                return response with { Patches = Patched(response.Patches, patched, Values.Next(now, testCase, ref random)) };
            case 6 when other is not null:
                return response with { Hypercalls = response.Hypercalls.IsEmpty || random.Percent(50) ? other.Hypercalls : [] };
            case 7 when other is not null:
                return response with { Return = other.Return };
            default:
                return null;
        }
    }

    private static ImmutableArray<KeyValuePair<Register, ulong>> Patched(ImmutableArray<KeyValuePair<Register, ulong>> patches, Register register, ulong value) =>
        [.. patches.Where(patch => patch.Key < register), KeyValuePair.Create(register, value), .. patches.Where(patch => patch.Key > register)];
}
