using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa.Tests;

public sealed class CodeTextTests
{
    /// <summary>Lower case, hexadecimal with 0x, targets as addresses.</summary>
    [Theory]
    [InlineData("48C7C01F000000", CpuMode.Long64, "mov rax,0x1f")]
    [InlineData("EB10", CpuMode.Long64, "jmp short 0x401012")]
    [InlineData("0F0B", CpuMode.Long64, "ud2")]
    [InlineData("40", CpuMode.Compatibility32, "inc eax")]
    [InlineData("06", CpuMode.Long64, "(bad)")]
    public void DisassemblesOneInstruction(string bytes, CpuMode mode, string text) =>
        Assert.Equal(text, Disassembler.Text(Convert.FromHexString(bytes), 0x401000, mode));

    /// <summary>A linear sweep: instructions, single bad bytes, and a tail that was cut short in one entry.</summary>
    [Theory]
    [InlineData("9048C7C01F000000C3", new byte[] { 1, 7, 1 })]
    [InlineData("06069090", new byte[] { 1, 1, 1, 1 })]
    [InlineData("90488B80", new byte[] { 1, 3 })]
    [InlineData("6666666666666666666666666666666690", new byte[] { 1, 1, 15 })]
    public void SplitsCode(string bytes, byte[] lengths) =>
        Assert.Equal(lengths, CodeSplitter.Split(Convert.FromHexString(bytes), CpuMode.Long64));

    /// <summary>AMD honours an operand-size prefix on a near jump, so its displacement has two bytes.</summary>
    [Fact]
    public void SplitsByVendor()
    {
        byte[] code = Convert.FromHexString("66E90000909090");
        Assert.Equal(new byte[] { 6, 1 }, CodeSplitter.Split(code, CpuMode.Long64, CpuVendor.Intel));
        Assert.Equal(new byte[] { 4, 1, 1, 1 }, CodeSplitter.Split(code, CpuMode.Long64, CpuVendor.Amd));
    }

    /// <summary>Whatever the bytes, the lengths are 1 to 15 and sum to their number.</summary>
    [Fact]
    public void LengthsAlwaysSumUp()
    {
        Random random = new(1);
        byte[] bytes = new byte[64];
        for (int i = 0; i < 20_000; i++)
        {
            int length = random.Next(1, bytes.Length);
            random.NextBytes(bytes);
            CpuMode mode = (CpuMode)(i & 1);
            byte[] lengths = [.. CodeSplitter.Split(bytes.AsSpan(0, length), mode)];
            Assert.Equal(length, lengths.Sum(b => b));
            Assert.DoesNotContain(lengths, b => b is 0 or > 15);
        }
    }
}
