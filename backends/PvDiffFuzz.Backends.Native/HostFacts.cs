using System.Globalization;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>What this host can do, as the target needs it: which cases it can run, and which outcomes Linux spoils.</summary>
internal sealed class HostFacts
{
    private const ulong SupervisorFlags = ~(RflagsBits.UserLoadable | RflagsBits.Fixed1 | RflagsBits.IF);

    private static readonly Lazy<HostFacts> Host = new(Probe);

    private readonly bool[] _loadable = new bool[0x1_0000];
    private readonly bool[] _loadableStack = new bool[0x1_0000];
    private readonly bool _checked;

    private HostFacts(bool segmentBases, ulong lowestAddress)
    {
        SegmentBases = segmentBases;
        LowestAddress = lowestAddress;
        Info = new TargetInfo("native", TargetKind.Hardware, "hardware", Capabilities.CompatibilityMode, Fingerprint.Empty);
    }

    private HostFacts(HostFacts basic, HostProbe probe)
        : this(basic.SegmentBases, basic.LowestAddress)
    {
        _checked = true;
        Profile = probe.Profile;
        DebugRegisters = probe.DebugRegisters;
        _loadable[0] = true;
        foreach (SegmentDescriptor descriptor in probe.Profile.Descriptors)
        {
            // Only descriptors of DPL 3 are visible and loadable at CPL3, with any RPL; SS wants RPL 3 (SDM vol.3A 5.6 and 5.7).
            bool readable = descriptor.IsData || (descriptor.IsCode && (descriptor.Type & 2) != 0);
            for (int rpl = 0; rpl < 4 && readable && descriptor is { Present: true, Dpl: 3 }; rpl++)
            {
                _loadable[(descriptor.Index * 8) + rpl] = true;
            }

            _loadableStack[(descriptor.Index * 8) + 3] = descriptor is { IsData: true, Present: true, Dpl: 3 } && (descriptor.Type & 2) != 0;
        }

        Capabilities capabilities = Capabilities.CompatibilityMode | Capabilities.Responses;
        capabilities |= SegmentBases ? Capabilities.SegmentBases : Capabilities.None;
        capabilities |= DebugRegisters ? Capabilities.DebugRegisters : Capabilities.None;
        Info = new TargetInfo("native", TargetKind.Hardware, "hardware", capabilities, probe.Fingerprint) { Masks = NativeMasks.All };
    }

    /// <summary>The facts of the host that this process runs on, probed once.</summary>
    /// <exception cref="TargetUnavailableException">It cannot run the target.</exception>
    public static HostFacts OfThisHost
    {
        get
        {
            NativeTarget.RequirePlatform();
            return Host.Value;
        }
    }

    /// <summary>True when RDFSBASE and its relatives can be used.</summary>
    public bool SegmentBases { get; }

    /// <summary>True when ptrace(2) may set the debug registers of a child.</summary>
    public bool DebugRegisters { get; }

    /// <summary>The lowest address that a process can map.</summary>
    public ulong LowestAddress { get; }

    /// <summary>The processor, or null while it is being probed.</summary>
    public CpuProfile? Profile { get; }

    /// <summary>What the target says of itself.</summary>
    public TargetInfo Info { get; }

    /// <summary>Tells why this host cannot run a case.</summary>
    /// <returns>Null when it can.</returns>
    public string? Trouble(TestCase testCase)
    {
        if (!_checked)
        {
            return null;
        }

        if (testCase.Abi != Abi.X86)
        {
            return $"native speaks the ABI x86, not {testCase.Abi}";
        }

        if (testCase.Profile is { } profile && !profile.Equals(Profile))
        {
            return "the case is about another processor than this host's";
        }

        RegisterState registers = testCase.Registers;
        if (registers.Pkru is not null)
        {
            return "native does not load PKRU";
        }

        if (registers.Debug is { } debug && TroubleOf(debug) is { } trouble)
        {
            return trouble;
        }

        return !_loadableStack[registers.Ss] ? NotLoadable(Register.Ss, registers.Ss)
            : !_loadable[registers.Ds] ? NotLoadable(Register.Ds, registers.Ds)
            : !_loadable[registers.Es] ? NotLoadable(Register.Es, registers.Es)
            : !_loadable[registers.Fs] ? NotLoadable(Register.Fs, registers.Fs)
            : !_loadable[registers.Gs] ? NotLoadable(Register.Gs, registers.Gs)
            : TroubleOfBase(registers.FsBase) ?? TroubleOfBase(registers.GsBase) ?? TroubleOfResponses(testCase);
    }

    /// <summary>Looks at an outcome before it goes out: where Linux did something of its own, the processor's behaviour is not known.</summary>
    public Outcome Review(TestCase testCase, Outcome outcome, ulong vdso)
    {
        if (!outcome.Comparable)
        {
            return outcome;
        }

        for (int i = 0; i < outcome.Events.Length; i++)
        {
            Event e = outcome.Events[i];
            if (e.Entry == EntryPoint.Lstar && (e.Registers.Gpr[1] != e.Registers.Rip || e.Registers.Gpr[11] != e.Registers.Rflags))
            {
                return Outcome.Unsupported("Linux emulates calls into the vsyscall page");
            }

            if (e.Registers.Cs == Selectors.UserCode32 && InVdso(e.Registers.Rip, vdso) && testCase.Layout.AccessAt(e.Registers.Rip) == PageAccess.None)
            {
                return Outcome.Unsupported("Linux returns from SYSCALL and SYSENTER of 32-bit code to its vDSO, whose place varies");
            }

            if (e.Vector == 0x80 && i + 1 < outcome.Events.Length && !Patches(testCase.Responses[i], Register.Rax))
            {
                return Outcome.Unsupported("Linux loses the upper half of RAX at INT 0x80, and the case goes on with it");
            }

            if (MayBeRestarted(e) && i + 1 < outcome.Events.Length && !(Patches(testCase.Responses[i], Register.Rax) && Patches(testCase.Responses[i], Register.Rip)))
            {
                return Outcome.Unsupported("Linux may have taken the refused system call for one of its own to restart, and the case goes on with the RAX and RIP of that");
            }

            if (e.Vector == 1 && i + 1 < outcome.Events.Length && MeetsInstructionBreakpoint(testCase, e) && !Patches(testCase.Responses[i], Register.Rflags))
            {
                return Outcome.Unsupported("Linux sets RF at an instruction breakpoint, and the case goes on with it");
            }
        }

        return outcome;
    }

    /// <summary>A system call whose RAX Linux takes for a request to restart it, or replaced by EINTR, which the number may also have been; see <see cref="NativeMasks"/>.</summary>
    private static bool MayBeRestarted(Event e)
    {
        const int interrupted = -4;
        long rax = (long)e.Registers.Gpr[0];
        long error = e.Vector == 0x80 ? (int)rax : rax;
        return (e.Entry == EntryPoint.Lstar || e.Vector == 0x80) && (error is interrupted or (>= -516 and <= -512));
    }

    /// <summary>RF is Linux's when the interrupted RIP is an armed execution address.</summary>
    private static bool MeetsInstructionBreakpoint(TestCase testCase, Event e)
    {
        if (testCase.Registers.Debug is not { } debug || (e.Registers.Rflags & RflagsBits.RF) == 0)
        {
            return false;
        }

        ReadOnlySpan<ulong> addresses = [debug.Dr0, debug.Dr1, debug.Dr2, debug.Dr3];
        for (int i = 0; i < addresses.Length; i++)
        {
            bool executes = ((debug.Dr7 >> (2 * i)) & 3) != 0 && ((debug.Dr7 >> (16 + (4 * i))) & 3) == 0;
            if (executes && addresses[i] == e.Registers.Rip)
            {
                return true;
            }
        }

        return false;
    }

    private static bool InVdso(ulong rip, ulong vdso)
    {
        // A return to compatibility mode may show only the low half of the address.
        const ulong room = 0x4000;
        return vdso != 0 && (rip - vdso < room || (rip <= uint.MaxValue && rip - (uint)vdso < room));
    }

    private static bool Patches(Response response, Register register)
    {
        foreach ((Register patched, _) in response.Patches)
        {
            if (patched == register)
            {
                return true;
            }
        }

        return false;
    }

    private static string NotLoadable(Register segment, ulong value) =>
        $"{segment.ToString().ToUpperInvariant()} = {value:x}: no descriptor that user mode can load here, or a null selector 1 to 3, which does not stay";

    private string? TroubleOf(DebugRegisters debug)
    {
        if (!DebugRegisters)
        {
            return "this host does not let ptrace(2) set the debug registers of a child";
        }

        foreach (ulong address in (ReadOnlySpan<ulong>)[debug.Dr0, debug.Dr1, debug.Dr2, debug.Dr3])
        {
            if (address >= LayoutRules.UserEnd || (address >= AddressMap.AgentFirst - 8 && address <= AddressMap.AgentLast))
            {
                return $"a breakpoint at {address:x}: Linux and the target's agent keep these addresses to themselves";
            }
        }

        return null;
    }

    private string? TroubleOfBase(ulong value) =>
        value == 0 ? null
        : !SegmentBases ? "this host has no FSGSBASE, so segment bases other than 0 cannot be loaded"
        : (ulong)((long)(value << 16) >> 16) != value && Profile!.LinearBits == 48 ? $"a segment base of {value:x} is not canonical"
        : null;

    private string? TroubleOfResponses(TestCase testCase)
    {
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                string? trouble = register switch
                {
                    Register.Rflags when (value & SupervisorFlags) != 0 || (value & RflagsBits.IF) == 0 =>
                        $"a return with RFLAGS = {value:x}: IRETQ at CPL3 cannot change IF, IOPL and VM",
                    Register.Ss when !_loadableStack[(ushort)value] => NotLoadable(register, value),
                    Register.Ds or Register.Es or Register.Fs or Register.Gs when !_loadable[(ushort)value] => NotLoadable(register, value),
                    Register.FsBase or Register.GsBase => TroubleOfBase(value),
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

    private static HostFacts Probe()
    {
        bool segmentBases = (LibCMore.getauxval(LinuxAbi.AT_HWCAP2) & LinuxAbi.HWCAP2_FSGSBASE) != 0;
        try
        {
            HostFacts basic = new(segmentBases, LowestMappable());
            return new HostFacts(basic, HostProbe.Run(basic));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new TargetUnavailableException($"the host cannot be probed: {e.Message}", "mount /proc readable, with /proc/cpuinfo and /proc/sys", e);
        }
    }

    private static ulong LowestMappable()
    {
        const ulong page = PageLayout.PageSize;
        string text = File.ReadAllText("/proc/sys/vm/mmap_min_addr");
        return ulong.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out ulong lowest)
            ? Math.Max(page, (lowest + page - 1) & ~(page - 1))
            : AddressMap.Lowest;
    }
}
