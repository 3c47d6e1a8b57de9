using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What a Xen guest has registered, its system side and the flags words of its returns to what a guest has where nothing is to be shown.</summary>
public sealed class DefaultXen : IReduction
{
    /// <inheritdoc/>
    public string Name => "default-xen";

    /// <inheritdoc/>
    public int Budget => 400;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        if (testCase.Xen is not XenState xen)
        {
            return [];
        }

        return Tables(testCase.Abi, xen).Select(plainer => testCase with { Xen = plainer })
            .Concat(Systems(testCase))
            .Concat(Responses(testCase))
            .Append(SimplyThere(testCase))
            .Where(proposal => !proposal.Equals(testCase));
    }

    /// <summary>What a register is when it does not matter; null when it is then not stated.</summary>
    internal static ulong? DefaultOf(Abi abi, SystemRegister register) => register switch
    {
        SystemRegister.Cr0 => 0x8005_0033,
        SystemRegister.Cr4 => 0x660,
        SystemRegister.Dr6 => 0xffff_0ff0,
        SystemRegister.Dr7 => 0x400,
        SystemRegister.XenKernelSp => AddressMap.LowBlock + XenMap.Stack + PageLayout.PageSize,
        SystemRegister.XenKernelSs => abi == Abi.XenPv32 ? XenMap.KernelData32 : XenMap.FlatData,
        _ => null,
    };

    private static IEnumerable<XenState> Tables(Abi abi, XenState xen)
    {
        XenTrapTable standard = abi == Abi.XenPv32 ? XenMap.Traps32 : XenMap.Traps;
        yield return xen with { Traps = standard, Gdt = [], Version = null };
        yield return xen with { Version = null };
        yield return xen with { Gdt = [] };
        foreach ((int start, int length) in Reductions.Chunks(xen.Gdt.Length))
        {
            yield return xen with { Gdt = xen.Gdt.RemoveRange(start, length) };
        }

        if (xen.IretFlags is > 0)
        {
            yield return xen with { IretFlags = 0 };
            foreach (ulong simpler in SimplifyRegisters.Simpler(xen.IretFlags.Value))
            {
                yield return xen with { IretFlags = simpler };
            }
        }

        foreach (XenTrapTable plainer in Plainer(xen.Traps, standard))
        {
            yield return xen with { Traps = plainer };
        }

        foreach ((int start, int length) in Reductions.Chunks(xen.Callbacks.Length))
        {
            yield return xen with { Callbacks = xen.Callbacks.RemoveRange(start, length) };
        }

        for (int i = 0; i < xen.Callbacks.Length; i++)
        {
            XenCallback callback = xen.Callbacks[i];
            XenCallback plain = callback with
            {
                MaskEvents = callback.Kind == XenCallbackKind.Nmi,
                Cs = abi == Abi.XenPv32 ? XenMap.KernelCode32 : XenMap.FlatCode64,
                Address = XenMap.CallbackAddress(abi, callback.Kind),
            };
            yield return xen with { Callbacks = xen.Callbacks.SetItem(i, plain) };
        }
    }

    /// <summary>Fewer entries that differ from those at the base, and plainer ones.</summary>
    private static IEnumerable<XenTrapTable> Plainer(XenTrapTable traps, XenTrapTable standard)
    {
        ImmutableArray<XenTrap> odd = traps.Overrides;
        foreach ((int start, int length) in Reductions.Chunks(odd.Length))
        {
            yield return odd.RemoveRange(start, length).Aggregate(traps.Base is null ? XenTrapTable.Empty : standard, (table, trap) => table.With(trap));
        }

        foreach (XenTrap trap in odd.Where(trap => trap.Address != 0))
        {
            yield return traps.With(trap with { Flags = (byte)(trap.Flags & ~XenTrap.MaskEvents) });
            yield return traps.With(standard[trap.Vector] with { Flags = trap.Flags });
        }
    }

    private static IEnumerable<TestCase> Systems(TestCase testCase)
    {
        SystemState system = testCase.System;
        ImmutableArray<KeyValuePair<SystemRegister, ulong>> odd = [.. system.Values.Where(v => DefaultOf(testCase.Abi, v.Key) != v.Value)];
        foreach ((int start, int length) in Reductions.Chunks(odd.Length))
        {
            SystemState plainer = system;
            foreach ((SystemRegister register, _) in odd.AsSpan(start, length))
            {
                plainer = DefaultOf(testCase.Abi, register) is ulong value ? plainer.With(register, value) : plainer.Without(register);
            }

            yield return testCase with { System = plainer };
        }

        foreach ((SystemRegister register, ulong value) in odd.Where(v => DefaultOf(testCase.Abi, v.Key) is null))
        {
            foreach (ulong simpler in SimplifyRegisters.Simpler(value))
            {
                yield return testCase with { System = system.With(register, simpler) };
            }
        }
    }

    private static IEnumerable<TestCase> Responses(TestCase testCase)
    {
        ImmutableArray<Response> responses = testCase.Responses;
        if (responses.Any(response => response.Flags != 0))
        {
            yield return testCase with { Responses = [.. responses.Select(response => response with { Flags = 0 })] };
        }

        for (int i = 0; i < responses.Length; i++)
        {
            foreach (ulong flags in SimplifyRegisters.Simpler(responses[i].Flags).Prepend(0UL).Where(flags => flags < responses[i].Flags))
            {
                yield return testCase with { Responses = responses.SetItem(i, responses[i] with { Flags = flags }) };
            }
        }
    }

    /// <summary>The guest's kernel without the return by which it was entered. The mask is then stated.</summary>
    private static TestCase SimplyThere(TestCase testCase)
    {
        if (testCase.Start == GuestMode.User || testCase.Xen!.IretFlags is null)
        {
            return testCase;
        }

        bool narrow = testCase.Abi == Abi.XenPv32;
        RegisterState r = testCase.Registers;
        ulong mask = (r.Rflags & RflagsBits.IF) == 0 ? 1UL : 0;
        return testCase with
        {
            Xen = testCase.Xen with { IretFlags = null },
            System = mask == 0 ? testCase.System : testCase.System.With(SystemRegister.XenUpcallMask, mask),
            Registers = r with
            {
                Rflags = (r.Rflags & RflagsBits.UserLoadable) | RflagsBits.Fixed1 | RflagsBits.IF,
                Cs = narrow ? XenMap.KernelCode32 : XenMap.FlatCode64,
                Ss = narrow ? XenMap.KernelData32 : XenMap.FlatData,
            },
        };
    }
}
