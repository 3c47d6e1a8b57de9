using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Decimal arithmetic: two instructions together compute what school arithmetic computes.</summary>
public sealed class BcdTests
{
    /// <summary>ADD or ADC and then DAA: all pairs of packed decimal numbers, with both carries.</summary>
    [Fact]
    public void DaaMakesSumsDecimal() => Packed("10 d8 27", (a, b, carry) => a + b + carry);

    /// <summary>SBB and then DAS: all pairs of packed decimal numbers, with both borrows.</summary>
    [Fact]
    public void DasMakesDifferencesDecimal() => Packed("18 d8 2f", (a, b, borrow) => a - b - borrow);

    /// <summary>ADD and AAA, SUB and AAS: all pairs of digits; AH counts the carry or borrow, and CF and AF show it.</summary>
    [Fact]
    public void AaaAndAasMakeDigits()
    {
        List<string> failures = [];
        int cases = 0;
        using Probe add = new("00 d8 37", CpuMode.Compatibility32);
        using Probe subtract = new("28 d8 3f", CpuMode.Compatibility32);
        for (int a = 0; a < 10; a++)
        {
            for (int b = 0; b < 10; b++, cases++)
            {
                CompareDigits(add, a, b, a + b, failures);
                CompareDigits(subtract, a, b, a - b, failures);
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>AAA of AL 0xff: the correction is one of 16 bits, so AH grows by 2.</summary>
    [Fact]
    public void AaaCarriesIntoAh()
    {
        RegisterState end = Case(CpuMode.Compatibility32, "37", 0, (Register.Rax, 0x05ff)).RunToEnd();

        Assert.Equal(0x0705UL, end[Register.Rax]);
        Assert.Equal(CF | AF, end.Status() & (CF | AF));
    }

    /// <summary>AAM and then AAD with any base give AL back, and flags follow AL.</summary>
    [Fact]
    public void AamAndAadAreInverse()
    {
        List<string> failures = [];
        int cases = 0;
        for (int radix = 1; radix < 256; radix += 1 + (radix / 16))
        {
            using Probe split = new($"d4 {radix:x2}", CpuMode.Compatibility32);
            using Probe join = new($"d5 {radix:x2}", CpuMode.Compatibility32);
            for (int al = 0; al < 256; al++, cases++)
            {
                RegisterState digits = split.RunToEnd(0, (Register.Rax, 0x1234_5600 | (ulong)al));
                RegisterState joined = join.RunToEnd(0, (Register.Rax, digits[Register.Rax]));
                ulong expected = 0x1234_0000 | (ulong)(uint)(((al / radix) << 8) + (al % radix));
                if (digits[Register.Rax] != expected
                    || (digits.Rflags & (SF | ZF | PF)) != Probe.ResultFlags((ulong)(al % radix), 8)
                    || joined[Register.Rax] != (0x1234_0000 | (ulong)al)
                    || (joined.Rflags & (SF | ZF | PF)) != Probe.ResultFlags((ulong)al, 8))
                {
                    failures.Add($"{al} base {radix}: {digits[Register.Rax]:x}, {joined[Register.Rax]:x}");
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>AAM with base 0 is #DE.</summary>
    [Fact]
    public void AamByZeroIsADivideError() => Assert.Equal((byte)0, Case(CpuMode.Compatibility32, "d4 00").Run().Only().Vector);

    /// <summary>SALC makes AL all ones or all zeros and changes no flag.</summary>
    [Fact]
    public void SalcCopiesTheCarry()
    {
        RegisterState set = Case(CpuMode.Compatibility32, "d6", CF | ZF, (Register.Rax, 0x1122)).RunToEnd();
        RegisterState clear = Case(CpuMode.Compatibility32, "d6", ZF, (Register.Rax, 0x1122)).RunToEnd();

        Assert.Equal((0x11ffUL, CF | ZF), (set[Register.Rax], set.Status()));
        Assert.Equal((0x1100UL, ZF), (clear[Register.Rax], clear.Status()));
    }

    /// <summary>None of them exists in 64-bit mode. A byte follows each, so that no fetch at the end of the page comes first.</summary>
    [Theory]
    [InlineData("27 90")]
    [InlineData("2f 90")]
    [InlineData("37 90")]
    [InlineData("3f 90")]
    [InlineData("d4 0a")]
    [InlineData("d5 0a")]
    [InlineData("d6 90")]
    public void TheyAreUndefinedInLongMode(string code) => Assert.Equal((byte)6, Case(code).Run().Only().Vector);

    private static void Packed(string code, Func<int, int, int, int> compute)
    {
        List<string> failures = [];
        int cases = 0;
        using Probe probe = new(code, CpuMode.Compatibility32);
        for (int a = 0; a < 100; a++)
        {
            for (int b = 0; b < 100; b++)
            {
                for (int carry = 0; carry < 2; carry++, cases++)
                {
                    RegisterState end = probe.RunToEnd((ulong)carry, (Register.Rax, ToPacked(a)), (Register.Rbx, ToPacked(b)));
                    int exact = compute(a, b, carry);
                    ulong expected = ToPacked((exact + 100) % 100);
                    bool overflows = exact is < 0 or > 99;
                    ulong flags = Probe.ResultFlags(expected, 8) | (overflows ? CF : 0);
                    if (end[Register.Rax] != expected || (end.Rflags & (CF | SF | ZF | PF)) != flags)
                    {
                        failures.Add($"{a}, {b}, carry {carry}: {end[Register.Rax]:x} flags {end.Status():x}");
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    private static void CompareDigits(Probe probe, int a, int b, int exact, List<string> failures)
    {
        RegisterState end = probe.RunToEnd(0, (Register.Rax, 0x500 | (ulong)a), (Register.Rbx, (ulong)b));
        int carry = exact < 0 ? -1 : exact > 9 ? 1 : 0;
        ulong expected = (ulong)(((5 + carry) << 8) + ((exact + 10) % 10));
        if (end[Register.Rax] != expected || (end.Rflags & (CF | AF)) != (carry != 0 ? CF | AF : 0))
        {
            failures.Add($"{a}, {b}: {end[Register.Rax]:x} flags {end.Status():x}");
        }
    }

    private static ulong ToPacked(int number) => (ulong)(((number / 10) << 4) | (number % 10));
}
