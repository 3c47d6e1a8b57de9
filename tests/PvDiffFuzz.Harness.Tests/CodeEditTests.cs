using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>What names a place in the code keeps its meaning when code before that place goes away.</summary>
public sealed class CodeEditTests
{
    /// <summary>Low, so that addresses have 32 bits, and high, so that they have 64.</summary>
    public static TheoryData<ulong> Blocks => [AddressMap.LowBlock, AddressMap.HighBlock];

    [Theory]
    [MemberData(nameof(Blocks))]
    public void EveryAddressInTheCodeMovesWithIt(ulong block)
    {
        // A NOP that stays, one that goes, and five more; the address is that of the first, which moves by the byte that goes.
        ulong start = block + AddressMap.CodeEnd - 7;
        ulong stack = block + AddressMap.Stack + 0x800;
        byte[] address = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(address, start);
        TestCase before = Case(start, "90", "90", "90", "90", "90", "90", "90") with
        {
            Contents = [new MemoryContents(stack, [0x55, .. address, 0x66])],
            Responses = [new Response([new(Register.Rax, start)])],
        };
        before = before.With(Register.Rbx, start);
        before = before with { Registers = before.Registers with { Debug = new DebugRegisters(start, stack, 0, 0, 1) } };

        TestCase after = Drop(before, 1);

        Assert.Equal(start + 1, after.Code.Address);
        Assert.Equal(before.Code.End, after.Code.End);
        Assert.Equal(start + 1, after.Registers.Rip);
        Assert.Equal(start + 1, after.Registers.Gpr[(int)Register.Rbx]);
        Assert.Equal(new DebugRegisters(start + 1, stack, 0, 0, 1), after.Registers.Debug);
        Assert.Equal(start + 1, Assert.Single(Assert.Single(after.Responses).Patches).Value);
        ReadOnlySpan<byte> moved = Assert.Single(after.Contents).Bytes.AsSpan();
        Assert.Equal((0x55, 0x66, start + 1), (moved[0], moved[^1], BinaryPrimitives.ReadUInt64LittleEndian(moved[1..])));
    }

    /// <summary>As an immediate of eight bytes, of four, and as an absolute displacement with and without an immediate beside it.</summary>
    [Theory]
    [InlineData("48b8", 8, "")]
    [InlineData("68", 4, "")]
    [InlineData("48a1", 8, "")]
    [InlineData("8b0425", 4, "")]
    [InlineData("c70425", 4, "01000000")]
    public void AnAddressInAnOperandMoves(string before, int width, string after)
    {
        int length = (before.Length / 2) + width + (after.Length / 2);
        ulong start = AddressMap.LowBlock + AddressMap.CodeEnd - 2 - (ulong)length;
        byte[] address = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(address, start);
        TestCase smaller = Drop(Case(start, "90", "90", before + Convert.ToHexStringLower(address.AsSpan(0, width)) + after), 1);
        BinaryPrimitives.WriteUInt64LittleEndian(address, start + 1);

        Assert.Equal("90" + before + Convert.ToHexStringLower(address.AsSpan(0, width)) + after, Convert.ToHexStringLower(smaller.Code.Bytes.AsSpan()));
    }

    [Fact]
    public void OtherNumbersStayAsTheyAre()
    {
        ulong start = AddressMap.LowBlock + AddressMap.CodeEnd - 12;
        TestCase before = Case(start, "90", "90", "48b80030400000000000") with { Contents = [new MemoryContents(AddressMap.LowBlock + AddressMap.Data, [1, 0, 0x40, 0, 0, 0, 0, 0, 2])] };
        TestCase after = Drop(before, 1);

        Assert.Equal("9048b80030400000000000", Convert.ToHexStringLower(after.Code.Bytes.AsSpan()));
        Assert.Equal(before.Contents.ToArray(), after.Contents.ToArray());
    }

    [Theory]
    [InlineData(1, "90")]
    [InlineData(1, "90", "90", "90")]
    [InlineData(1, "90", "4811d8", "90")]
    [InlineData(2, "cd20", "90", "f390")]
    public void PaddingDoesNotCountAsInstructions(int count, params string[] code) => Assert.Equal(count, CodeEdit.CountWithoutPadding(Case(AddressMap.LowBlock, code).Code));

    private static TestCase Drop(TestCase testCase, int index)
    {
        ImmutableArray<byte>[] pieces = new ImmutableArray<byte>[testCase.Code.Lengths.Length];
        pieces[index] = [];
        TestCase? smaller = CodeEdit.Replace(testCase, pieces, CpuVendor.Amd);
        Assert.NotNull(smaller);
        return smaller;
    }

    private static TestCase Case(ulong start, params string[] code)
    {
        byte[][] pieces = [.. code.Select(Convert.FromHexString)];
        return new TestCase
        {
            Code = new CodeBlock(start, [.. pieces.SelectMany(p => p)], [.. pieces.Select(p => (byte)p.Length)]),
            Registers = new RegisterState { Gpr = default, Rip = start, Rflags = 0x202 },
            Layout = AddressMap.Standard,
        };
    }
}
