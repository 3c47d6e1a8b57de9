using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>The system side of a case: control registers, MSRs, the structure, and contexts with something odd in them.</content>
internal sealed partial class PvmCaseBuilder
{
    private const ulong NonCanonical = 0x0000_8000_0000_0000;

    private static readonly PvmState[] States =
    [
        .. from user in (PageLayout?[])[PvmMap.UserLayout, null]
           from path in (HostPath[])[HostPath.Cold, HostPath.Warm]
           select new PvmState(PvmMap.PvcsAddress, user, path),
    ];

    private readonly KeyValuePair<SystemRegister, ulong>[] _system = new KeyValuePair<SystemRegister, ulong>[Enum.GetValues<SystemRegister>().Length];
    private int _systemCount;
    private ulong _eventFlags;
    private ulong _kernelGsBase;
    private ulong _supervisorRsp;
    private ulong _redzone;
    private ulong _star;
    private ulong _cr4;
    private bool _statesRange;
    private ushort _contextCs;
    private bool _compatibleContext;

    /// <summary>What the payload's set-up may depend on.</summary>
    private void ChooseState()
    {
        ulong bits = _random.Next();
        _eventFlags = (bits % 100 < (_supervisor ? 45u : 25u) ? EventFlagIF : 0) | ((bits >> 32) % 100 < 15 ? EventFlagIP : 0);
        _eventFlags = _structure ? _eventFlags : 0;
        _star = _random.Percent(80) ? PvmMap.Star : _random.Pick(PvmEdges.Stars);
        _cr4 = PvmEdges.Cr4 | (Rfc1 ? 0 : PvmEdges.Smep) | ((bits >> 40 & 15) == 0 ? 1UL << 17 : 0);
        _supervisorRsp = SupervisorRspValue();
        _redzone = _random.Pick(PvmEdges.Redzones);
        _contextCs = UserCs();
        _compatibleContext = _supervisor && (_contextCs | 3) == Selectors.UserCode32;
    }

    /// <inheritdoc/>
    private protected override bool IsExcluded(ReadOnlySpan<byte> code) =>
        (_raw ? Exclusions.FindAnywhere(code, _mode, _profile, out _) : PvmExclusions.FindAnywhere(code, _mode, _profile, out _)) is not null
        || (!Long64 && Exclusions.FindAnywhere(code, CpuMode.Long64, _profile, out _) is not null);

    /// <inheritdoc/>
    private protected override TestCase Assemble(CodeBlock code)
    {
        _contents.Resolve(ref _random, _code, code.Address, _block);
        DebugRegisters? debug = ArmedRegisters(code);
        ImmutableArray<Response> responses = _options.ResponsePercent > 0 && _random.Percent(_options.ResponsePercent) ? Answers(code) : [];
        RegisterState registers = StartState(code.Address, debug);
        registers = _supervisor ? registers : UserContext(registers);
        SystemState system = SystemOf(code, registers);
        return new TestCase
        {
            Abi = _abi,
            Start = _supervisor ? GuestMode.Supervisor : GuestMode.User,
            Code = code,
            Layout = PvmMap.SupervisorLayout,
            Contents = WithReturns(_contents.ToContents(_mode, _profile)),
            Responses = responses,
            Registers = registers,
            System = system,
            Pvm = States[(_oneRoot ? 2 : 0) + (_random.Percent(_pvm.WarmPercent) ? 1 : 0)],
            Inject = _random.Percent(_pvm.InjectPercent) ? Pending() : null,
        };
    }

    /// <summary>Breakpoints in few cases, and in half of those in which MOV SS loads from memory one there.</summary>
    private DebugRegisters? ArmedRegisters(CodeBlock code)
    {
        const ulong firstOff = ~0xf_0003UL;
        const ulong firstWatchesOneByte = 0x3_0001;
        bool watches = _watched != 0 && _random.Percent(50);
        if (_options.DebugPermille == 0 || !(watches || _random.Permille(_options.DebugPermille)))
        {
            return null;
        }

        DebugRegisters debug = Debug(code, executes: _random.Percent(50));
        return watches ? debug with { Dr0 = _watched, Dr7 = (debug.Dr7 & firstOff) | firstWatchesOneByte } : debug;
    }

    /// <summary>Mostly a maskable interrupt from 32, else an NMI or a vector of the processor's own.</summary>
    private Injection Pending()
    {
        ulong bits = _random.Next();
        return (bits & 15) switch
        {
            < 5 => new Injection(InjectionKind.Nmi, 2),
            < 13 => new Injection(InjectionKind.Interrupt, (byte)(32 + ((bits >> 8) % 224))),
            13 => new Injection(InjectionKind.Interrupt, (byte)((bits & 0x100) == 0 ? 32 : 255)),
            14 => new Injection(InjectionKind.Interrupt, (byte)(16 + ((bits >> 8) & 15))),
            _ => new Injection(InjectionKind.Interrupt, 31),
        };
    }

    /// <summary>A user start comes through the structure, so its context may hold what a return converts or refuses.</summary>
    private RegisterState UserContext(RegisterState registers)
    {
        if (Long64 && _random.Percent(_pvm.OddFramePercent))
        {
            registers = registers with
            {
                Rip = _random.Below(4) == 0 ? OddRip() : registers.Rip,
                Rflags = _random.Percent(60) ? UserFlags() : registers.Rflags,
                Cs = _random.Below(4) == 0 ? UserCs() : registers.Cs,
                Ss = _random.Below(4) == 0 ? UserSs() : registers.Ss,
                GsBase = _random.Percent(40) ? UserGsBase() : registers.GsBase,
            };
            if (registers.Cs == Selectors.UserCode32)
            {
                // A case in compatibility mode is another kind of case, with 32-bit registers.
                registers = registers with { Cs = 0x30 };
            }

            if (_random.Below(3) == 0)
            {
                registers = registers.With(Register.Rsp, UserRsp());
            }
        }
        else if (_random.Percent(_pvm.OddFramePercent))
        {
            registers = registers with { Rflags = UserFlags() };
        }

        if (_sysret)
        {
            registers = registers.With(Register.Rcx, registers.Rip);
            registers = Long64 ? registers.With(Register.R11, registers.Rflags & 0x25_4fd7 | RflagsBits.IF) : registers;
        }

        return _profile.Has("PKU") && _random.Below(4) == 0 ? registers with { Pkru = PkruValue() } : registers;
    }

    /// <summary>Rights that leave key 0, which all pages have, mostly alone.</summary>
    private uint PkruValue() => _random.Below(8) == 0 ? (uint)(_random.Next() & 3) : (uint)_random.Next() & ~3u;

    private ushort UserCs() => (ushort)_random.Below(32) switch
    {
        0 => _random.Pick<ushort>([0, 3, 0x10, 0x2b, 0x08, 0xfff8]),
        < 4 => 0x30,
        4 => 0x31,
        < 9 => Selectors.UserCode32,
        9 => 0x20,
        _ => Selectors.UserCode64,
    };

    private ushort UserSs() => (ushort)_random.Below(32) switch
    {
        0 => _random.Pick<ushort>([0, 0x18, 0x33, 0x23, 0x10, 0xffff]),
        < 4 => 0x28,
        4 => 0x2a,
        _ => Selectors.UserData,
    };

    private ulong UserGsBase() => _random.Below(20) switch
    {
        0 => 0x1234_8000_0000_0000,
        1 => 0xffff_0000_0000_1000,
        2 => _random.Next(),
        3 => NonCanonical,
        4 => 0xffff_8000_0000_0000,
        _ => Aim.Valid(ref _random, _block, 8, writes: true, _hot),
    };

    /// <summary>Flags as a supervisor could store them: mostly what user code may have, else with what a return must clear or set.</summary>
    private ulong UserFlags()
    {
        ulong flags = StartFlags();
        ulong bits = _random.Next();
        if (bits % 100 < (uint)_pvm.OddFramePercent * 2)
        {
            flags ^= (bits >> 8 & 15) switch
            {
                0 or 1 => RflagsBits.IF,
                2 => RflagsBits.IF | RflagsBits.Fixed1,
                3 or 4 => (1 + (bits >> 16) % 3) << 12,
                5 => RflagsBits.VM,
                6 => RflagsBits.VIF,
                7 => RflagsBits.VIP,
                8 => RflagsBits.NT,
                9 => RflagsBits.RF,
                10 or 11 => RflagsBits.TF,
                12 => RflagsBits.AC | RflagsBits.ID,
                13 => 0x8028,
                14 => 0xffc0_0000,
                _ => flags ^ (uint)(bits >> 20),
            };
        }

        return (uint)flags;
    }

    /// <summary>Flags of a frame for the return to supervisor mode.</summary>
    private ulong SupervisorFlags()
    {
        ulong flags = UserFlags();
        ulong bits = _random.Next();
        return ((bits & 1) == 0 ? flags & ~RflagsBits.IF : flags) | ((bits >> 8 & 63) == 0 ? bits & 0xffff_ffff_0000_0000 : 0);
    }

    private ulong UserRip() => _random.Percent(100 - _pvm.OddFramePercent) ? Snippet() : OddRip();

    /// <summary>An instruction pointer at which nothing runs for long.</summary>
    private ulong OddRip()
    {
        ulong bits = _random.Next();
        ulong low = (bits >> 8) & 0xfff;
        return (bits & 15) switch
        {
            0 => NonCanonical,
            1 => NonCanonical - 1,
            2 => NonCanonical + low,
            3 => 0xffff_7fff_ffff_f000 + low,
            4 => 0xffff_8000_0000_0000 + low,
            5 => PvmEdges.RangeStart + low,
            6 => ulong.MaxValue - low,
            7 => bits | 0x4000_0000_0000_0000,
            8 => _block + AddressMap.CodeEnd,
            9 => low,
            10 => _block + AddressMap.Data + low,
            11 => _block + PvmMap.UserOnly + low,
            12 => _block + PvmMap.Data + low,
            13 => PvmMap.PvcsAddress + 0x1000,
            14 => _block + PvmMap.CodeEnd - Page,
            _ => _block + AddressMap.WritableCode + (2 * Page) - (low & 3),
        };
    }

    private ulong UserRsp()
    {
        ulong bits = _random.Next();
        ulong start = _block + AddressMap.Stack;
        ulong near = (bits >> 8) & 0x3f;
        return (bits & 15) switch
        {
            < 8 => start + Page + ((bits >> 8) & 0x3f8),
            8 => start + Page + near,
            9 => start + (near & 7),
            10 => start + (2 * Page) - near,
            11 => NonCanonical + near,
            12 => bits | 0x4000_0000_0000_0000,
            13 => PvmEdges.RangeStart + near,
            14 => _block + AddressMap.WritableThenReadOnly + Page + 8 + near,
            _ => near,
        };
    }

    private void State(SystemRegister register, ulong value) => _system[_systemCount++] = KeyValuePair.Create(register, value);

    /// <summary>States everything in the order of its numbers.</summary>
    private SystemState SystemOf(CodeBlock code, RegisterState registers)
    {
        ulong bits = _random.Next();
        _systemCount = 0;
        State(SystemRegister.Cr0, PvmEdges.Cr0);
        State(SystemRegister.Cr2, (bits & 3) == 0 ? bits >> 20 : 0);
        State(SystemRegister.Cr3, PvmMap.SupervisorRoot);
        State(SystemRegister.Cr4, _cr4);
        State(SystemRegister.Efer, PvmEdges.Efer);
        State(SystemRegister.Star, _star);
        State(SystemRegister.Lstar, PvmMap.Lstar);
        if ((bits & 0x3c) == 0)
        {
            State(SystemRegister.Cstar, PvmMap.Lstar + 0x100);
        }

        State(SystemRegister.SyscallMask, (bits & 0xc0) == 0 ? 0 : (bits >> 8) & 0x25_4fd7);
        State(SystemRegister.KernelGsBase, (bits & 0x300) == 0 ? registers.GsBase & 0x7fff_ffff_ffff : _kernelGsBase);
        State(SystemRegister.Dr6, PvmEdges.Dr6);
        if (registers.Debug is null)
        {
            State(SystemRegister.Dr7, PvmEdges.Dr7);
        }

        if (_statesRange)
        {
            State(SystemRegister.PvmLinearAddressRange, PvmEdges.Range);
        }

        State(SystemRegister.PvmVcpuStruct, _structure ? PvmMap.VcpuStruct : 0);
        if (Rfc1)
        {
            State(SystemRegister.PvmSupervisorRsp, _supervisorRsp);
            State(SystemRegister.PvmSupervisorRedzone, _redzone);
        }

        ulong own = _ownReturn >= 0 && !_raw ? code.Address + (ulong)_code.OffsetOf(_ownReturn) : 0;
        State(SystemRegister.PvmEventEntry, PvmMap.EventEntry);
        State(SystemRegister.PvmRetuRip, own != 0 && _ownReturnIsToUser ? own : PvmMap.RetuRip);
        if (Rfc1)
        {
            State(SystemRegister.PvmRetsRip, own != 0 && !_ownReturnIsToUser ? own : PvmMap.RetsRip);
            State(SystemRegister.PvmSwitchCr3, _oneRoot ? PvmMap.SupervisorRoot : PvmMap.UserRoot);
        }

        if (_structure)
        {
            Pvcs(bits >> 32);
        }

        if (_supervisor && Rfc1 && (bits >> 58) == 0)
        {
            State(SystemRegister.NmiMasked, 1);
        }

        return SystemState.OfSorted(ImmutableArray.Create(_system.AsSpan(0, _systemCount)));
    }

    /// <summary>The structure: flags and stale event fields, and for a supervisor start the user context that it would return to, or the leavings of an earlier one.</summary>
    private void Pvcs(ulong bits)
    {
        State(SystemRegister.PvcsEventFlags, _eventFlags);
        if (Rfc1)
        {
            State(SystemRegister.PvcsEventErrcode, (uint)_random.Next());
            State(SystemRegister.PvcsEventVector, (bits & 3) == 0 ? (uint)_random.Next() : (bits >> 2) & 0xff);
        }
        else
        {
            // The upper byte is not 0 while an event is being delivered; another one is fatal then.
            State(SystemRegister.PvcsEventErrcode, (bits >> 8) & 0xffff);
            State(SystemRegister.PvcsEventVector, (bits & 7) == 0 ? 0x100 | ((bits >> 3) & 0x3ff) : (bits >> 3) & 0xff);
        }

        State(SystemRegister.PvcsCr2, _random.Next());
        if (!_supervisor)
        {
            return;
        }

        ulong rip = UserRip();
        ulong flags = UserFlags();
        bool sysret = _random.Percent(30);
        State(SystemRegister.PvcsUserCs, _contextCs);
        State(SystemRegister.PvcsUserSs, UserSs());
        State(SystemRegister.PvcsUserGsBase, UserGsBase());
        State(SystemRegister.PvcsEflags, flags);
        State(SystemRegister.PvcsPkru, _profile.Has("PKU") && _random.Below(4) == 0 ? PkruValue() : 0);
        State(SystemRegister.PvcsRip, rip);
        if (Rfc1)
        {
            State(SystemRegister.PvcsRsp, UserRsp());
        }

        State(SystemRegister.PvcsRcx, sysret ? rip : OperandValue());
        State(SystemRegister.PvcsR11, sysret ? flags & 0x25_4fd7 | EventFlagIF : OperandValue());
    }

    /// <summary>Adds the page of the synthetic returns, in address order.</summary>
    private static ImmutableArray<MemoryContents> WithReturns(ImmutableArray<MemoryContents> contents)
    {
        MemoryContents[] all = new MemoryContents[contents.Length + 1];
        int at = 0;
        while (at < contents.Length && contents[at].Address < PvmMap.RetuRip)
        {
            all[at] = contents[at];
            at++;
        }

        all[at] = PvmMap.ReturnInstructions;
        contents.AsSpan()[at..].CopyTo(all.AsSpan(at + 1));
        return ImmutableCollectionsMarshal.AsImmutableArray(all);
    }
}
