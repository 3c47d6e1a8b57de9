using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Which cases this target can run.</summary>
/// <param name="host">The host.</param>
/// <param name="profile">The processor at hand.</param>
/// <param name="emulated">True when the host's own processor is emulated.</param>
internal sealed class PvmRules(PvmHost host, CpuProfile profile, bool emulated)
{
    /// <summary>Tells why this target cannot run a case.</summary>
    /// <returns>Null when it can, as far as can be told without running it.</returns>
    public string? Trouble(TestCase testCase)
    {
        if (testCase.Abi != host.Revision)
        {
            return $"this host speaks {host.Revision.Text()}, not {testCase.Abi.Text()}";
        }

        if (testCase.Profile is { } other && !other.Equals(profile))
        {
            return "the case is about another processor than this host's";
        }

        if (testCase.Registers.Pkru is not null && testCase.Start == GuestMode.Supervisor)
        {
            return "guests of this host have no protection keys";
        }

        if (host.Revision != Abi.PvmRfc1 && HasNmiBehindReturn(testCase))
        {
            return "this revision does not mask NMIs, so that none can be held back until a return is done";
        }

        if (testCase.System.TryGet(SystemRegister.PvmLinearAddressRange, out ulong range) && range != host.Range)
        {
            return $"the case has the linear address range {range:x}, and this host has {host.Range:x}";
        }

        if (HasHypercall(testCase.Code.Bytes.AsSpan()))
        {
            return "VMCALL and VMMCALL leave to a hypervisor below this host, or are patched by it";
        }

        if (emulated && EmulatorEscapes.Trouble(testCase, profile.Vendor) is string escape)
        {
            return escape;
        }

        foreach (Register register in (ReadOnlySpan<Register>)[Register.Ds, Register.Es, Register.Fs, Register.Gs])
        {
            if (!IsLoadable(testCase.Registers[register]))
            {
                return $"{register.ToString().ToUpperInvariant()} = {testCase.Registers[register]:x}: no descriptor that CPL3 can load, or a null selector 1 to 3, which does not stay";
            }
        }

        return TroubleOf(testCase.Layout) ?? TroubleOf(testCase.UserPages) ?? TroubleOfResponses(testCase);
    }

    private static string? TroubleOf(PageLayout layout)
    {
        foreach (PageRange range in layout.Ranges)
        {
            if (range.Access != PageAccess.None && range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }
        }

        return null;
    }

    private static bool HasNmiBehindReturn(TestCase testCase)
    {
        if (testCase is { Start: GuestMode.User, Inject.Kind: InjectionKind.Nmi })
        {
            return true;
        }

        foreach (Response response in testCase.Responses)
        {
            if (response.Inject is { Kind: InjectionKind.Nmi })
            {
                return true;
            }
        }

        return false;
    }

    private static string? TroubleOfResponses(TestCase testCase)
    {
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                if (register is Register.Ds or Register.Es or Register.Fs or Register.Gs && !IsLoadable(value))
                {
                    return $"{register.ToString().ToUpperInvariant()} = {value:x}: the agent cannot load it";
                }
            }
        }

        return null;
    }

    /// <summary>The descriptors of DPL 3 that every host has: both code segments can be read.</summary>
    private static bool IsLoadable(ulong selector) => selector == 0 || (selector | 3) is Selectors.UserData or Selectors.UserCode32 or Selectors.UserCode64;

    /// <summary>True for the bytes of VMCALL or VMMCALL anywhere, since a jump can land anywhere.</summary>
    private static bool HasHypercall(ReadOnlySpan<byte> code)
    {
        while (code.IndexOf((ReadOnlySpan<byte>)[0x0f, 0x01]) is int at and >= 0)
        {
            code = code[(at + 2)..];
            if (code is [0xc1 or 0xd9, ..])
            {
                return true;
            }
        }

        return false;
    }
}
