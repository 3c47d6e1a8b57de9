using System.Buffers.Binary;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Initial registers, known values, and instructions that set a register.</content>
internal partial class CaseBuilder
{
    private protected GprFile _initial;
    private protected ulong _rflags;
    private protected ulong _startGsBase;
    private ulong _startFsBase;

    private protected void StartRegisters()
    {
        ulong bits = _random.Next();
        for (int i = 0; i < _hot.Length; i++)
        {
            // The first is the end of the first page: what is near it is split or adjacent.
            _hot[i] = (int)((bits >> (i * 8)) & 0x7f) * 64;
        }

        _hot[0] = (bits & 0x8000_0000) == 0 ? PageLayout.PageSize - 64 : PageLayout.PageSize;
        _known = (1 << _registers) - 1;
        _scratchCount = 0;
        _initial = default;
        for (int i = 0; i < _registers; i++)
        {
            bool pointer = false;
            ulong value = i == Rsp ? StackPointer() : StartValue(i, out pointer);
            _value[i] = Long64 ? value : (uint)value;
            _initial[i] = _value[i];
            if (i != Rsp && !pointer)
            {
                _scratch[_scratchCount++] = (byte)i;
            }
        }

        if (_scratchCount < 3)
        {
            (_scratch[0], _scratch[1], _scratch[2], _scratchCount) = (Rax, Rcx, Rdx, 3);
        }

        _fsKnown = Long64;
        _gsKnown = Long64;
        _fsBase = Long64 ? PointerValue() & ~0x3fUL : 0;
        _gsBase = Long64 ? PointerValue() & ~0x3fUL : 0;
        _startFsBase = _fsBase;
        _startGsBase = _gsBase;
        _rflags = StartFlags();
    }

    private protected virtual ulong StackPointer()
    {
        ulong bits = _random.Next();
        ulong middle = _block + _stackSlot + PageLayout.PageSize;
        return (bits & 63) switch
        {
            0 => Faulting(8, writes: true),
            1 => _block + _stackSlot + ((bits >> 8) & 0xff),
            2 => _block + _stackSlot + (2 * PageLayout.PageSize) - ((bits >> 8) & 0x1f),
            < 8 => middle + ((bits >> 8) & 0xff),
            < 16 => middle,
            _ => middle - ((bits >> 8) & 0x1f8),
        };
    }

    private ulong StartValue(int register, out bool pointer)
    {
        ulong bits = _random.Next();
        int kind = (int)(bits & 63);
        pointer = false;
        if (register == Rcx && kind < 32)
        {
            return (bits >> 8) & 0x1f;
        }

        if (register == Rbp && kind < 40)
        {
            pointer = true;
            return _block + _stackSlot + PageLayout.PageSize + ((bits >> 8) & 0x1f8) - 0x80;
        }

        switch (kind)
        {
            case < 30:
                pointer = true;
                return PointerValue();
            case < 46:
                return EdgeValues.Operands[(int)((bits >> 32) % (uint)EdgeValues.Operands.Length)];
            case < 56:
                return _random.Next();
            case < 63:
                return (bits >> 8) & 0x3f;
            default:
                return Faulting(8, writes: true);
        }
    }

    private ulong PointerValue() => Valid(8, writes: true);

    private protected ulong StartFlags()
    {
        ulong bits = _random.Next();
        ulong flags = RflagsBits.Fixed1 | RflagsBits.IF | (bits & RflagsBits.Status);
        bits >>= 16;
        flags |= (bits & 7) == 0 ? RflagsBits.DF : 0;
        flags |= ((bits >> 8) & 63) == 0 ? RflagsBits.TF : 0;
        flags |= ((bits >> 16) & 31) == 0 ? RflagsBits.RF : 0;
        flags |= ((bits >> 24) & 31) == 0 ? RflagsBits.NT : 0;
        flags |= ((bits >> 32) & 31) == 0 ? RflagsBits.AC : 0;
        flags |= ((bits >> 40) & 15) == 0 ? RflagsBits.ID : 0;
        return flags;
    }

    /// <summary>An operand value: an edge value, a random one, or a small one.</summary>
    private protected ulong OperandValue()
    {
        ulong bits = _random.Next();
        return (bits & 15) switch
        {
            < 10 => EdgeValues.Operands[(int)((bits >> 32) % (uint)EdgeValues.Operands.Length)],
            < 13 => bits >> 8,
            _ => (bits >> 8) & 0x7f,
        };
    }

    /// <summary>Sets a register by the shortest move and remembers its value.</summary>
    private protected void SetRegister(int register, ulong value)
    {
        Span<byte> move = stackalloc byte[10];
        int at = 0;
        int high = register >> 3;
        if (!Long64 || value <= uint.MaxValue)
        {
            value = (uint)value;
            if (high != 0)
            {
                move[at++] = 0x41;
            }

            move[at++] = (byte)(0xb8 | (register & 7));
            BinaryPrimitives.WriteUInt32LittleEndian(move[at..], (uint)value);
            at += 4;
        }
        else if ((ulong)(int)value == value)
        {
            move[at++] = (byte)(0x48 | high);
            move[at++] = 0xc7;
            move[at++] = (byte)(0xc0 | (register & 7));
            BinaryPrimitives.WriteInt32LittleEndian(move[at..], (int)value);
            at += 4;
        }
        else
        {
            move[at++] = (byte)(0x48 | high);
            move[at++] = (byte)(0xb8 | (register & 7));
            BinaryPrimitives.WriteUInt64LittleEndian(move[at..], value);
            at += 8;
        }

        AddSetup(move[..at]);
        _value[register] = value;
        _known |= 1 << register;
        _pinned |= 1 << register;
    }

    /// <summary>A segment base is no longer what the straight path says.</summary>
    private protected void ForgetSegmentBase(bool fs)
    {
        _fsKnown &= !fs;
        _gsKnown &= fs;
    }

    private protected bool IsKnown(int register) => ((_known >> register) & 1) != 0;

    /// <summary>A register that an instruction may write without spoiling pointers.</summary>
    private protected byte ScratchRegister()
    {
        for (int i = 0; i < 4; i++)
        {
            byte register = _scratch[_random.Below(_scratchCount)];
            if (((_pinned >> register) & 1) == 0)
            {
                return register;
            }
        }

        return _scratch[0];
    }

    /// <summary>A register for an operand.</summary>
    private byte OperandRegister(byte bits, Access access)
    {
        ulong random = _random.Next();
        byte register;
        if ((access & Access.Write) != 0 && (random & 15) != 0)
        {
            register = _scratch[(int)(((random >> 32) * (uint)_scratchCount) >> 32)];
        }
        else
        {
            register = (byte)((random >> 8) & (uint)(_registers - 1));
            if (register == Rsp && (access & Access.Write) != 0 && (_keepsStack || (random & 0xf0) != 0))
            {
                register = Rax;
            }
        }

        if (bits == 8)
        {
            if (((random >> 20) & 7) == 0 || (!Long64 && register >= 4))
            {
                register = (byte)(OperandChoice.HighByte | 4 | (register & 3));
            }
        }

        return register;
    }
}
