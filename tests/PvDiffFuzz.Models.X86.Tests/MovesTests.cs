using PvDiffFuzz.Core;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about MOV and its relatives.</summary>
public sealed class MovesTests
{
    /// <summary>C7 extends its 32-bit immediate; a 32-bit move clears the upper half.</summary>
    [Fact]
    public void ImmediatesAreSignExtendedTo64BitsOnly()
    {
        Assert.Equal(ulong.MaxValue, Case("48 c7 c0 ff ff ff ff").RunToEnd()[Register.Rax]);
        Assert.Equal(0xffff_ffffUL, Case("c7 c0 ff ff ff ff").RunToEnd()[Register.Rax]);
    }

    /// <summary>0x80 as a byte: MOVZX gives 0x80, MOVSX to 16 bits ff80 and the rest kept.</summary>
    [Fact]
    public void ZeroAndSignExtensionDiffer()
    {
        Assert.Equal(0x80UL, Case("0f b6 c3", 0, (Register.Rbx, 0x1180)).RunToEnd()[Register.Rax]);
        Assert.Equal(0x1111_ff80UL, Case("66 0f be c3", 0, (Register.Rax, 0x1111_2222), (Register.Rbx, 0x80)).RunToEnd()[Register.Rax]);
        Assert.Equal(0xffff_ffff_8000_0000UL, Case("48 63 c3", 0, (Register.Rbx, 0x8000_0000)).RunToEnd()[Register.Rax]);
    }

    /// <summary>66 63 /r two bytes before the end of a mapping: AMD reads four bytes and faults at the next page, Intel reads two.</summary>
    [Fact]
    public void MoveSignDoubleword16ReadsByVendor()
    {
        const ulong last = AddressMap.LowBlock + AddressMap.Data + 0x1ffe;
        TestCase testCase = Case("66 63 03", 0, (Register.Rbx, last)).With(last, 0x34, 0x12);

        Assert.Equal(last + 2, testCase.Run().Only().Cr2);
        Assert.Equal(0x1234UL, testCase.RunToEnd(CpuProfile.DefaultIntel)[Register.Rax]);
    }

    /// <summary>LEA with prefix 67 truncates the sum to 32 bits, without a segment base.</summary>
    [Fact]
    public void LoadAddressTruncatesToTheAddressSize() =>
        Assert.Equal(1UL, Case("67 48 8d 04 0b", 0, (Register.Rbx, ulong.MaxValue), (Register.Rcx, 2), (Register.Rax, 7)).RunToEnd()[Register.Rax]);

    /// <summary>XLAT adds AL only; MOVBE swaps 12 34 to 3412.</summary>
    [Fact]
    public void TranslateIndexesByAlAndMovbeSwaps()
    {
        Assert.Equal(0xff00_0099UL, Case("d7", 0, (Register.Rax, 0xff00_0005), (Register.Rbx, Data)).With(Data + 5, 0x99).RunToEnd()[Register.Rax]);
        Assert.Equal(0x1234UL, Case("66 0f 38 f0 03", 0, (Register.Rbx, Data)).With(Data, 0x12, 0x34).RunToEnd()[Register.Rax]);
    }
}
