using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>General registers to 0, 1 or parts of their values.</summary>
public sealed class SimplifyRegisters : IReduction
{
    /// <inheritdoc/>
    public string Name => "simplify-registers";

    /// <inheritdoc/>
    public int Budget => 800;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        GprFile gpr = testCase.Registers.Gpr;
        int[] set = [.. Enumerable.Range(0, GprFile.Count).Where(i => testCase.Registers.Gpr[i] != 0)];
        foreach ((int start, int length) in Reductions.Chunks(set.Length))
        {
            GprFile zeroed = gpr;
            foreach (int i in set.AsSpan(start, length))
            {
                zeroed[i] = 0;
            }

            yield return testCase with { Registers = testCase.Registers with { Gpr = zeroed } };
        }

        foreach (int i in set)
        {
            foreach (ulong value in Simpler(testCase.Registers.Gpr[i]))
            {
                yield return testCase with { Registers = testCase.Registers.With((Register)i, value) };
            }
        }
    }

    /// <summary>Smaller numbers that keep some property of a value, ascending and without repetition; 0 is not among them.</summary>
    internal static IEnumerable<ulong> Simpler(ulong value)
    {
        SortedSet<ulong> simpler =
        [
            1, 2, value & (0 - value), value & 0xff, value & 0xffff, value & 0xffff_ffff, value & ~0xfffUL, 1UL << (int)ulong.Log2(value | 1),
        ];
        return simpler.Where(v => v != 0 && v < value);
    }
}

/// <summary>RFLAGS to its plainest value, or one bit less.</summary>
public sealed class SimplifyFlags : IReduction
{
    /// <inheritdoc/>
    public string Name => "simplify-flags";

    /// <inheritdoc/>
    public int Budget => 64;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        RegisterState registers = testCase.Registers;

        // The interrupt flag of PVM's supervisor code is that of the system side, which has a reduction of its own.
        ulong plain = RflagsBits.Fixed1 | (testCase.Start == GuestMode.User || testCase.Abi.IsXen() ? RflagsBits.IF : registers.Rflags & RflagsBits.IF);
        ulong set = registers.Rflags & ~plain;
        if (set == 0)
        {
            yield break;
        }

        yield return testCase with { Registers = registers with { Rflags = plain } };
        for (ulong left = set; left != 0; left &= left - 1)
        {
            yield return testCase with { Registers = registers with { Rflags = registers.Rflags & ~(left & (0 - left)) } };
        }
    }
}

/// <summary>Selectors and bases to 0, protection keys and debug registers to none.</summary>
public sealed class SimplifySegments : IReduction
{
    /// <inheritdoc/>
    public string Name => "simplify-segments";

    /// <inheritdoc/>
    public int Budget => 64;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        RegisterState r = testCase.Registers;
        ushort data = testCase.Abi switch
        {
            Abi.XenPv64 or Abi.XenPv64Fred => XenMap.FlatData,
            Abi.XenPv32 => testCase.Start == GuestMode.User ? XenMap.UserData32 : XenMap.KernelData32,
            _ => Selectors.UserData,
        };
        RegisterState plain = r with { Ss = data, Ds = 0, Es = 0, Fs = 0, Gs = 0, FsBase = 0, GsBase = 0, Pkru = null, Debug = null };
        RegisterState[] proposals =
        [
            plain,
            r with { Ss = data },
            r with { Ds = 0 },
            r with { Es = 0 },
            r with { Fs = 0 },
            r with { Gs = 0 },
            r with { FsBase = 0 },
            r with { GsBase = 0 },
            r with { Pkru = null },
            r with { Debug = null },
            .. FewerBreakpoints(r),
        ];
        return proposals.Where(p => p != r).Distinct().Select(p => testCase with { Registers = p });
    }

    /// <summary>One breakpoint alone, then one less.</summary>
    private static IEnumerable<RegisterState> FewerBreakpoints(RegisterState r)
    {
        if (r.Debug is not { } debug)
        {
            yield break;
        }

        foreach (bool keep in (bool[])[true, false])
        {
            for (int i = 0; i < 4; i++)
            {
                ulong fields = (3UL << (2 * i)) | (0xfUL << (16 + (4 * i)));
                bool Stays(int other) => keep == (other == i);
                yield return r with
                {
                    Debug = new DebugRegisters(
                        Stays(0) ? debug.Dr0 : 0, Stays(1) ? debug.Dr1 : 0, Stays(2) ? debug.Dr2 : 0, Stays(3) ? debug.Dr3 : 0, debug.Dr7 & (keep ? fields : ~fields)),
                };
            }
        }
    }
}

/// <summary>The constant page layout, under both roots where there are two, no processor profile, the default limits.</summary>
public sealed class DefaultSurroundings : IReduction
{
    /// <inheritdoc/>
    public string Name => "default-surroundings";

    /// <inheritdoc/>
    public int Budget => 64;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        if (testCase.Profile is not null)
        {
            yield return testCase with { Profile = null };
        }

        if (!testCase.Limits.Equals(CaseLimits.Default))
        {
            yield return testCase with { Limits = CaseLimits.Default };
        }

        bool xen = testCase.Abi.IsXen();
        PageLayout standard = xen ? XenMap.KernelLayout(testCase.Abi) : testCase.Pvm is null ? AddressMap.Standard : PvmMap.SupervisorLayout;
        PageLayout? standardUser = xen ? XenMap.UserLayout(testCase.Abi) : testCase.Pvm is null ? null : PvmMap.UserLayout;
        PageLayout? own = testCase.Pvm?.UserLayout ?? testCase.Xen?.UserLayout;
        if (standardUser is not null && !(testCase.Layout.Equals(standard) && standardUser.Equals(own)))
        {
            yield return WithUserLayout(testCase with { Layout = standard }, standardUser);
        }

        foreach (PageLayout fewer in Simpler(testCase.Layout, standard))
        {
            yield return testCase with { Layout = fewer };
        }

        foreach (PageLayout fewer in own is not null && standardUser is not null ? Simpler(own, standardUser) : [])
        {
            yield return WithUserLayout(testCase, fewer);
        }
    }

    private static TestCase WithUserLayout(TestCase testCase, PageLayout layout) =>
        testCase.Pvm is PvmState pvm ? testCase with { Pvm = pvm with { UserLayout = layout } } : testCase with { Xen = testCase.Xen! with { UserLayout = layout } };

    private static IEnumerable<PageLayout> Simpler(PageLayout layout, PageLayout standard)
    {
        if (layout.Equals(standard))
        {
            yield break;
        }

        yield return standard;
        for (int i = layout.Ranges.Length - 1; i >= 0; i--)
        {
            yield return PageLayout.Create(layout.Ranges.RemoveAt(i));
        }
    }
}

/// <summary>Fewer responses, and fewer patches in them.</summary>
public sealed class DropResponses : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-responses";

    /// <inheritdoc/>
    public int Budget => 300;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<Response> responses = testCase.Responses;
        foreach ((int start, int length) in Reductions.Chunks(responses.Length))
        {
            yield return testCase with { Responses = responses.RemoveRange(start, length) };
        }

        for (int i = 0; i < responses.Length; i++)
        {
            ImmutableArray<KeyValuePair<Register, ulong>> patches = responses[i].Patches;
            for (int patch = 0; patch < patches.Length; patch++)
            {
                yield return testCase with { Responses = responses.SetItem(i, responses[i] with { Patches = patches.RemoveAt(patch) }) };
                if (patches[patch].Value != 0)
                {
                    yield return testCase with { Responses = responses.SetItem(i, responses[i] with { Patches = patches.SetItem(patch, new(patches[patch].Key, 0)) }) };
                }
            }
        }
    }
}
