using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Writes instructions from templates. It does what it is told: a choice that the processor refuses is encoded all the same.</summary>
public static class TemplateEncoder
{
    /// <summary>Most bytes that <see cref="Encode"/> writes.</summary>
    public const int MaximumLength = 24;

    /// <summary>Encodes one instruction.</summary>
    /// <param name="template">The form.</param>
    /// <param name="choice">Its operands.</param>
    /// <param name="destination">Room for <see cref="MaximumLength"/> bytes.</param>
    /// <param name="displacementAt">Offset of a 32-bit RIP-relative displacement or of the immediate field, else 0.</param>
    /// <returns>Bytes written.</returns>
    public static int Encode(FormTemplate template, in OperandChoice choice, Span<byte> destination, out int displacementAt)
    {
        int at = 0;
        displacementAt = 0;
        if (choice.SegmentPrefix != 0)
        {
            destination[at++] = choice.SegmentPrefix;
        }

        bool addressPrefix = template.AddressSizePrefix || choice.AddressPrefix;
        if (addressPrefix)
        {
            destination[at++] = 0x67;
        }

        if (template.OperandSizePrefix)
        {
            destination[at++] = 0x66;
        }

        uint opcode = template.Opcode;
        if (template.OpcodeRegBits != 0)
        {
            opcode += (uint)(choice.OpcodeReg & 7) << ((template.OpcodeLength - 1) * 8);
        }

        int rex = RexBits(template, in choice);
        if (template.Space == OpcodeSpace.Legacy)
        {
            if (template.MandatoryPrefix != 0)
            {
                destination[at++] = template.MandatoryPrefix;
            }

            if (rex != 0 && template.Mode == CpuMode.Long64)
            {
                destination[at++] = (byte)(0x40 | rex);
            }

            for (int i = 0; i < template.OpcodeLength; i++)
            {
                destination[at++] = (byte)(opcode >> (i * 8));
            }
        }
        else
        {
            int simd = template.MandatoryPrefix switch { 0x66 => 1, 0xf3 => 2, 0xf2 => 3, _ => 0 };
            destination[at++] = template.Space == OpcodeSpace.Vex ? (byte)0xc4 : (byte)0x8f;
            destination[at++] = (byte)(((~rex & 7) << 5) | template.Map);
            int vvvv = template.VvvvBits != 0 ? choice.Vvvv & 15 : 0;
            destination[at++] = (byte)((template.Wide ? 0x80 : 0) | ((~vvvv & 15) << 3) | simd);
            destination[at++] = (byte)opcode;
        }

        if (template.RmField != RmField.None)
        {
            at = ModRm(template, in choice, addressPrefix, destination, at, ref displacementAt);
        }

        int immediateBytes = template.AbsoluteAddress
            ? (template.Mode == CpuMode.Long64 ? 8 : 4) >> (addressPrefix ? 1 : 0)
            : template.ImmediateBytes + template.BranchBytes;
        if (immediateBytes != 0)
        {
            if (displacementAt == 0)
            {
                displacementAt = at;
            }

            for (int i = 0; i < immediateBytes; i++)
            {
                destination[at++] = (byte)(choice.Immediate >> (i * 8));
            }
        }

        for (int i = 0; i < template.SecondBytes; i++)
        {
            destination[at++] = (byte)(choice.Second >> (i * 8));
        }

        return at;
    }

    private static int RexBits(FormTemplate template, in OperandChoice choice)
    {
        int rex = choice.Rex;
        if (template.Wide)
        {
            rex |= 0x48;
        }

        if (template.RegField is RegField.General or RegField.Control or RegField.Debug)
        {
            rex |= Extension(choice.Reg, template.RegBits, 4);
        }

        if (template.OpcodeRegBits != 0)
        {
            rex |= Extension(choice.OpcodeReg, template.OpcodeRegBits, 1);
        }

        if (template.RmField != RmField.None)
        {
            if (!choice.IsMemory)
            {
                rex |= Extension(choice.Rm, template.RmBits, 1);
            }
            else
            {
                rex |= choice.Memory.Base is >= 8 and < 16 ? 0x41 : 0;
                rex |= choice.Memory.Index >= 8 ? 0x42 : 0;
            }
        }

        return rex;
    }

    /// <summary>SPL, BPL, SIL and DIL need a REX byte although they need no bit of it.</summary>
    private static int Extension(byte register, byte bits, int bit) =>
        (register & 8) != 0 ? 0x40 | bit : bits == 8 && register is >= 4 and < 8 ? 0x40 : 0;

    private static int ModRm(FormTemplate template, in OperandChoice choice, bool addressPrefix, Span<byte> destination, int at, ref int displacementAt)
    {
        int reg = (template.RegField == RegField.Digit ? template.Digit : choice.Reg & 7) << 3;
        if (!choice.IsMemory)
        {
            destination[at++] = (byte)(0xc0 | reg | (choice.Rm & 7));
            return at;
        }

        MemoryOperand memory = choice.Memory;
        if (addressPrefix && template.Mode == CpuMode.Compatibility32)
        {
            return SixteenBitAddress(in memory, reg, destination, at);
        }

        if (memory.Base == MemoryOperand.Rip)
        {
            destination[at++] = (byte)(reg | 5);
            displacementAt = at;
            BinaryPrimitives.WriteInt32LittleEndian(destination[at..], memory.Displacement);
            return at + 4;
        }

        bool noBase = memory.Base == MemoryOperand.None;
        bool sib = memory.Index != MemoryOperand.None || (memory.Base & 7) == 4 || (noBase && template.Mode == CpuMode.Long64);
        int mode = noBase ? 0
            : memory.WideDisplacement ? 0x80
            : memory.Displacement == 0 && (memory.Base & 7) != 5 ? 0
            : (sbyte)memory.Displacement == memory.Displacement ? 0x40
            : 0x80;
        destination[at++] = (byte)(mode | reg | (sib ? 4 : noBase ? 5 : memory.Base & 7));
        if (sib)
        {
            int index = memory.Index == MemoryOperand.None ? 4 : memory.Index & 7;
            destination[at++] = (byte)((memory.Scale << 6) | (index << 3) | (noBase ? 5 : memory.Base & 7));
        }

        if (mode == 0x40)
        {
            destination[at++] = (byte)memory.Displacement;
        }
        else if (mode == 0x80 || noBase)
        {
            BinaryPrimitives.WriteInt32LittleEndian(destination[at..], memory.Displacement);
            at += 4;
        }

        return at;
    }

    /// <summary>16-bit addressing knows eight pairs of registers; the base number picks one.</summary>
    private static int SixteenBitAddress(in MemoryOperand memory, int reg, Span<byte> destination, int at)
    {
        bool noBase = memory.Base == MemoryOperand.None;
        destination[at++] = (byte)((noBase ? 0 : 0x80) | reg | (noBase ? 6 : memory.Base & 7));
        BinaryPrimitives.WriteInt16LittleEndian(destination[at..], (short)memory.Displacement);
        return at + 2;
    }
}
