using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about ADD and its sisters that a reader can check by hand.</summary>
public sealed class ArithmeticTests
{
    /// <summary>All ones plus one is 0 with CF, PF, AF and ZF.</summary>
    [Fact]
    public void AddSetsCarryAndZeroWhenTheSumWraps()
    {
        RegisterState end = Case("48 01 d8", 0, (Register.Rax, ulong.MaxValue), (Register.Rbx, 1)).RunToEnd();

        Assert.Equal(0UL, end[Register.Rax]);
        Assert.Equal(CF | PF | AF | ZF, end.Status());
    }

    /// <summary>ADC of all ones with carry: b + CF wraps to 0, and the carry out is still set.</summary>
    [Fact]
    public void AdcKeepsTheCarryWhenTheSourcePlusCarryWraps()
    {
        RegisterState end = Case("48 11 d8", CF, (Register.Rax, 5), (Register.Rbx, ulong.MaxValue)).RunToEnd();

        Assert.Equal(5UL, end[Register.Rax]);
        Assert.Equal(CF | PF | AF, end.Status());
    }

    /// <summary>0x80 - 1 as bytes overflows to 0x7f, and AH is the register touched.</summary>
    [Fact]
    public void SubOfAHighByteSetsOverflow()
    {
        RegisterState end = Case("80 ec 01", 0, (Register.Rax, 0x1180_22)).RunToEnd();

        Assert.Equal(0x117f_22UL, end[Register.Rax]);
        Assert.Equal(OF | AF, end.Status());
    }

    /// <summary>A 32-bit result clears the upper half; a 16-bit one keeps the rest.</summary>
    [Fact]
    public void WidthDecidesWhatHappensToTheUpperHalf()
    {
        Assert.Equal(0UL, Case("31 c0", 0, (Register.Rax, ulong.MaxValue)).RunToEnd()[Register.Rax]);
        Assert.Equal(0xffff_ffff_ffff_0000UL, Case("66 31 c0", 0, (Register.Rax, ulong.MaxValue)).RunToEnd()[Register.Rax]);
    }

    /// <summary>INC keeps CF; NOT keeps everything; NEG of the minimum overflows.</summary>
    [Fact]
    public void OneOperandFormsSetTheirFlags()
    {
        Assert.Equal(CF | PF | AF | ZF, Case("fe c0", CF, (Register.Rax, 0xff)).RunToEnd().Status());
        Assert.Equal(CF | SF, Case("48 f7 d0", CF | SF).RunToEnd().Status());
        Assert.Equal(CF | OF | SF | PF, Case("48 f7 d8", 0, (Register.Rax, 1UL << 63)).RunToEnd().Status());
    }

    /// <summary>A memory destination is written, and only it.</summary>
    [Fact]
    public void AddToMemoryStoresTheSum()
    {
        Outcome outcome = Case("48 01 03", 0, (Register.Rax, 0x11), (Register.Rbx, Data)).With(Data, 0x22).Run();

        Assert.Equal(new MemoryWord(Data, 0x33), Assert.Single(outcome.Memory));
    }

    /// <summary>ADD to a read-only page: #PF with P, W and U, CR2 the address, RF in the frame, and no flag changed.</summary>
    [Fact]
    public void AddToAReadOnlyPageFaultsAsAWriteAndChangesNothing()
    {
        const ulong readOnly = AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable + 8;
        Event fault = Case("48 01 03", ZF, (Register.Rax, 1), (Register.Rbx, readOnly)).Run().Only();

        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(7u, fault.ErrorCode);
        Assert.Equal(readOnly, fault.Cr2);
        Assert.Equal(End - 3, fault.Registers.Rip);
        Assert.Equal(Fixed1 | IF | ZF | RF, fault.Registers.Rflags);
    }
}
