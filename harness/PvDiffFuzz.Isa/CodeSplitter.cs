using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Cuts machine code into instructions by a linear sweep.</summary>
public static class CodeSplitter
{
    /// <summary>Longest instruction that a processor accepts.</summary>
    public const int MaximumInstructionLength = 15;

    /// <summary>Finds the instruction lengths for <see cref="CodeBlock.Lengths"/>.</summary>
    /// <param name="bytes">Machine code.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <param name="vendor">Whose decoder: AMD's honours an operand-size prefix on near branches in 64-bit mode.</param>
    /// <returns>
    /// Lengths that sum to the number of bytes. Undecodable bytes form an entry of their own: the one byte where no instruction begins, or the rest of the code when it was cut short,
    /// at most <see cref="MaximumInstructionLength"/> bytes an entry.
    /// </returns>
    public static ImmutableArray<byte> Split(ReadOnlySpan<byte> bytes, CpuMode mode, CpuVendor vendor = CpuVendor.Intel)
    {
        byte[] code = bytes.ToArray();
        ImmutableArray<byte>.Builder lengths = ImmutableArray.CreateBuilder<byte>();
        ByteArrayCodeReader reader = new(code);
        Decoder decoder = Decoder.Create(mode == CpuMode.Long64 ? 64 : 32, reader, vendor == CpuVendor.Amd ? DecoderOptions.AMD : DecoderOptions.None);
        int at = 0;
        while (at < code.Length)
        {
            reader.Position = at;
            decoder.Decode(out Instruction instruction);
            int length = !instruction.IsInvalid ? instruction.Length
                : decoder.LastError == DecoderError.NoMoreBytes ? Math.Min(MaximumInstructionLength, code.Length - at)
                : 1;
            lengths.Add((byte)length);
            at += length;
        }

        return lengths.ToImmutable();
    }
}
