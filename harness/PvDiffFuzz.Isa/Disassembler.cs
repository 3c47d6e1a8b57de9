using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Text of an instruction in NASM's syntax: lower case, numbers as <c>0x1f</c>.</summary>
public static class Disassembler
{
    /// <summary>Disassembles one instruction.</summary>
    /// <param name="bytes">Bytes that begin with it.</param>
    /// <param name="address">Its linear address.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <returns>The text, or <c>(bad)</c> when the bytes do not decode.</returns>
    public static string Text(ReadOnlySpan<byte> bytes, ulong address, CpuMode mode)
    {
        Decoder decoder = Decoder.Create(mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(bytes.ToArray()));
        decoder.IP = address;
        decoder.Decode(out Instruction instruction);
        if (instruction.IsInvalid)
        {
            return "(bad)";
        }

        NasmFormatter formatter = new(new FormatterOptions
        {
            HexPrefix = "0x",
            HexSuffix = null,
            UppercaseHex = false,
            SmallHexNumbersInDecimal = true,
            SpaceAfterOperandSeparator = false,
            RipRelativeAddresses = false,
            BranchLeadingZeros = false,
        });
        StringOutput output = new();
        formatter.Format(in instruction, output);
        return output.ToStringAndReset();
    }
}
