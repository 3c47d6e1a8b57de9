using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Changes the system side: a control register, an MSR, a field of a structure; for PVM the roots and the way between the modes, for Xen handlers, callbacks and the user root.</summary>
internal sealed class SystemMutation : IMutation
{
    /// <inheritdoc/>
    public int Weight => 12;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        ImmutableArray<KeyValuePair<SystemRegister, ulong>> stated = testCase.System.Values;
        if (stated.IsEmpty)
        {
            return null;
        }

        if (testCase.Pvm is PvmState pvm && donor.Pvm is PvmState other && random.Percent(10))
        {
            return testCase with { Pvm = random.Percent(50) ? pvm with { Path = other.Path } : pvm with { UserLayout = other.UserLayout } };
        }

        if (testCase.Xen is XenState xen && donor.Xen is XenState theirState && random.Percent(20))
        {
            return testCase with { Xen = Change(xen, theirState, ref random) };
        }

        ImmutableArray<KeyValuePair<SystemRegister, ulong>> given = donor.System.Values;
        switch (random.Below(4))
        {
            case 0 when !given.IsEmpty:
                // Also what the case does not state.
                (SystemRegister taken, ulong from) = given[random.Below(given.Length)];
                return testCase with { System = testCase.System.With(taken, from) };
            case 1:
                (SystemRegister same, ulong now) = stated[random.Below(stated.Length)];
                return donor.System.TryGet(same, out ulong theirs) && theirs != now ? testCase with { System = testCase.System.With(same, theirs) } : null;
            default:
                (SystemRegister changed, ulong value) = stated[random.Below(stated.Length)];
                return testCase with { System = testCase.System.With(changed, Values.Next(value, testCase, ref random)) };
        }
    }

    private static XenState Change(XenState xen, XenState theirs, ref CounterRandom random) => random.Below(7) switch
    {
        0 => xen with { Traps = theirs.Traps },
        1 => xen with { Traps = random.Percent(50) ? xen.Traps.Without((byte)random.Below(32)) : xen.Traps.With(theirs.Traps[(byte)random.Below(32)]) },
        2 => xen with { Callbacks = theirs.Callbacks },
        3 when xen.Callbacks.Length > 0 => xen with { Callbacks = xen.Callbacks.RemoveAt(random.Below(xen.Callbacks.Length)) },
        4 => xen with { IretFlags = theirs.IretFlags },
        5 => xen with { Version = theirs.Version },
        _ => xen with { UserLayout = random.Percent(50) ? theirs.UserLayout : PageLayout.Create([]) },
    };
}
