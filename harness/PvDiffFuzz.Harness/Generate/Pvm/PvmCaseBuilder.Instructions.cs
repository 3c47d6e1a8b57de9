using System.Buffers.Binary;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>Privileged instructions. In user mode the same bytes are faults.</content>
internal sealed partial class PvmCaseBuilder
{
    private void ControlRegister()
    {
        int kind = _random.Below(16);
        if (kind < 2)
        {
            // CLTS.
            AddSetup([0x0f, 0x06]);
            return;
        }

        byte register = ScratchRegister();
        if (kind < 4)
        {
            SetRegister(register, PvmEdges.Cr0s[_random.Below(PvmEdges.Cr0s.Length)] & 0xffff);
            WriteForm(Forms.Lmsw, new OperandChoice { Rm = register });
            return;
        }

        byte number = _random.Below(16) == 0 ? (byte)_random.Next() : _random.Pick<byte>([0, 0, 2, 3, 4, 4, 8]);
        number &= Long64 ? (byte)15 : (byte)7;
        OperandChoice choice = new() { Reg = number, Rm = register };
        if (kind < 8)
        {
            WriteForm(Forms.MovFromControl, in choice);
            return;
        }

        SetRegister(register, ControlValue(number));
        WriteForm(Forms.MovToControl, in choice);
    }

    private ulong ControlValue(int number) => number switch
    {
        0 => _random.Pick(PvmEdges.Cr0s),
        2 => OperandValue(),
        3 => RootValue(PvmMap.SupervisorRoot),
        4 => _random.Percent(40) ? _cr4 : _cr4 ^ (1UL << _random.Pick(PvmEdges.Cr4Bits)),
        8 => _random.Pick<ulong>([0, 0, 1, 8, 15, 16, 255, ulong.MaxValue]),
        _ => OperandValue(),
    };

    /// <summary>A root: mostly the one that is in place, else the other, with cache bits, or past any physical address.</summary>
    private ulong RootValue(ulong usual) => _random.Below(24) switch
    {
        0 => PvmMap.SupervisorRoot + PvmMap.UserRoot - usual,
        1 or 2 => usual | 0x18,
        3 => usual | 0xfff0_0000_0000_0000,
        _ => usual,
    };

    private void DebugRegister()
    {
        byte register = ScratchRegister();
        byte number = _random.Below(24) == 0 ? (byte)(8 + _random.Below(8)) : _random.Pick<byte>([0, 1, 2, 3, 4, 5, 6, 6, 7, 7]);
        number &= Long64 ? (byte)15 : (byte)7;
        OperandChoice choice = new() { Reg = number, Rm = register };
        if (_random.Percent(35))
        {
            WriteForm(Forms.MovFromDebug, in choice);
            return;
        }

        ulong value = number switch
        {
            < 4 => _random.Percent(60) ? ChooseTarget(8, writes: true) : FaultTarget(),
            4 or 6 => _random.Pick<ulong>([PvmEdges.Dr6, PvmEdges.Dr6, 0, 0xffff_4ff0, 0xffff_ffff, 0x400f, 1UL << 32, ulong.MaxValue]),
            5 or 7 => _random.Pick<ulong>([PvmEdges.Dr7, PvmEdges.Dr7, 0, 0x401, 0x1_0401, 0xd_0401, 0x9_0402, 0x3_0404, 0x2400, 0x27ff, 0xffff_ffff, 1UL << 32, ulong.MaxValue]),
            _ => OperandValue(),
        };
        SetRegister(register, value);
        WriteForm(Forms.MovToDebug, in choice);
    }

    private void DescriptorTable()
    {
        if (_supervisor && _profile.Has("UMIP") && _random.Percent(30))
        {
            StoreTable();
            return;
        }

        if (_random.Percent(55))
        {
            byte register = ScratchRegister();
            SetRegister(register, _random.Percent(70) ? 0UL : Selector());
            WriteForm(_random.Percent(60) ? Forms.Lldt : Forms.Ltr, new OperandChoice { Rm = register });
            return;
        }

        LoadTable(_random.Percent(50) ? Forms.Lgdt : Forms.Lidt);
    }

    private void LoadTable(FormTemplate load)
    {
        ulong target = ChooseTarget(10, writes: false);
        Span<byte> pointer = stackalloc byte[10];
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, _random.Pick<ushort>([0, 0x7f, 0xfff, 0xffff]));
        BinaryPrimitives.WriteUInt64LittleEndian(pointer[2..], _random.Percent(80) ? ChooseTarget(8, writes: false) : FaultTarget());
        _contents.Poke(ref _random, target, pointer, _block);
        OperandChoice choice = default;
        Express(target, ref choice);
        WriteForm(load, in choice);
    }

    /// <summary>UMIP lets the hypervisor answer. What the registers hold before supervisor code has written them is the host's affair, so that it writes them first.</summary>
    private void StoreTable()
    {
        OperandChoice choice = default;
        if (_random.Percent(40))
        {
            choice.Rm = ScratchRegister();
            WriteForm(_random.Pick<FormTemplate>(Forms.Smsw), in choice);
            return;
        }

        bool interrupts = _random.Percent(50);
        LoadTable(interrupts ? Forms.Lidt : Forms.Lgdt);
        Express(_random.Percent(85) ? ChooseTarget(10, writes: true) : FaultTarget(), ref choice);
        WriteForm(interrupts ? Forms.Sidt : Forms.Sgdt, in choice);
    }

    private void Invalidate()
    {
        OperandChoice choice = default;
        switch (_random.Below(8))
        {
            case 0:
                // INVD, WBINVD.
                AddSetup([0x0f, (byte)(8 + _random.Below(2))]);
                return;
            case 1 when Long64:
                // The first half of the synthetic CPUID; a NOP keeps the second from following by chance.
                AddSetup(PvmExclusions.SyntheticCpuid[..8]);
                AddSetup([0x90]);
                return;
            case 2:
                byte type = ScratchRegister();
                ulong descriptor = ChooseTarget(16, writes: false);
                _contents.Poke(ref _random, descriptor, BitConverter.GetBytes(_random.Percent(80) ? 0 : _random.Next()), _block);
                SetRegister(type, _random.Percent(85) ? _random.Next() & 3 : OperandValue());
                Express(descriptor, ref choice);
                choice.Reg = type;
                WriteForm(Forms.Invpcid, in choice);
                return;
            default:
                Express(_random.Percent(70) ? ChooseTarget(1, writes: false) : FaultTarget(), ref choice);
                WriteForm(Forms.Invlpg, in choice);
                return;
        }
    }

    private uint MsrNumber() => _random.Below(12) == 0 ? _random.Pick(PvmMsr.Invalid) : _random.Pick(PvmMsr.Named);

    private void ReadMsr()
    {
        uint msr = MsrNumber();
        _statesRange |= msr == PvmMsr.LinearAddressRange;
        SetRegister(Rcx, msr);
        AddSetup([0x0f, 0x32]);
        Forget([Rax, Rdx]);
    }

    private void WriteMsr()
    {
        uint msr = MsrNumber();
        _statesRange |= msr == PvmMsr.LinearAddressRange;
        ulong value = MsrValue(msr);
        SetRegister(Rcx, msr);
        SetRegister(Rax, (uint)value);
        SetRegister(Rdx, value >> 32);
        AddSetup([0x0f, 0x30]);
        if (msr is PvmMsr.FsBase or PvmMsr.GsBase)
        {
            ForgetSegmentBase(fs: msr == PvmMsr.FsBase);
        }
    }

    /// <summary>A value for an MSR: mostly one that it can have, else one at an edge or over it.</summary>
    private ulong MsrValue(uint msr) => msr switch
    {
        PvmMsr.FsBase or PvmMsr.GsBase or PvmMsr.KernelGsBase or PvmMsr.Cstar or PvmMsr.SysenterEip or PvmMsr.SysenterEsp =>
            _random.Percent(75) ? ChooseTarget(8, writes: true) : FaultTarget(),
        PvmMsr.Star => _random.Pick<ulong>([PvmMap.Star, PvmMap.Star, PvmMap.Star, PvmMap.Star | 7, 0x0020_0010_0000_0000, 0x0023_0018_0000_0000, 0x0023_0000_0000_0000, 0x001b_0010_0000_0000, 0x0023_0013_0000_0000, 0]),
        PvmMsr.Lstar => _random.Percent(70) ? PvmMap.Lstar : FaultTarget(),
        PvmMsr.EventEntry => _random.Percent(80) ? PvmMap.EventEntry : _random.Pick<ulong>([0x0000_8000_0000_0000, 0x0000_7fff_ffff_ff00, 0x0000_7fff_ffff_fe00, 0xffff_7fff_ffff_ff80, 0x4000_0000_0000_0000]),
        PvmMsr.Efer => _random.Pick<ulong>([PvmEdges.Efer, PvmEdges.Efer, PvmEdges.Efer & ~1UL, PvmEdges.Efer & ~0x100UL, PvmEdges.Efer & ~0x400UL, PvmEdges.Efer | 2, PvmEdges.Efer | (1UL << 63)]),
        PvmMsr.SysenterCs or PvmMsr.SyscallMask or PvmMsr.Pkrs => _random.Percent(80) ? (uint)OperandValue() : OperandValue(),
        PvmMsr.LinearAddressRange => _random.Pick(PvmEdges.Ranges),
        PvmMsr.VcpuStruct => _random.Pick<ulong>([PvmMap.VcpuStruct, PvmMap.VcpuStruct, PvmMap.VcpuStruct, PvmMap.VcpuStruct + 8, PvmMap.VcpuStruct + 0x800, PvmMap.VcpuStruct + 1, 0]),
        PvmMsr.SupervisorRsp => SupervisorRspValue(),
        PvmMsr.SupervisorRedzone => _random.Pick(PvmEdges.Redzones),
        PvmMsr.RetuRip => _random.Percent(80) ? PvmMap.RetuRip : _random.Pick<ulong>([PvmMap.RetuRip + 2, PvmMap.RetsRip, 0, 0x8000_0000_0000_0000]),
        PvmMsr.RetsRip => _random.Percent(80) ? PvmMap.RetsRip : _random.Pick<ulong>([PvmMap.RetsRip - 1, PvmMap.RetuRip, 0, 0x8000_0000_0000_0000]),
        PvmMsr.SwitchCr3 => RootValue(_oneRoot ? PvmMap.SupervisorRoot : PvmMap.UserRoot),
        _ => OperandValue(),
    };

    private void Forbidden()
    {
        int kind = _random.Below(13);
        if (kind == 8)
        {
            // XSETBV of what is there anyway.
            SetRegister(Rcx, _random.Percent(80) ? 0UL : 1);
            SetRegister(Rax, _random.Pick<ulong>([1, 3, 7, 0]));
            SetRegister(Rdx, 0);
        }

        ReadOnlySpan<byte> bytes = kind switch
        {
            0 or 1 => [0x0f, 0x01, 0xf8],             // SWAPGS
            2 => [0x0f, 0x07],                        // SYSRET
            3 when Long64 => [0x48, 0x0f, 0x07],
            4 => [0x0f, 0x35],                        // SYSEXIT
            5 when Long64 => [0x48, 0x0f, 0x35],
            6 => [0x0f, 0x01, 0xca],                  // CLAC
            7 => [0x0f, 0x01, 0xcb],                  // STAC
            8 => [0x0f, 0x01, 0xd1],                  // XSETBV
            9 => [0x0f, 0x01, 0xc8],                  // MONITOR
            10 => [0x0f, 0x01, 0xc9],                 // MWAIT
            11 => [0x0f, 0xaa],                       // RSM
            _ => [0x0f, 0x34],                        // SYSENTER
        };
        AddSetup(bytes);
        Forget([Rcx, R11]);
    }

    private void SyntheticCpuid()
    {
        SetRegister(Rax, _random.Percent(50) ? 0x4000_0000UL : 0x4000_0002);
        if (_random.Percent(50))
        {
            SetRegister(Rcx, _random.Percent(70) ? 0 : OperandValue());
        }

        AddSetup(PvmExclusions.SyntheticCpuid);
        _code.KeepWhole();
        Forget([Rax, Rbx, Rcx, Rdx]);
    }
}
