using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Which cases this target can run.</summary>
/// <param name="version">The Xen at hand.</param>
/// <param name="vendor">Maker of the emulated processor.</param>
/// <param name="emulated">True when QEMU itself executes.</param>
internal sealed class XenRules(XenVersion version, CpuVendor vendor, bool emulated)
{
    /// <summary>Flags that POPF cannot load so that the payload starts with them: the step would be the agent's, and RF is always cleared.</summary>
    public const ulong NotByJump = RflagsBits.TF | RflagsBits.RF;

    private const ulong Cr0 = 0x8005_0033;

    /// <summary>Tells why this target cannot run a case.</summary>
    /// <returns>Null when it can, as far as can be told without running it.</returns>
    public string? Trouble(TestCase testCase)
    {
        if (testCase.Abi != Abi.XenPv64)
        {
            return $"this kernel speaks {Abi.XenPv64.Text()}, not {testCase.Abi.Text()}";
        }

        XenState xen = testCase.Xen!;
        if (xen.Version is XenVersion other && other != version)
        {
            return $"the case is about Xen {other}, and this is {version}";
        }

        if (testCase.Profile is { } profile && profile.Vendor != vendor)
        {
            return $"the case is about a processor of {profile.Vendor}, and this one is of {vendor}";
        }

        if (emulated && Payload.LoadsNoSegment(testCase))
        {
            return "the emulator's MOV to CS takes Xen down, and one to a segment register that does not exist overwrites the task register, descriptor tables or control registers of the machine";
        }

        return TroubleOfStart(testCase) ?? TroubleOfSelectors(testCase);
    }

    private static string? TroubleOfStart(TestCase testCase)
    {
        SystemState system = testCase.System;
        if (system[SystemRegister.NmiMasked] != 0)
        {
            return "the agent cannot hold NMIs back";
        }

        if ((system[SystemRegister.Cr0] & ~GuestState.Cr0TaskSwitched & ~Cr0) != 0)
        {
            return $"CR0 = {system[SystemRegister.Cr0]:x}: of its bits a guest chooses TS alone, and Xen's own are {Cr0:x}";
        }

        ulong mask = system[SystemRegister.XenUpcallMask];
        bool byReturn = testCase.Xen!.IretFlags is null && (testCase.Registers.Rflags & NotByJump) != 0;
        return byReturn && (mask > 1 || (mask == 0 && system[SystemRegister.XenUpcallPending] != 0))
            ? "TF and RF are loaded by a return, which sets the upcall mask to 0 or 1 and delivers what is pending"
            : !system.TryGet(SystemRegister.Cr4, out _) && (Payload.Of(testCase) & Effects.SeesCr4) != 0 ? "the payload may see CR4, and the case does not state it"
            : null;
    }

    private static string? TroubleOfSelectors(TestCase testCase)
    {
        foreach (Register register in (ReadOnlySpan<Register>)[Register.Ds, Register.Es, Register.Fs, Register.Gs])
        {
            if (!IsLoadable(testCase.Registers[register]))
            {
                return $"{register.ToString().ToUpperInvariant()} = {testCase.Registers[register]:x}: the agent cannot load it, or it does not stay";
            }
        }

        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                if (register is Register.Ds or Register.Es or Register.Fs or Register.Gs && !IsLoadable(value))
                {
                    return $"{register.ToString().ToUpperInvariant()} = {value:x}: the agent cannot load it, or it does not stay";
                }
            }
        }

        return null;
    }

    /// <summary>Xen's descriptors of DPL 3: both code segments can be read.</summary>
    private static bool IsLoadable(ulong selector) => selector == 0 || (selector | 3) is XenMap.FlatCode64 or XenMap.FlatCode32 or XenMap.FlatData;
}
