using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>SYSCALL in supervisor mode: hypercalls and the synthetic returns, the structure that one of them reads, and entries that move.</content>
internal sealed partial class PvmCaseBuilder
{
    private const int FrameBytes = 64;
    private const int PadDistance = 256;
    private const int Never = int.MaxValue / 2;

    private void EmitHypercall()
    {
        Span<ulong> arguments = stackalloc ulong[3];
        ulong number = CallNumber(arguments, out int count);
        ReadOnlySpan<byte> places = [Rbx, R10, Rdx];
        for (int i = 0; i < 3; i++)
        {
            if (i < count || _random.Below(8) == 0)
            {
                SetRegister(places[i], arguments[i]);
            }
        }

        SetRegister(Rax, number);
        DefineFlagsFor(RflagsBits.Status);
        if (_supervisor && _ownReturn < 0 && !_raw && _random.Below(24) == 0)
        {
            // This one is a synthetic return: the case says that RETU_RIP or RETS_RIP is here.
            _ownReturn = _code.Count;
            _ownReturnIsToUser = !Rfc1 || (_random.Next() & 1) == 0;
        }

        Syscall(prefixed: _ownReturn != _code.Count && _random.Percent(8));
    }

    /// <summary>An INT 80h right behind it tells a host that answers by itself and goes on from one that delivers the event.</summary>
    private void SyscallOfCompatibility()
    {
        AddSetup(PvmExclusions.CompatibilitySyscall);
        _code.KeepWhole();
        Forget([Rax, Rcx]);
    }

    private void Syscall(bool prefixed)
    {
        ReadOnlySpan<byte> bytes = (prefixed ? _random.Below(10) : 10) switch
        {
            0 or 1 => [0x48, 0x0f, 0x05],
            2 => [0x40, 0x0f, 0x05],
            3 => [0x4f, 0x0f, 0x05],
            4 => [0x66, 0x0f, 0x05],
            5 => [0xf2, 0x0f, 0x05],
            6 => [0xf3, 0x0f, 0x05],
            7 => [0x2e, 0x0f, 0x05],
            8 => [0x65, 0x0f, 0x05],
            9 => [0x66, 0x48, 0x0f, 0x05],
            _ => [0x0f, 0x05],
        };
        AddSetup(bytes);
        Forget([Rax, Rcx, R10, R11]);
    }

    /// <summary>A request number and its arguments.</summary>
    /// <param name="arguments">Room for three; all are filled.</param>
    /// <param name="count">How many the call takes; three for numbers that name none.</param>
    private ulong CallNumber(Span<ulong> arguments, out int count)
    {
        arguments[0] = OperandValue();
        arguments[1] = OperandValue();
        arguments[2] = OperandValue();
        int call = _random.Below(32) switch
        {
            0 or 1 => PvmCall.LoadPgtbl,
            < 6 => PvmCall.IrqWin,
            6 => PvmCall.IrqHlt,
            7 => PvmCall.TlbFlush,
            8 => PvmCall.TlbFlushCurrent,
            9 or 10 => PvmCall.TlbInvlpg,
            < 14 => PvmCall.LoadGs,
            < 19 => PvmCall.Rdmsr,
            < 24 => PvmCall.Wrmsr,
            < 27 => PvmCall.LoadTls,
            _ => -1,
        };
        switch (call)
        {
            case PvmCall.LoadPgtbl:
                // Bit 1 asks for five levels, which the processor may not have; nothing else is a flag.
                arguments[0] = _random.Pick<ulong>([0, 0, 1, 1, 1, 4, 0x8000_0000_0000_0001]);
                arguments[1] = RootValue(PvmMap.SupervisorRoot);
                arguments[2] = RootValue(_oneRoot ? PvmMap.SupervisorRoot : PvmMap.UserRoot);
                count = Rfc1 ? 3 : 2;
                break;
            case PvmCall.TlbInvlpg:
                arguments[0] = _random.Percent(60) ? ChooseTarget(1, writes: false) : FaultTarget();
                count = 1;
                break;
            case PvmCall.LoadGs:
                arguments[0] = _random.Pick(PvmEdges.GsSelectors);
                count = 1;
                break;
            case PvmCall.Rdmsr:
                arguments[0] = MsrArgument(out _);
                count = 1;
                break;
            case PvmCall.Wrmsr:
                arguments[0] = MsrArgument(out uint msr);
                arguments[1] = MsrValue(msr);
                count = 2;
                break;
            case PvmCall.LoadTls:
                arguments[0] = _random.Pick(PvmEdges.Descriptors);
                arguments[1] = _random.Pick(PvmEdges.Descriptors);
                arguments[2] = _random.Pick(PvmEdges.Descriptors);
                count = 3;
                break;
            case < 0:
                count = 3;
                return _random.Pick(PvmCall.Others);
            default:
                count = 0;
                break;
        }

        return PvmCall.Base + (ulong)(uint)call;
    }

    /// <summary>An MSR's number as an argument, once in a while with bits above it.</summary>
    private ulong MsrArgument(out uint msr)
    {
        msr = MsrNumber();
        _statesRange |= msr == PvmMsr.LinearAddressRange;
        return _random.Below(24) == 0 ? msr | 0x1_0000_0000UL : msr;
    }

    private void JumpTo(ulong address)
    {
        switch (_random.Below(3))
        {
            case 0 when _block == AddressMap.LowBlock:
                AddSetup([0xe9, 0, 0, 0, 0]);
                _code.AimAtData(1, address);
                break;
            case 1:
                EnsureStack();
                Push((uint)address);
                AddSetup([0xc3]);
                _value[Rsp] += 8;
                break;
            default:
                byte register = ScratchRegister();
                SetRegister(register, address);
                AddSetup(register >= 8 ? [0x41, 0xff, (byte)(0xe0 | (register & 7))] : [0xff, (byte)(0xe0 | register)]);
                break;
        }
    }

    /// <summary>Jumps to the byte before an address, which as an immediate might spell an excluded instruction.</summary>
    private void JumpBefore(ulong address)
    {
        SetRegister(Rax, _random.Percent(80) ? PvmCall.Base + (ulong)_random.Below(PvmCall.Count) : _random.Pick(PvmCall.Others));
        SetRegister(Rdx, address);
        AddSetup([0x48, 0xff, 0xca]);
        AddSetup([0xff, 0xe2]);
        Forget([Rdx]);
    }

    private void Structure()
    {
        if (!_structure || (!_supervisor && _oneRoot))
        {
            // Without the structure its page is nobody's; with one root it is the supervisor's by word only.
            EmitHypercall();
            return;
        }

        ReadOnlySpan<PvcsField> fields = PvcsLayout.Of(_abi);
        PvcsField field = fields[_random.Percent(30) ? 0 : _random.Below(fields.Length)];
        StructureAccess(field, _random.Percent(70));
    }

    private void StructureAccess(PvcsField field, bool store)
    {
        byte register = ScratchRegister();
        OperandChoice choice = default;
        if (store)
        {
            SetRegister(register, FieldValue(field.Register));
        }

        Express(PvmMap.PvcsAddress + (uint)field.Offset, ref choice);
        choice.Reg = register;
        WriteForm(!store ? Forms.Load : field.Width switch { 2 => Forms.Store16, 4 => Forms.Store32, _ => Forms.Store }, in choice);
    }

    /// <summary>A value that the supervisor may put into a field.</summary>
    private ulong FieldValue(SystemRegister field) => field switch
    {
        SystemRegister.PvcsEventFlags => _random.Below(16) == 0 ? OperandValue() : _random.Pick<ulong>([0, EventFlagIF, EventFlagIF, EventFlagIP, EventFlagIF | EventFlagIP]),
        SystemRegister.PvcsUserCs => _compatibleContext ? Selectors.UserCode32 : _random.Pick<ushort>([0x33, 0x33, 0x30, 0x31, 0x32]),
        SystemRegister.PvcsUserSs => UserSs(),
        SystemRegister.PvcsUserGsBase => UserGsBase(),
        SystemRegister.PvcsEflags => UserFlags(),
        SystemRegister.PvcsPkru => 0,
        SystemRegister.PvcsRip => UserRip(),
        SystemRegister.PvcsRsp => UserRsp(),
        SystemRegister.PvcsEventVector or SystemRegister.PvcsEventErrcode => _random.Next() & 0xff,
        _ => OperandValue(),
    };

    /// <summary>Goes to user mode, with fields of the context set before that, or passes right by the SYSCALL that would.</summary>
    private void ReturnToUser()
    {
        if (_structure && _supervisor)
        {
            foreach (PvcsField field in PvcsLayout.Of(_abi))
            {
                bool needed = field.Register == SystemRegister.PvcsRip ? _random.Percent(50) : PvcsLayout.IsUserContext(field.Register) && _random.Below(12) == 0;
                if (needed)
                {
                    StructureAccess(field, store: true);
                }
            }
        }

        if (_random.Below(8) == 0)
        {
            JumpBefore(PvmMap.RetuRip);
        }
        else
        {
            JumpTo(PvmMap.RetuRip);
        }

        Forget([Rax, Rcx, R10, R11]);
    }

    private void ReturnToSupervisor()
    {
        if (!Rfc1)
        {
            EmitFarReturn(Forms.Iret);
            return;
        }

        ulong frame = FrameAddress();
        ulong rsp = _random.Percent(75) ? _block + _stackSlot + Page + (_random.Next() & 0x3f8) : SupervisorRspValue();
        Span<byte> bytes = stackalloc byte[FrameBytes];
        ulong rcx = OperandValue();
        ulong r11 = OperandValue();
        ReadOnlySpan<ulong> words = [_random.Next(), OddRip(), FrameSelector(0x10), SupervisorFlags(), rsp, FrameSelector(0x18), rcx, r11];
        MemoryMarshal.AsBytes(words).CopyTo(bytes);
        _contents.Poke(ref _random, frame, bytes, _block);
        SetRegister(Rsp, frame);
        if (_random.Percent(15))
        {
            SetRegister(Rax, PvmCall.Base + (ulong)_random.Below(PvmCall.Count));
        }

        if (_random.Below(10) == 0)
        {
            JumpBefore(PvmMap.RetsRip);
        }
        else
        {
            SetRegister(Rdx, PvmMap.RetsRip);
            AddSetup([0xff, 0xe2]);
        }

        if (!_random.Percent(_pvm.OddFramePercent / 3))
        {
            _contents.PokeCodeAddress(ref _random, frame + 8, _code.Count + (_random.Percent(80) ? 0 : Ahead()), 8, _block);
        }

        Forget([Rax]);
        Follow(Rsp, rsp);
        Follow(Rcx, rcx);
        Follow(R11, r11);
    }

    private void Follow(byte register, ulong value)
    {
        _value[register] = value;
        _known |= 1 << register;
    }

    /// <summary>Where the frame lies: mostly in the supervisor's stack, else across pages, unaligned, in read-only pages, or partly nowhere.</summary>
    private ulong FrameAddress()
    {
        ulong bits = _random.Next();
        ulong line = (bits >> 8) & 0x7c0;
        ulong start = _block + PvmMap.Stack;
        return (bits & 31) switch
        {
            < 18 => start + 0x400 + line,
            18 or 19 => start + 0x400 + line + ((bits >> 20) & 0x3f),
            20 or 21 => start + Page - 8 - ((bits >> 20) & 0x30),
            22 => start + (2 * Page) - FrameBytes,
            23 => start,
            24 or 25 => _block + PvmMap.Data + Page + line,
            26 => _block + PvmMap.Data + Page - 8 - ((bits >> 20) & 0x30),
            27 => _block + PvmMap.SupervisorInBoth + line,
            28 => _block + AddressMap.Stack + line,
            29 => start + (2 * Page) - 8 - ((bits >> 20) & 0x30),
            30 => start + (2 * Page) + line,
            _ => Aim.Faulting(ref _random, _block, FrameBytes, writes: false),
        };
    }

    private ulong FrameSelector(ulong usual) => _random.Percent(80) ? usual : OperandValue();

    /// <summary>Puts the entries for events, or the one for system calls, into the payload: pads that jump to its end.</summary>
    private void MoveEntry()
    {
        if (!_supervisor)
        {
            return;
        }

        ulong entry = _block + AddressMap.WritableCode + (_random.Next() & 0x3c0);
        Span<byte> pad = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
        bool events = _random.Percent(75);
        for (int i = 0; i < (events ? 3 : 1); i++)
        {
            ulong at = entry + (ulong)(i * PadDistance);
            _contents.Poke(ref _random, at, pad, _block);
            _contents.PokeCodeAddress(ref _random, at + 2, Never, 8, _block);
        }

        SetRegister(Rcx, events ? PvmMsr.EventEntry : PvmMsr.Lstar);
        SetRegister(Rax, (uint)entry);
        SetRegister(Rdx, entry >> 32);
        AddSetup([0x0f, 0x30]);
    }
}
