using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Memory operands: an address is chosen first, then a way to express it.</content>
internal partial class CaseBuilder
{
    private const byte FsPrefix = 0x64;
    private const byte GsPrefix = 0x65;

    private ulong _ripTarget;

    /// <summary>Chooses an address for an access and sees to it that there is something to read.</summary>
    private protected virtual ulong ChooseTarget(int size, bool writes)
    {
        if (_random.Permille(_options.FaultingOperandPermille))
        {
            ulong faulting = Faulting(size, writes);
            return Long64 ? faulting : (uint)faulting;
        }

        ulong target = Valid(size, writes);
        target = Long64 ? target : (uint)target;
        RememberAim(target);
        _contents.Touch(ref _random, target, size, _block);
        return target;
    }

    /// <summary>An address at which bytes can be accessed.</summary>
    private protected virtual ulong Valid(int size, bool writes) => Aim.Valid(ref _random, _block, size, writes, _hot);

    /// <summary>An address at which an access faults, or may.</summary>
    private protected virtual ulong Faulting(int size, bool writes) => Aim.Faulting(ref _random, _block, size, writes);

    /// <summary>Expresses an address as a memory operand. Adds an instruction that loads a register when nothing else reaches it.</summary>
    private protected void Express(ulong target, ref OperandChoice choice)
    {
        choice.IsMemory = true;
        choice.SegmentPrefix = 0;
        choice.AddressPrefix = false;
        if (!Long64)
        {
            ExpressNarrow((uint)target, ref choice);
            return;
        }

        ulong bits = _random.Next();
        bool ok = (bits & 63) switch
        {
            < 16 => ByRip(target, ref choice),
            < 46 => ByBase(target, bits >> 8, ref choice),
            < 51 => Absolute(target, ref choice),
            < 56 => BySegment(target, bits, ref choice),
            < 60 => Narrow(target, bits >> 8, ref choice),
            _ => false,
        };
        if (!ok && !ByBase(target, bits >> 16, ref choice) && !((bits & 0x40) != 0 && ByRip(target, ref choice)))
        {
            choice.SegmentPrefix = 0;
            choice.AddressPrefix = false;
            byte register = ScratchRegister();
            SetRegister(register, target);
            choice.Memory = new MemoryOperand((sbyte)register, MemoryOperand.None, 0, 0);
        }
    }

    private bool ByRip(ulong target, ref OperandChoice choice)
    {
        long distance = (long)(target - CodeTop);
        if (distance is > int.MaxValue - 0x4000 or < int.MinValue + 0x4000)
        {
            return false;
        }

        _ripTarget = target;
        choice.Memory = new MemoryOperand(MemoryOperand.Rip, MemoryOperand.None, 0, 0);
        return true;
    }

    private bool ByBase(ulong target, ulong bits, ref OperandChoice choice)
    {
        int start = (int)bits & 15;
        bool indexed = ((bits >> 4) & 3) == 0;
        for (int i = 0; i < 16; i++)
        {
            int register = (start + i) & 15;
            if (!IsKnown(register))
            {
                continue;
            }

            long distance = (long)(target - _value[register]);
            if (indexed)
            {
                int index = (int)(bits >> 8) & 15;
                int scale = (int)(bits >> 12) & 3;
                long withIndex = distance - (long)(_value[index] << scale);
                if (index != Rsp && IsKnown(index) && withIndex == (int)withIndex)
                {
                    choice.Memory = new MemoryOperand((sbyte)register, (sbyte)index, (byte)scale, (int)withIndex);
                    return true;
                }
            }

            if (distance == (int)distance)
            {
                choice.Memory = new MemoryOperand((sbyte)register, MemoryOperand.None, 0, (int)distance, ((bits >> 16) & 31) == 0);
                return true;
            }
        }

        return false;
    }

    private static bool Absolute(ulong target, ref OperandChoice choice)
    {
        if ((ulong)(int)target != target)
        {
            return false;
        }

        choice.Memory = new MemoryOperand(MemoryOperand.None, MemoryOperand.None, 0, (int)target);
        return true;
    }

    private bool BySegment(ulong target, ulong bits, ref OperandChoice choice)
    {
        bool fs = (bits & 0x80) == 0;
        if (!(fs ? _fsKnown : _gsKnown))
        {
            return false;
        }

        ulong offset = target - (fs ? _fsBase : _gsBase);
        if (!Absolute(offset, ref choice) && !ByBase(offset, bits >> 8, ref choice))
        {
            return false;
        }

        choice.SegmentPrefix = fs ? FsPrefix : GsPrefix;
        return true;
    }

    /// <summary>32-bit addressing in 64-bit mode: any known base will do, since the sum wraps at 4 GiB.</summary>
    private bool Narrow(ulong target, ulong bits, ref OperandChoice choice)
    {
        if (target > uint.MaxValue)
        {
            return false;
        }

        choice.AddressPrefix = true;
        NarrowOperand((uint)target, bits, ref choice);
        return true;
    }

    private void ExpressNarrow(uint target, ref OperandChoice choice)
    {
        ulong bits = _random.Next();
        if ((bits & 0x7f) == 0)
        {
            // 16-bit addresses are below every page of the map, so this faults.
            choice.AddressPrefix = true;
            choice.Memory = new MemoryOperand((sbyte)((bits >> 8) & 7), MemoryOperand.None, 0, (int)target);
            return;
        }

        choice.SegmentPrefix = ((bits >> 8) & 0x7f) == 0 ? FsPrefix : (byte)0;
        NarrowOperand(target, bits >> 16, ref choice);
    }

    private void NarrowOperand(uint target, ulong bits, ref OperandChoice choice)
    {
        int register = (int)bits & (_registers - 1);
        int index = (int)(bits >> 8) & (_registers - 1);
        int scale = (int)(bits >> 12) & 3;
        if (!IsKnown(register))
        {
            choice.Memory = new MemoryOperand(MemoryOperand.None, MemoryOperand.None, 0, (int)target);
        }
        else if (((bits >> 16) & 3) == 0 && index != Rsp && IsKnown(index))
        {
            uint sum = (uint)_value[register] + ((uint)_value[index] << scale);
            choice.Memory = new MemoryOperand((sbyte)register, (sbyte)index, (byte)scale, (int)(target - sum));
        }
        else
        {
            choice.Memory = new MemoryOperand((sbyte)register, MemoryOperand.None, 0, (int)(target - (uint)_value[register]));
        }
    }

    /// <summary>Any addressing form, for instructions that do not access memory.</summary>
    private void ExpressAnything(ref OperandChoice choice)
    {
        ulong bits = _random.Next();
        choice.IsMemory = true;
        sbyte register = (sbyte)(((bits >> 4) & (uint)(_registers - 1)) is ulong r && (bits & 7) == 0 ? MemoryOperand.None : (long)r);
        sbyte index = (sbyte)((bits >> 8) & (uint)(_registers - 1));
        if (index == Rsp || (bits & 0x8000) == 0)
        {
            index = MemoryOperand.None;
        }

        int displacement = (bits & 0x1_0000) == 0 ? (sbyte)(bits >> 24) : (int)(bits >> 32);
        choice.Memory = new MemoryOperand(register, index, (byte)((bits >> 20) & 3), displacement);
        choice.AddressPrefix = Long64 && ((bits >> 17) & 7) == 0;
    }
}
