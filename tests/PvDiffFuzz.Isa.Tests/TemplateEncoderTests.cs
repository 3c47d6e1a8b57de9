using System.Text;
using Iced.Intel;
using PvDiffFuzz.Core;
using Decoder = Iced.Intel.Decoder;

namespace PvDiffFuzz.Isa.Tests;

public sealed class TemplateEncoderTests
{
    /// <summary>Every template decodes to its form with every general register in every place, and with the addressing forms that ModRM and SIB have.</summary>
    [Theory]
    [InlineData(CpuMode.Long64)]
    [InlineData(CpuMode.Compatibility32)]
    public void EncodesEveryFormWithEveryRegisterAndAddressingForm(CpuMode mode)
    {
        StringBuilder failures = new();
        byte[] buffer = new byte[TemplateEncoder.MaximumLength];
        int encoded = 0;
        foreach (FormTemplate template in InstructionForms.Templates(mode))
        {
            if (template.Code.Mnemonic() == Mnemonic.Reservednop)
            {
                // What the reg field of these does not reserve is another no-op.
                continue;
            }

            foreach (OperandChoice choice in Choices(template))
            {
                OperandChoice current = choice;
                int length = TemplateEncoder.Encode(template, in current, buffer, out _);
                Decoder decoder = Decoder.Create(mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(buffer[..length]));
                decoder.Decode(out Instruction instruction);
                encoded++;
                if (instruction.Code != template.Code || instruction.Length != length || !OperandsMatch(in instruction, template, in current))
                {
                    failures.AppendLine($"{template}: {Convert.ToHexString(buffer, 0, length)} decodes as {instruction.Code} {instruction}");
                }
            }
        }

        Assert.True(encoded > 10_000, "too few encodings were tried");
        Assert.True(failures.Length == 0, failures.ToString());
    }

    /// <summary>AH needs no REX, SPL does.</summary>
    [Theory]
    [InlineData(OperandChoice.HighByte | 4, "00C4", "add ah,al")]
    [InlineData(4, "4000C4", "add spl,al")]
    [InlineData(12, "4100C4", "add r12b,al")]
    public void EncodesByteRegisters(byte register, string bytes, string text)
    {
        FormTemplate template = InstructionForms.Template(Code.Add_rm8_r8, CpuMode.Long64)!;
        OperandChoice choice = new() { Rm = register };
        byte[] buffer = new byte[TemplateEncoder.MaximumLength];
        int length = TemplateEncoder.Encode(template, in choice, buffer, out _);
        Assert.Equal(bytes, Convert.ToHexString(buffer, 0, length));
        Assert.Equal(text, Disassembler.Text(buffer.AsSpan(0, length), 0, CpuMode.Long64));
    }

    private static IEnumerable<OperandChoice> Choices(FormTemplate template)
    {
        bool wide = template.Mode == CpuMode.Long64;
        int registers = wide ? 16 : 8;
        for (byte i = 0; i < registers && template.RmField != RmField.Memory; i++)
        {
            // In 32-bit mode byte registers 4 to 7 are AH to BH.
            bool special = template.RegField is RegField.Segment or RegField.Control or RegField.Debug;
            yield return new OperandChoice
            {
                Reg = special ? (byte)0 : i,
                Rm = (byte)((i + 5) % registers),
                OpcodeReg = template.Code is Code.Xchg_r16_AX or Code.Xchg_r32_EAX or Code.Xchg_r64_RAX ? (byte)(i | 1) : i,
                Vvvv = (byte)((i + 9) % registers),
                Immediate = 0x12,
            };
        }

        if (template.RmField is not (RmField.Memory or RmField.Either))
        {
            yield break;
        }

        for (sbyte b = -1; b < registers; b++)
        {
            foreach (sbyte x in (sbyte[])[-1, 0, 3, 5, 7])
            {
                foreach (int displacement in (int[])[0, 1, -128, 127, 128, int.MinValue, int.MaxValue])
                {
                    yield return new OperandChoice
                    {
                        Reg = template.RegField == RegField.Segment ? (byte)0 : (byte)3,
                        Vvvv = 2,
                        IsMemory = true,
                        Memory = new MemoryOperand(b, x, (byte)(x & 3), displacement),
                        Immediate = 0x12,
                    };
                }
            }
        }
    }

    private static bool OperandsMatch(in Instruction instruction, FormTemplate template, in OperandChoice choice)
    {
        // 16-bit addresses name pairs of registers.
        bool pairs = template.AddressSizePrefix && template.Mode == CpuMode.Compatibility32;
        if (!choice.IsMemory || template.RmField == RmField.None || pairs)
        {
            return true;
        }

        ulong displacement = instruction.MemoryDisplacement64;
        bool sameDisplacement = (uint)displacement == (uint)choice.Memory.Displacement;
        bool sameBase = choice.Memory.Base < 0
            ? instruction.MemoryBase == Iced.Intel.Register.None
            : instruction.MemoryBase.GetNumber() == choice.Memory.Base;
        bool sameIndex = choice.Memory.Index < 0
            ? instruction.MemoryIndex == Iced.Intel.Register.None
            : instruction.MemoryIndex.GetNumber() == choice.Memory.Index && instruction.MemoryIndexScale == 1 << choice.Memory.Scale;
        return sameDisplacement && sameBase && sameIndex;
    }
}
