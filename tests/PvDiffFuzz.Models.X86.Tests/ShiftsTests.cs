using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Shifts and rotations against bit-by-bit stepping, and facts that a reader can check by hand.</summary>
public sealed class ShiftsTests
{
    private enum Kind
    {
        Rol,
        Ror,
        Rcl,
        Rcr,
        Shl,
        Shr,
        Sal,
        Sar,
    }

    private static readonly string[] Prefixes = ["", "66", "", "48"];

    /// <summary>0x81 shifted left by one is 2: CF took the top bit and OF tells that the sign changed.</summary>
    [Fact]
    public void ShlByOneSetsCarryAndOverflow()
    {
        RegisterState end = Case("d0 e0", 0, (Register.Rax, 0x1181)).RunToEnd();

        Assert.Equal(0x1102UL, end[Register.Rax]);
        Assert.Equal(CF | OF, end.Status());
    }

    /// <summary>RCL of 0 by one with CF brings in a 1, and nothing but CF and OF changes.</summary>
    [Fact]
    public void RclBringsInTheCarry()
    {
        RegisterState end = Case("48 d1 d0", CF | ZF | SF | AF | PF).RunToEnd();

        Assert.Equal(1UL, end[Register.Rax]);
        Assert.Equal(ZF | SF | AF | PF, end.Status());
    }

    /// <summary>A count of 0 or 32 changes no flag, but a 32-bit destination still loses its upper half.</summary>
    [Theory]
    [InlineData("c1 e0 00")]
    [InlineData("c1 e0 20")]
    [InlineData("c1 d8 20")]
    [InlineData("0f a4 d0 20")]
    public void AZeroCountOnlyZeroExtends(string code)
    {
        RegisterState end = Case(code, CF | AF | OF, (Register.Rax, 0x1111_2222_3333_4444)).RunToEnd();

        Assert.Equal(0x3333_4444UL, end[Register.Rax]);
        Assert.Equal(CF | AF | OF, end.Status());
    }

    /// <summary>RCL of eight bits by 9 rotates all the way round: value and CF as before.</summary>
    [Fact]
    public void RclOfAByteByNineIsTheIdentity()
    {
        RegisterState end = Case("c0 d0 09", CF, (Register.Rax, 0x5a)).RunToEnd();

        Assert.Equal(0x5aUL, end[Register.Rax]);
        Assert.Equal(CF, end.Status() & CF);
    }

    /// <summary>A count of 0 with a read-only destination: still #PF with W, for shifts, rotations and SHLD.</summary>
    [Theory]
    [InlineData("48 c1 23 00")]
    [InlineData("48 d3 03")]
    [InlineData("48 0f a5 03")]
    public void AZeroCountStillNeedsAWritableDestination(string code)
    {
        const ulong readOnly = AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable + 8;
        Event fault = Case(code, 0, (Register.Rbx, readOnly)).Run().Only();

        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(7u, fault.ErrorCode);
        Assert.Equal(readOnly, fault.Cr2);
    }

    /// <summary>Memory destinations: 0x80000001 rotated right by 4 in place, and 0x12345678 with 0xabcdef01 shifted in from the right by 8.</summary>
    [Fact]
    public void MemoryDestinationsAreUpdatedInPlace()
    {
        Outcome rotated = Case("c1 0b 04", 0, (Register.Rbx, Data)).With(Data, 1, 0, 0, 0x80).Run();
        Outcome shifted = Case("0f a4 13 08", 0, (Register.Rbx, Data), (Register.Rdx, 0xabcdef01)).With(Data, 0x78, 0x56, 0x34, 0x12).Run();

        Assert.Equal(new MemoryWord(Data, 0x1800_0000), Assert.Single(rotated.Memory));
        Assert.Equal(new MemoryWord(Data, 0x3456_78ab), Assert.Single(shifted.Memory));
    }

    /// <summary>Every 8-bit value, every count, both carries, all eight operations, against one bit at a time.</summary>
    [Fact]
    public void EveryByteShiftAgreesWithStepping()
    {
        List<string> failures = [];
        int cases = 0;
        foreach (Kind kind in Enum.GetValues<Kind>())
        {
            using Probe probe = new($"d2 {0xc0 + ((int)kind * 8):x2}");
            for (ulong value = 0; value < 0x100; value++)
            {
                for (int count = 0; count <= 33; count++, cases++)
                {
                    ulong before = (value & 1) == 0 ? CF | AF | SF : ZF | PF | OF;
                    Compare(probe, kind, value | 0x1100, 8, count, before, failures);
                    Compare(probe, kind, value | 0x1100, 8, count, before ^ CF, failures);
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>Edge values at 16, 32 and 64 bits by every count up to 65, in the forms with CL and with an immediate.</summary>
    [Fact]
    public void WideShiftsAgreeWithStepping()
    {
        List<string> failures = [];
        int cases = 0;
        foreach (Kind kind in Enum.GetValues<Kind>())
        {
            for (int width = 1; width < Prefixes.Length; width++)
            {
                string modrm = $"{0xc0 + ((int)kind * 8):x2}";
                using Probe byCl = new($"{Prefixes[width]} d3 {modrm}");
                using Probe byImmediate = new($"{Prefixes[width]} c1 {modrm} 0b");
                using Probe byOne = new($"{Prefixes[width]} d1 {modrm}");
                foreach (ulong value in Probe.Edges)
                {
                    for (int count = 0; count <= 65; count++, cases++)
                    {
                        Compare(byCl, kind, value, 8 << width, count, (ulong)count & CF, failures);
                    }

                    Compare(byImmediate, kind, value, 8 << width, 11, CF, failures);
                    Compare(byOne, kind, value, 8 << width, 1, CF, failures);
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>SHLD and SHRD at every width by every defined count, against one bit at a time.</summary>
    [Fact]
    public void DoubleShiftsAgreeWithStepping()
    {
        List<string> failures = [];
        int cases = 0;
        foreach (bool left in (bool[])[true, false])
        {
            for (int width = 1; width < Prefixes.Length; width++)
            {
                using Probe byCl = new($"{Prefixes[width]} 0f {(left ? "a5" : "ad")} d0");
                using Probe byImmediate = new($"{Prefixes[width]} 0f {(left ? "a4" : "ac")} d0 0b");
                foreach (ulong value in Probe.Edges)
                {
                    foreach (ulong filler in Probe.Edges)
                    {
                        for (int count = 0; count <= 64; count += count < 4 ? 1 : 3, cases++)
                        {
                            CompareDouble(byCl, left, value, filler, 8 << width, count, failures);
                        }

                        CompareDouble(byImmediate, left, value, filler, 8 << width, 11, failures);
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    private static void Compare(Probe probe, Kind kind, ulong value, int bits, int count, ulong before, List<string> failures)
    {
        RegisterState end = probe.RunToEnd(before, (Register.Rax, value), (Register.Rcx, (ulong)count));
        int steps = count & (bits == 64 ? 63 : 31);
        ulong result = Probe.Low(value, bits);
        bool carry = (before & CF) != 0;
        bool signChanged = false;
        for (int i = 0; i < steps; i++)
        {
            ulong old = result;
            (result, carry) = Step(kind, result, carry, bits);
            signChanged = ((old ^ result) >> (bits - 1)) != 0;
        }

        bool shift = kind >= Kind.Shl;
        ulong expected = before;
        ulong defined = RflagsBits.Status;
        if (steps > 0)
        {
            expected = (before & ~(CF | OF)) | (carry ? CF : 0) | (signChanged ? OF : 0);
            defined &= ~(steps == 1 ? 0 : OF);
            if (shift)
            {
                expected = (expected & (CF | OF)) | Probe.ResultFlags(result, bits);
                defined &= ~(AF | (steps >= bits && kind != Kind.Sar ? CF : 0));
            }
        }

        Check($"{kind} {value:x} by {count}, {bits} bits, flags {before:x}", end, Probe.Written(value, result, bits), expected, defined, failures);
    }

    private static (ulong Value, bool Carry) Step(Kind kind, ulong value, bool carry, int bits)
    {
        ulong top = 1UL << (bits - 1);
        bool high = (value & top) != 0;
        bool low = (value & 1) != 0;
        bool left = kind is Kind.Rol or Kind.Rcl or Kind.Shl or Kind.Sal;
        bool fill = kind switch
        {
            Kind.Rol => high,
            Kind.Ror => low,
            Kind.Rcl or Kind.Rcr => carry,
            Kind.Sar => high,
            _ => false,
        };
        return left
            ? (Probe.Low(value << 1, bits) | (fill ? 1UL : 0), high)
            : ((value >> 1) | (fill ? top : 0), low);
    }

    private static void CompareDouble(Probe probe, bool left, ulong value, ulong filler, int bits, int count, List<string> failures)
    {
        const ulong before = CF | OF | AF;
        int steps = count & (bits == 64 ? 63 : 31);
        if (steps > bits)
        {
            return;
        }

        RegisterState end = probe.RunToEnd(before, (Register.Rax, value), (Register.Rcx, (ulong)count), (Register.Rdx, filler));
        ulong top = 1UL << (bits - 1);
        ulong result = Probe.Low(value, bits);
        ulong source = filler;
        ulong expected = before;
        for (int i = 0; i < steps; i++)
        {
            ulong old = result;
            bool carry = (result & (left ? top : 1)) != 0;
            result = left
                ? Probe.Low(result << 1, bits) | ((source & top) != 0 ? 1UL : 0)
                : (result >> 1) | ((source & 1) != 0 ? top : 0);
            source = left ? source << 1 : source >> 1;
            expected = Probe.ResultFlags(result, bits) | (carry ? CF : 0) | (((old ^ result) & top) != 0 ? OF : 0);
        }

        ulong defined = steps == 0 ? RflagsBits.Status : RflagsBits.Status & ~(AF | (steps == 1 ? 0 : OF));
        Check($"{(left ? "SHLD" : "SHRD")} {value:x}, {filler:x} by {count}, {bits} bits", end, Probe.Written(value, result, bits), expected, defined, failures);
    }

    private static void Check(string what, RegisterState end, ulong value, ulong flags, ulong defined, List<string> failures)
    {
        if (end[Register.Rax] != value || ((end.Rflags ^ flags) & defined) != 0)
        {
            failures.Add($"{what}: {end[Register.Rax]:x} flags {end.Status() & defined:x}, stepping gives {value:x} flags {flags & defined:x}");
        }
    }
}
