using System.Numerics;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Multiplication and division against numbers without a width, and facts that a reader can check by hand.</summary>
public sealed class MultiplyDivideTests
{
    private static readonly (string Prefix, string Opcode, int Bits)[] Widths = [(string.Empty, "f6", 8), ("66", "f7", 16), (string.Empty, "f7", 32), ("48", "f7", 64)];

    /// <summary>0x40 times 4 is 0x100: AH takes the upper half and CF and OF say so.</summary>
    [Fact]
    public void MulOfBytesFillsAx()
    {
        RegisterState end = Case("f6 e3", 0, (Register.Rax, 0xff40), (Register.Rbx, 4)).RunToEnd();

        Assert.Equal(0x100UL, end[Register.Rax]);
        Assert.Equal(CF | OF, end.Status() & (CF | OF));
    }

    /// <summary>-7 divided by 2 is -3 with remainder -1: towards zero.</summary>
    [Fact]
    public void IdivTruncatesTowardsZero()
    {
        RegisterState end = Case("48 f7 fb", 0, (Register.Rdx, ulong.MaxValue), (Register.Rax, unchecked((ulong)-7L)), (Register.Rbx, 2)).RunToEnd();

        Assert.Equal(-3L, (long)end[Register.Rax]);
        Assert.Equal(-1L, (long)end[Register.Rdx]);
    }

    /// <summary>A quotient of exactly -128 fits a byte, +128 does not.</summary>
    [Fact]
    public void IdivAllowsTheSmallestQuotient()
    {
        Assert.Equal(0x0080UL, Case("f6 fb", 0, (Register.Rax, 0x80), (Register.Rbx, 0xff)).RunToEnd()[Register.Rax]);
        Assert.Equal((byte)0, Case("f6 fb", 0, (Register.Rax, 0x80), (Register.Rbx, 1)).Run().Only().Vector);
    }

    /// <summary>The most negative 64-bit dividend by -1, which traps in C# too, is #DE; registers and flags stay.</summary>
    [Fact]
    public void IdivOverflowChangesNothing()
    {
        Event fault = Case("48 f7 fb", CF | ZF, (Register.Rdx, ulong.MaxValue), (Register.Rax, 1UL << 63), (Register.Rbx, ulong.MaxValue)).Run().Only();

        Assert.Equal((byte)0, fault.Vector);
        Assert.Null(fault.ErrorCode);
        Assert.Equal(End - 3, fault.Registers.Rip);
        Assert.Equal(1UL << 63, fault.Registers[Register.Rax]);
        Assert.Equal(CF | ZF, fault.Registers.Status());
    }

    /// <summary>A divisor on a page that is not there: #PF, although the dividend would overflow for any divisor below it.</summary>
    [Fact]
    public void DivFaultsOnMemoryBeforeItDivides()
    {
        const ulong missing = 0x7000_0000_0000;
        Event fault = Case("48 f7 33", 0, (Register.Rdx, ulong.MaxValue), (Register.Rbx, missing)).Run().Only();

        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(4u, fault.ErrorCode);
        Assert.Equal(missing, fault.Cr2);
    }

    /// <summary>IMUL with an immediate sign-extends it: 5 times -1 is -5, from a register and from memory.</summary>
    [Fact]
    public void ImulSignExtendsItsImmediate()
    {
        Assert.Equal(-5L, (long)Case("48 6b c3 ff", 0, (Register.Rbx, 5)).RunToEnd()[Register.Rax]);
        Assert.Equal(-5L, (long)Case("48 69 03 ff ff ff ff", 0, (Register.Rbx, Data)).With(Data, 5).RunToEnd()[Register.Rax]);
        Assert.Equal(0xffff_fffbUL, Case("6b 03 ff", 0, (Register.Rbx, Data)).With(Data, 5).RunToEnd()[Register.Rax]);
    }

    /// <summary>MUL and IMUL of edge values at every width: the product of the numbers, and CF and OF when it needs the upper half.</summary>
    [Fact]
    public void ProductsAgreeWithBigIntegers()
    {
        List<string> failures = [];
        int cases = 0;
        foreach ((string prefix, string opcode, int bits) in Widths)
        {
            foreach (bool signed in (bool[])[false, true])
            {
                using Probe probe = new($"{prefix} {opcode} {(signed ? "eb" : "e3")}");
                foreach (ulong a in Probe.Edges)
                {
                    foreach (ulong b in Probe.Edges)
                    {
                        cases++;
                        RegisterState end = probe.RunToEnd(SF, (Register.Rax, a), (Register.Rbx, b), (Register.Rdx, 0x1111UL));
                        BigInteger product = Number(a, bits, signed) * Number(b, bits, signed);
                        bool carry = product != Number((ulong)(product & ulong.MaxValue), bits, signed);
                        Compare($"{(signed ? "IMUL" : "MUL")} {a:x} * {b:x}, {bits} bits", end, Pair(a, 0x1111, product, product >> bits, bits), carry, failures);
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>IMUL with two operands at every width: the low half, and CF and OF when the number does not fit.</summary>
    [Fact]
    public void LowProductsAgreeWithBigIntegers()
    {
        List<string> failures = [];
        int cases = 0;
        foreach ((string prefix, _, int bits) in Widths.Skip(1))
        {
            using Probe probe = new($"{prefix} 0f af c3");
            foreach (ulong a in Probe.Edges)
            {
                foreach (ulong b in Probe.Edges)
                {
                    cases++;
                    RegisterState end = probe.RunToEnd(0, (Register.Rax, a), (Register.Rbx, b), (Register.Rdx, 0x1111UL));
                    BigInteger product = Number(a, bits, signed: true) * Number(b, bits, signed: true);
                    ulong low = (ulong)(product & ulong.MaxValue);
                    Compare($"IMUL {a:x}, {b:x}, {bits} bits", end, (Probe.Written(a, low, bits), 0x1111), product != Number(low, bits, signed: true), failures);
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>DIV and IDIV of edge dividends and divisors at every width: #DE exactly where the divisor is 0 or the quotient does not fit.</summary>
    [Fact]
    public void QuotientsAgreeWithBigIntegers()
    {
        List<string> failures = [];
        int cases = 0;
        int quotients = 0;
        foreach ((string prefix, string opcode, int bits) in Widths)
        {
            foreach (bool signed in (bool[])[false, true])
            {
                using Probe probe = new($"{prefix} {opcode} {(signed ? "fb" : "f3")}");
                foreach (ulong high in (ulong[])[0, 1, 0x7f, 0x80, 0xffff, 0x0123_4567_89ab_cdef, ulong.MaxValue - 1, ulong.MaxValue])
                {
                    foreach (ulong low in Probe.Edges)
                    {
                        foreach (ulong divisor in Probe.Edges)
                        {
                            cases++;
                            quotients += CompareQuotient(probe, signed, bits, high, low, divisor, failures) ? 1 : 0;
                        }
                    }
                }
            }
        }

        Assert.InRange(quotients, cases / 10, cases - (cases / 10));
        Probe.AssertNone(failures, cases);
    }

    private static bool CompareQuotient(Probe probe, bool signed, int bits, ulong high, ulong low, ulong divisor, List<string> failures)
    {
        // The upper half is AH for bytes, so that RAX carries all of the dividend.
        ulong rax = bits == 8 ? Probe.Written(low, (low & 0xff) | ((high & 0xff) << 8), 16) : low;
        BigInteger by = Number(divisor, bits, signed);
        BigInteger dividend = (Number(high, bits, signed) << bits) + Number(rax, bits, signed: false);
        BigInteger quotient = by.IsZero ? 0 : BigInteger.DivRem(dividend, by, out _);
        bool fits = !by.IsZero && quotient == Number((ulong)(quotient & ulong.MaxValue), bits, signed);
        Outcome outcome = probe.Run(0, (Register.Rax, rax), (Register.Rdx, high), (Register.Rbx, divisor));
        string what = $"{(signed ? "IDIV" : "DIV")} {high:x}:{rax:x} / {divisor:x}, {bits} bits";
        if (fits != (outcome.End == EndKind.ReachedEnd) || (!fits && outcome.Events[0].Vector != 0))
        {
            failures.Add($"{what}: {outcome.End}");
        }
        else if (fits)
        {
            (ulong Rax, ulong Rdx) expected = Pair(rax, high, quotient, dividend - (quotient * by), bits);
            if ((outcome.Registers![Register.Rax], outcome.Registers[Register.Rdx]) != expected)
            {
                failures.Add($"{what}: {outcome.Registers[Register.Rax]:x}, {outcome.Registers[Register.Rdx]:x}");
            }
        }

        return fits;
    }

    private static BigInteger Number(ulong value, int bits, bool signed)
    {
        ulong low = Probe.Low(value, bits);
        return signed && (low >> (bits - 1)) != 0 ? (BigInteger)low - (BigInteger.One << bits) : low;
    }

    private static (ulong Rax, ulong Rdx) Pair(ulong rax, ulong rdx, BigInteger low, BigInteger high, int bits)
    {
        ulong first = (ulong)(low & ulong.MaxValue);
        ulong second = (ulong)(high & ulong.MaxValue);
        return bits == 8
            ? (Probe.Written(rax, (first & 0xff) | ((second & 0xff) << 8), 16), rdx)
            : (Probe.Written(rax, first, bits), Probe.Written(rdx, second, bits));
    }

    private static void Compare(string what, RegisterState end, (ulong Rax, ulong Rdx) expected, bool carry, List<string> failures)
    {
        if ((end[Register.Rax], end[Register.Rdx]) != expected || (end.Rflags & (CF | OF)) != (carry ? CF | OF : 0))
        {
            failures.Add($"{what}: {end[Register.Rdx]:x}:{end[Register.Rax]:x} flags {end.Status():x}");
        }
    }
}
