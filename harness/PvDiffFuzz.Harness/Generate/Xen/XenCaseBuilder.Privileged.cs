using System.Buffers.Binary;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>Privileged instructions: Xen emulates some of them for the guest's kernel; in user code the same bytes are faults.</content>
internal sealed partial class XenCaseBuilder
{
    private const uint XenLeaf = 0x4000_0000;

    private void ControlRegister()
    {
        int kind = _random.Below(16);
        if (kind < 2)
        {
            // CLTS.
            AddSetup([0x0f, 0x06]);
            return;
        }

        // CR3 holds a machine address.
        byte register = ScratchRegister();
        byte number = _random.Below(16) == 0 ? _random.Pick<byte>([1, 5, 7, 9, 15]) : _random.Pick<byte>([0, 0, 0, 2, 2, 4, 4, 4, 8]);
        number &= Long64 ? (byte)15 : (byte)7;
        OperandChoice choice = new() { Reg = number, Rm = register };
        if (kind < 8)
        {
            WriteForm(Forms.MovFromControl, in choice);
            return;
        }

        SetRegister(register, number switch
        {
            0 => _random.Pick<ulong>([_cr0, _cr0, _cr0 ^ XenEdges.TaskSwitched, _cr0 ^ XenEdges.TaskSwitched, _cr0 ^ 4, _cr0 ^ 0x1_0000, 0, _cr0 | (1UL << 32)]),
            4 => _random.Percent(40) ? _cr4 : _cr4 ^ (1UL << _random.Pick<byte>([2, 2, 3, 3, 3, 4, 5, 7, 9, 13, 16, 16, 20, 32])),
            8 => _random.Pick<ulong>([0, 1, 8, 15, 16]),
            _ => OperandValue(),
        });
        WriteForm(Forms.MovToControl, in choice);
    }

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

        SetRegister(register, DebugValue(number));
        WriteForm(Forms.MovToDebug, in choice);
    }

    /// <summary>A value for a debug register: for addresses also ones that Xen keeps.</summary>
    private ulong DebugValue(ulong number) => number switch
    {
        < 4 => _random.Below(8) switch { 0 => XenMap.PrivateFirst + (_random.Next() & 0xfff8), 1 => XenMap.PrivateLast - 7, 2 => FaultTarget(), _ => ChooseTarget(8, writes: true) },
        4 or 6 => _random.Pick(XenEdges.Dr6s),
        5 or 7 => _random.Pick(XenEdges.Dr7s),
        _ => OperandValue(),
    };

    private void ReadMsr()
    {
        SetRegister(Rcx, _random.Pick(XenEdges.Msrs));
        AddSetup([0x0f, 0x32]);
        Forget([Rax, Rdx]);
    }

    private void WriteMsr()
    {
        uint msr = _random.Pick(XenEdges.Msrs);
        ulong value = msr switch
        {
            0xc000_0100 or 0xc000_0101 or 0xc000_0102 => _random.Percent(75) ? ChooseTarget(8, writes: true) : FaultTarget(),
            0xc000_0080 => _random.Pick<ulong>([0xd01, 0xd01, 0xd00, 0x501, 0xd03, 0]),
            _ => OperandValue(),
        };
        SetRegister(Rcx, msr);
        SetRegister(Rax, (uint)value);
        SetRegister(Rdx, value >> 32);
        AddSetup([0x0f, 0x30]);
        if (msr is 0xc000_0100 or 0xc000_0101)
        {
            ForgetSegmentBase(fs: msr == 0xc000_0100);
        }
    }

    private void Refused()
    {
        OperandChoice choice = default;
        byte register = ScratchRegister();
        switch (_random.Below(16))
        {
            case 0 or 1:
                // HLT.
                AddSetup([0xf4]);
                return;
            case 2 or 3:
                // WBINVD.
                AddSetup([0x0f, 0x09]);
                return;
            case 4:
                Express(ChooseTarget(1, writes: false), ref choice);
                WriteForm(Forms.Invlpg, in choice);
                return;
            case 5:
                SetRegister(register, _random.Percent(70) ? 0UL : Selector());
                WriteForm(_random.Percent(50) ? Forms.Lldt : Forms.Ltr, new OperandChoice { Rm = register });
                return;
            case 6:
                ulong target = ChooseTarget(10, writes: false);
                Span<byte> pointer = stackalloc byte[10];
                BinaryPrimitives.WriteUInt16LittleEndian(pointer, 0xfff);
                BinaryPrimitives.WriteUInt64LittleEndian(pointer[2..], ChooseTarget(8, writes: false));
                _contents.Poke(ref _random, target, pointer, _block);
                Express(target, ref choice);
                WriteForm(_random.Percent(50) ? Forms.Lgdt : Forms.Lidt, in choice);
                return;
            case 7:
                SetRegister(register, XenEdges.Cr0 & 0xffff);
                WriteForm(Forms.Lmsw, new OperandChoice { Rm = register });
                return;
            case 8 when !_kernel:
                // XSETBV of what is there anyway.
                SetRegister(Rcx, 0);
                SetRegister(Rax, _random.Pick<ulong>([1, 3, 7, 0]));
                SetRegister(Rdx, 0);
                AddSetup([0x0f, 0x01, 0xd1]);
                return;
            default:
                break;
        }

        ReadOnlySpan<byte> bytes = _random.Below(9) switch
        {
            0 or 1 => [0x0f, 0x01, 0xf8],             // SWAPGS
            2 => [0x0f, 0x07],                        // SYSRET
            3 when Long64 => [0x48, 0x0f, 0x07],
            4 => [0x0f, 0x35],                        // SYSEXIT
            5 => [0x0f, 0x01, 0xca],                  // CLAC
            6 => [0x0f, 0x01, 0xcb],                  // STAC
            7 => [0x0f, 0x01, 0xc8],                  // MONITOR
            _ => [0x0f, 0x01, 0xc9],                  // MWAIT
        };
        AddSetup(bytes);
    }

    /// <summary>IN, OUT, INS or OUTS, at ports where nothing answers.</summary>
    private void Port()
    {
        byte port = _random.Percent(50) ? XenEdges.NotesPort : XenEdges.EmptyPort;
        int kind = _random.Below(10);
        switch (kind)
        {
            case 0 or 1:
                AddSetup([(byte)(0xe6 + (kind & 1)), port]);
                return;
            case 2 or 3:
                SetRegister(Rdx, port);
                AddSetup([(byte)(0xee + (kind & 1))]);
                return;
            case 4 or 5:
                // IN AL, imm8 or DX, from where nobody is.
                SetRegister(Rdx, XenEdges.EmptyPort);
                AddSetup(kind == 4 ? [0xe4, XenEdges.EmptyPort] : [0xec]);
                Forget([Rax]);
                return;
            case 6:
                SetRegister(Rdi, ChooseTarget(1, writes: true));
                SetRegister(Rdx, XenEdges.EmptyPort);
                AddSetup([0x6c]);
                Forget([Rdi]);
                return;
            default:
                SetRegister(Rsi, ChooseTarget(4, writes: false));
                SetRegister(Rdx, port);
                bool repeated = kind == 7;
                if (repeated)
                {
                    SetRegister(Rcx, _random.Next() & 7);
                    AddSetup([0xf3, 0x6e]);
                }
                else
                {
                    AddSetup([(byte)(kind == 8 ? 0x6e : 0x6f)]);
                }

                Forget([Rsi, Rcx]);
                return;
        }
    }

    /// <summary>IRET or a far RET to what comes next, or a far CALL through a selector that may be a gate.</summary>
    private void FarTransfer()
    {
        int kind = _random.Below(8);
        if (kind < 2 && !Narrow)
        {
            // Through memory: selector and offset.
            ulong target = ChooseTarget(16, writes: false) & ~7UL;
            Span<byte> pointer = stackalloc byte[10];
            BinaryPrimitives.WriteUInt32LittleEndian(pointer, (uint)_random.Next());
            BinaryPrimitives.WriteUInt16LittleEndian(pointer[4..], _random.Percent(50) ? (ushort)(_gateSelector | _random.Below(4)) : Selector());
            _contents.Poke(ref _random, target, pointer[..6], _block);
            byte register = ScratchRegister();
            SetRegister(register, target);
            AddSetup(register >= 8 ? [0x41, 0xff, (byte)(0x18 | (register & 7))] : register is Rbp ? [0xff, 0x5d, 0x00] : [0xff, (byte)(0x18 | register)]);
            return;
        }

        EmitFarReturn(kind < 6 ? Forms.Iret : Forms.Retf);
        if (_kernel)
        {
            SetRegister(Rsp, KernelStack());
        }
    }
}
