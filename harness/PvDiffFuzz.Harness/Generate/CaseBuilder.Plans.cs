using System.Buffers.Binary;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Operands, and what has to be set up before some instructions.</content>
internal partial class CaseBuilder
{
    private void Prepare(Candidate candidate, ref OperandChoice choice)
    {
        FormTemplate template = candidate.Template;
        switch (candidate.Plan)
        {
            case Plan.Count:
                if (_random.Percent(40))
                {
                    SetRegister(Rcx, _random.Pick(EdgeValues.Bytes.AsSpan()));
                }

                break;
            case Plan.Divide:
                if (_random.Percent(90))
                {
                    PrepareDividend(template);
                }

                break;
            case Plan.Frame:
                PointRegister(Rbp, 85, stack: true);
                EnsureStack();
                break;
            case Plan.Table:
                PointRegister(Rbx, 85, stack: false);
                break;
            case Plan.SelectorPop:
                EnsureStack();
                if (_random.Percent(90))
                {
                    Push(Selector());
                }

                break;
            case Plan.PopFlags:
                EnsureStack();
                if (_random.Percent(90))
                {
                    Push(FlagsValue());
                }

                break;
            case Plan.Stack:
                EnsureStack();
                break;
        }
    }

    private void PrepareDividend(FormTemplate template)
    {
        if (template.RmBits == 8)
        {
            SetRegister(Rax, _random.Next() & 0xff);
            return;
        }

        SetRegister(Rdx, _random.Percent(80) ? 0 : _random.Next() & 7);
        if (_random.Percent(50))
        {
            SetRegister(Rax, OperandValue() >> _random.Below(40));
        }
    }

    /// <summary>Makes a register point somewhere useful, if it is not known to.</summary>
    private void PointRegister(byte register, int percent, bool stack)
    {
        if (!_random.Percent(percent))
        {
            return;
        }

        ulong value = _value[register];
        if (IsKnown(register) && AddressMap.Standard.AccessAt(value).HasFlag(PageAccess.Write))
        {
            return;
        }

        ulong target = stack ? _block + _stackSlot + PageLayout.PageSize + (_random.Next() & 0x1f8) - 0x100 : ChooseTarget(8, writes: true);
        SetRegister(register, target);
    }

    private protected void EnsureStack()
    {
        ulong room = _value[Rsp] - (_block + _stackSlot);
        if (!IsKnown(Rsp) || room is < 0x40 or > (2 * PageLayout.PageSize) - 0x40)
        {
            PointRegister(Rsp, _keepsStack ? 100 : 70, stack: true);
        }
    }

    /// <summary>PUSH imm32.</summary>
    private protected void Push(uint value)
    {
        Span<byte> push = stackalloc byte[5];
        push[0] = 0x68;
        BinaryPrimitives.WriteUInt32LittleEndian(push[1..], value);
        AddSetup(push);
        _value[Rsp] -= Long64 ? 8UL : 4UL;
    }

    /// <summary>PUSH r64 or r32.</summary>
    private protected void PushRegister(int register)
    {
        if (register >= 8)
        {
            AddSetup([0x41, (byte)(0x50 | (register & 7))]);
        }
        else
        {
            AddSetup([(byte)(0x50 | register)]);
        }

        _value[Rsp] -= Long64 ? 8UL : 4UL;
    }

    private protected virtual ushort Selector() => _random.Percent(70) ? _random.Pick(EdgeValues.GoodSelectors.AsSpan()) : _random.Pick(EdgeValues.BadSelectors.AsSpan());

    /// <summary>Flags for POPF and IRET: what user code may load, sometimes with bits that it may not.</summary>
    private protected uint FlagsValue()
    {
        ulong bits = _random.Next();
        ulong flags = RflagsBits.Fixed1 | RflagsBits.IF | (bits & RflagsBits.Status);
        bits >>= 16;
        flags |= (bits & 3) == 0 ? RflagsBits.DF : 0;
        flags |= ((bits >> 4) & 15) == 0 ? RflagsBits.TF : 0;
        flags |= ((bits >> 8) & 7) == 0 ? RflagsBits.NT : 0;
        flags |= ((bits >> 12) & 7) == 0 ? RflagsBits.ID : 0;
        flags |= ((bits >> 16) & 15) == 0 ? RflagsBits.AC : 0;
        flags |= ((bits >> 20) & 7) == 0 ? RflagsBits.IOPL | RflagsBits.RF | RflagsBits.VIF | RflagsBits.VIP : 0;
        return (uint)flags;
    }

    private void ChooseOperands(FormTemplate template, Plan plan, ref OperandChoice choice)
    {
        choice.Reg = template.RegField switch
        {
            RegField.General => OperandRegister(template.RegBits, template.RegAccess),
            RegField.Segment => (byte)_random.Below(8),
            RegField.Control or RegField.Debug => (byte)_random.Below(Long64 ? 16 : 8),
            _ => 0,
        };
        if (template.OpcodeRegBits != 0)
        {
            choice.OpcodeReg = OperandRegister(template.OpcodeRegBits, template.OpcodeRegAccess);
        }

        if (template.VvvvBits != 0)
        {
            choice.Vvvv = OperandRegister(template.VvvvBits, template.VvvvAccess);
        }

        ChooseImmediate(template, plan, ref choice);
        if (template.RmField == RmField.None)
        {
            return;
        }

        bool memory = template.RmField == RmField.Memory || (template.RmField == RmField.Either && (_random.Next() & 7) < 3);
        if (!memory)
        {
            choice.Rm = OperandRegister(template.RmBits, template.RmAccess);
            if (plan == Plan.SegmentBase && _random.Percent(90))
            {
                PrepareBase(template, ref choice);
            }

            return;
        }

        ChooseMemory(template, plan, ref choice);
    }

    private protected void PrepareBase(FormTemplate template, ref OperandChoice choice)
    {
        choice.Rm = ScratchRegister();
        ulong target = ChooseTarget(8, writes: false);
        SetRegister(choice.Rm, template.RmBits == 32 ? (uint)target : target);
        bool fs = template.Code.Mnemonic() == Mnemonic.Wrfsbase;
        bool canonical = (ulong)((long)(_value[choice.Rm] << 16) >> 16) == _value[choice.Rm];
        if (fs)
        {
            (_fsBase, _fsKnown) = (_value[choice.Rm], canonical);
        }
        else
        {
            (_gsBase, _gsKnown) = (_value[choice.Rm], canonical);
        }
    }

    private void ChooseMemory(FormTemplate template, Plan plan, ref OperandChoice choice)
    {
        if (plan == Plan.AddressOnly || (template.MemoryAccess == Access.None && (_random.Next() & 1) == 0))
        {
            ExpressAnything(ref choice);
            return;
        }

        bool writes = (template.MemoryAccess & Access.Write) != 0;
        ulong target = ChooseTarget(template.MemoryBytes, writes);
        if (template.MemoryBytes == 16 || (template.CanLock && template.Family == Family.Atomic))
        {
            // CMPXCHG16B faults when unaligned, and a locked access across a cache line stops every processor of the host.
            if (_random.Below(16) != 0)
            {
                target &= ~(ulong)(template.MemoryBytes - 1);
            }
        }

        if (plan == Plan.FarLoad)
        {
            target = _block + AddressMap.Data + (ulong)_hot[1] + (_random.Next() & 0x30);
            PokeFarPointer(template, target, (uint)_random.Next(), Selector());
        }
        else if (plan == Plan.BitOffset)
        {
            target -= BitOffset(template, ref choice);
        }

        Express(Long64 ? target : (uint)target, ref choice);
    }

    /// <summary>Bytes by which the bit offset in the register moves the access.</summary>
    private ulong BitOffset(FormTemplate template, ref OperandChoice choice)
    {
        byte register = choice.Reg;
        if (!IsKnown(register) || _random.Percent(60))
        {
            register = ScratchRegister();
            SetRegister(register, _random.Percent(50) ? OperandValue() & 0x3f : OperandValue());
            choice.Reg = register;
        }

        long offset = template.RegBits switch
        {
            16 => (short)_value[register],
            32 => (int)_value[register],
            _ => (long)_value[register],
        };
        return (ulong)((offset >> 3) & -(long)(template.RegBits / 8));
    }

    private void ChooseImmediate(FormTemplate template, Plan plan, ref OperandChoice choice)
    {
        if (template.AbsoluteAddress)
        {
            ulong target = ChooseTarget(template.MemoryBytes, (template.MemoryAccess & Access.Write) != 0);
            choice.AddressPrefix = Long64 && target <= uint.MaxValue && (_random.Next() & 3) == 0;
            choice.Immediate = target;
            return;
        }

        if (template.ImmediateBytes == 0)
        {
            return;
        }

        if (plan == Plan.Interrupt)
        {
            choice.Immediate = _random.Percent(50) ? _random.Pick<byte>([3, 4, 0x80]) : _random.Next() & 0xff;
            return;
        }

        if (plan == Plan.Frame)
        {
            choice.Immediate = _random.Percent(85) ? _random.Next() & 0x78 : _random.Next() & 0xffff;
            choice.Second = (ushort)(_random.Percent(70) ? 0 : _random.Percent(80) ? _random.Next() & 3 : _random.Next() & 0xff);
            return;
        }

        if (template.Code is Code.Shld_rm16_r16_imm8 or Code.Shrd_rm16_r16_imm8 && _random.Percent(90))
        {
            // A count past the operand leaves everything undefined.
            choice.Immediate = _random.Next() & 15;
            return;
        }

        choice.Immediate = template.ImmediateBytes == 1
            ? ((_random.Next() & 3) == 0 ? _random.Next() : _random.Pick(EdgeValues.Bytes.AsSpan()))
            : OperandValue();
        choice.Second = (ushort)_random.Next();
    }

    private void PokeFarPointer(FormTemplate template, ulong target, ulong offset, ushort selector)
    {
        // AMD has no 64-bit far pointers: REX.W loads 32 bits there, so the selector stands in both places.
        int width = template.MemoryBytes switch { 4 => 2, 6 => 4, _ => 8 };
        Span<byte> pointer = stackalloc byte[10];
        BinaryPrimitives.WriteUInt64LittleEndian(pointer, offset);
        BinaryPrimitives.WriteUInt16LittleEndian(pointer[width..], selector);
        if (width == 8 && _profile.Vendor == CpuVendor.Amd)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(pointer[4..], selector);
        }

        _contents.Poke(ref _random, target, pointer[..(width + 2)], _block);
    }

    private void EmitString(FormTemplate template)
    {
        bool source = (template.ImplicitRead & (1 << Rsi)) != 0;
        bool destination = (template.ImplicitRead & (1 << Rdi)) != 0;
        if (template.Family == Family.Entry)
        {
            (source, destination) = (false, false);
        }

        if (source)
        {
            PointString(Rsi, template.MemoryBytes);
        }

        if (destination)
        {
            PointString(Rdi, template.MemoryBytes);
        }

        byte repeat = (_random.Next() & 3) switch { 0 => 0xf2, 1 => 0xf3, _ => 0 };
        if (repeat != 0)
        {
            ulong count = _random.Below(32) switch { < 3 => 0, < 5 => 1, < 28 => _random.Next() & 15, < 31 => _random.Next() & 0xff, _ => OperandValue() };
            if (!IsKnown(Rcx) || _value[Rcx] > 64 || _random.Percent(50))
            {
                SetRegister(Rcx, count);
            }
        }

        int at = 0;
        if (repeat != 0)
        {
            _buffer[at++] = repeat;
        }

        OperandChoice choice = default;
        choice.AddressPrefix = _block == AddressMap.LowBlock && Long64 && _random.Below(24) == 0;
        choice.SegmentPrefix = _random.Below(40) == 0 ? _random.Pick<byte>([0x26, 0x2e, 0x36, 0x3e, FsPrefix]) : (byte)0;
        int length = TemplateEncoder.Encode(template, in choice, _buffer.AsSpan(at), out _);
        _code.Add(_buffer.AsSpan(0, at + length), _inside);
        Track(template, in choice, null);
        _known &= ~((1 << Rsi) | (1 << Rdi) | (repeat != 0 ? 1 << Rcx : 0));
        _pinned = 0;
    }

    private void PointString(byte register, int size)
    {
        if (IsKnown(register) && AddressMap.Standard.AccessAt(_value[register]).HasFlag(PageAccess.Write) && _random.Percent(70))
        {
            _contents.Touch(ref _random, _value[register], size, _block);
            return;
        }

        if (_random.Percent(97))
        {
            SetRegister(register, ChooseTarget(size, writes: register == Rdi));
        }
    }

    private void EmitSelectorMove(FormTemplate template)
    {
        // ES, SS, DS, FS, GS; now and then CS or a number that names nothing, which are #UD.
        int segment = _random.Below(24) == 0 ? _random.Next() is ulong bits && (bits & 1) == 0 ? 1 : 6 + (int)((bits >> 1) & 1) : _random.Pick<byte>([0, 2, 2, 3, 4, 5]);
        ushort selector = segment == 2 && _random.Percent(80) ? FlatData : Selector();
        OperandChoice choice = new() { Reg = (byte)segment };
        if (template.RmField == RmField.Either && _random.Percent(30))
        {
            ulong target = _block + AddressMap.Data + (ulong)_hot[1] + (_random.Next() & 0x38);
            _contents.Poke(ref _random, target, [(byte)selector, (byte)(selector >> 8)], _block);
            Express(target, ref choice);
        }
        else
        {
            choice.Rm = ScratchRegister();
            SetRegister(choice.Rm, selector);
        }

        Write(template, in choice, Plan.SelectorMove);
        _fsKnown &= segment != 4;
        _gsKnown &= segment != 5;
        _pinned = 0;
    }
}
