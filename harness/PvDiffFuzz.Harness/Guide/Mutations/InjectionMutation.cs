using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Makes something from outside pending at the start or behind a response, or takes it away. A Xen guest has event upcalls, and at the start they are on its system side.</summary>
internal sealed class InjectionMutation : IMutation
{
    /// <inheritdoc/>
    public int Weight => 5;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        if (testCase.Abi == Abi.X86)
        {
            return null;
        }

        bool xen = testCase.Abi.IsXen();
        Injection? pending = random.Below(4) switch
        {
            0 => null,
            _ when xen => new Injection(InjectionKind.Upcall, 0),
            1 => new Injection(InjectionKind.Nmi, Injection.NmiVector),
            2 => donor.Inject,
            _ => new Injection(InjectionKind.Interrupt, (byte)(Injection.LowestInterrupt + random.Below(256 - Injection.LowestInterrupt))),
        };
        ImmutableArray<Response> responses = testCase.Responses;
        if (responses.IsEmpty || (!xen && random.Percent(50)))
        {
            return xen || pending == testCase.Inject ? null : testCase with { Inject = pending };
        }

        int at = random.Below(responses.Length);
        return pending == responses[at].Inject ? null : testCase with { Responses = responses.SetItem(at, responses[at] with { Inject = pending }) };
    }
}
