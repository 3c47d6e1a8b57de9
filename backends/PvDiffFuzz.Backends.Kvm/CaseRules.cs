using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Which cases this target can run.</summary>
internal sealed class CaseRules
{
    private const string NoCompatibility = "this host emulates compatibility-mode code of guests, and not all of it, instead of running it";
    private const string NoNestedTask = "this host loses RFLAGS.NT whenever it interrupts a payload";

    private readonly bool[] _loadable = new bool[0x1_0000];
    private readonly bool[] _loadableStack = new bool[0x1_0000];
    private readonly CpuProfile _profile;
    private readonly KvmProbe _probe;

    /// <summary>Makes the rules.</summary>
    /// <param name="profile">The processor, with its descriptors.</param>
    /// <param name="probe">What works here.</param>
    public CaseRules(CpuProfile profile, KvmProbe probe)
    {
        _profile = profile;
        _probe = probe;
        _loadable[0] = true;
        foreach (SegmentDescriptor d in profile.Descriptors)
        {
            // Only descriptors of DPL 3 are loadable at CPL3, with any RPL; SS wants RPL 3 (SDM vol.3A 5.6 and 5.7).
            bool readable = d.IsData || (d.IsCode && (d.Type & 2) != 0);
            for (int rpl = 0; rpl < 4 && readable && d is { Present: true, Dpl: 3 }; rpl++)
            {
                _loadable[(d.Index * 8) + rpl] = true;
            }

            _loadableStack[(d.Index * 8) + 3] = d is { IsData: true, Present: true, Dpl: 3 } && (d.Type & 2) != 0;
        }
    }

    /// <summary>Tells why this target cannot run a case.</summary>
    /// <returns>Null when it can.</returns>
    public string? Trouble(TestCase testCase)
    {
        if (testCase.Abi != Abi.X86)
        {
            return $"kvm speaks the ABI x86, not {testCase.Abi.Text()}";
        }

        if (testCase.Profile is { } profile && !profile.Equals(_profile))
        {
            return "the case is about another processor than this host's";
        }

        if (!_probe.Compatibility && testCase.Mode == CpuMode.Compatibility32)
        {
            return NoCompatibility;
        }

        RegisterState registers = testCase.Registers;
        if (!_probe.NestedTask && (registers.Rflags & RflagsBits.NT) != 0)
        {
            return NoNestedTask;
        }

        if (registers.Pkru is not null)
        {
            return "kvm does not load PKRU";
        }

        if (registers.Debug is { } debug && TroubleOf(debug) is { } trouble)
        {
            return trouble;
        }

        if (HasHypercall(testCase.Code.Bytes.AsSpan()))
        {
            return "VMCALL and VMMCALL leave to a hypervisor below this host, which may act on them";
        }

        if (MentionsAgent(testCase))
        {
            return "the case has an address of the target's agent, which it could reach";
        }

        return !_loadableStack[registers.Ss] ? NotLoadable(Register.Ss, registers.Ss)
            : !_loadable[registers.Ds] ? NotLoadable(Register.Ds, registers.Ds)
            : !_loadable[registers.Es] ? NotLoadable(Register.Es, registers.Es)
            : !_loadable[registers.Fs] ? NotLoadable(Register.Fs, registers.Fs)
            : !_loadable[registers.Gs] ? NotLoadable(Register.Gs, registers.Gs)
            : TroubleOfResponses(testCase);
    }

    /// <summary>Looks at an outcome before it goes out: what a payload did where this host does not run it is not known.</summary>
    public Outcome Review(Outcome outcome)
    {
        if (!_probe.Compatibility)
        {
            foreach (Event e in outcome.Events)
            {
                if (e.Registers.Cs == Selectors.UserCode32)
                {
                    return Outcome.Unsupported(NoCompatibility);
                }
            }
        }

        return outcome;
    }

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

    /// <summary>True when code, contents or a register hold an address at which the agent has a page: byte mutations can make one.</summary>
    private static bool MentionsAgent(TestCase testCase)
    {
        for (Register register = Register.Rax; register <= Register.GsBase; register++)
        {
            if (IsAgentPage(testCase.Registers[register]))
            {
                return true;
            }
        }

        bool found = HasAgentAddress(testCase.Code.Bytes.AsSpan());
        foreach (MemoryContents contents in testCase.Contents)
        {
            found |= HasAgentAddress(contents.Bytes.AsSpan());
        }

        return found;
    }

    private static bool HasAgentAddress(ReadOnlySpan<byte> bytes)
    {
        // The upper half of such an address, little-endian; what stands before it is the lower half.
        ReadOnlySpan<byte> upper = [0x00, 0x7e, 0x00, 0x00];
        for (int from = sizeof(uint); from < bytes.Length && bytes[from..].IndexOf(upper) is int at and >= 0; from += at + 1)
        {
            if (IsAgentPage(BinaryPrimitives.ReadUInt64LittleEndian(bytes[(from + at - sizeof(uint))..])))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>With room on both sides for an operand that begins before the first page or an offset behind the last.</summary>
    private static bool IsAgentPage(ulong address) => address - GuestMap.Base + PageLayout.PageSize < GuestMap.Doorbell + (3 * PageLayout.PageSize);

    private static string NotLoadable(Register segment, ulong value) =>
        $"{segment.ToString().ToUpperInvariant()} = {value:x}: no descriptor that user mode can load here, or a null selector 1 to 3, which does not stay";

    private string? TroubleOf(DebugRegisters debug)
    {
        if (!_probe.Breakpoints)
        {
            return "debug registers have no effect in guests of this host";
        }

        foreach (ulong address in (ReadOnlySpan<ulong>)[debug.Dr0, debug.Dr1, debug.Dr2, debug.Dr3])
        {
            if (address >= AddressMap.AgentFirst - 8 && address <= AddressMap.AgentLast)
            {
                return $"a breakpoint at {address:x}: this range belongs to the target's agent";
            }
        }

        return null;
    }

    private string? TroubleOfResponses(TestCase testCase)
    {
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                string? trouble = register switch
                {
                    Register.Cs when value == Selectors.UserCode32 && !_probe.Compatibility => NoCompatibility,
                    Register.Rflags when (value & RflagsBits.NT) != 0 && !_probe.NestedTask => NoNestedTask,
                    Register.Ss when !_loadableStack[(ushort)value] => NotLoadable(register, value),
                    Register.Ds or Register.Es or Register.Fs or Register.Gs when !_loadable[(ushort)value] => NotLoadable(register, value),
                    _ => null,
                };
                if (trouble is not null)
                {
                    return trouble;
                }
            }
        }

        return null;
    }
}
