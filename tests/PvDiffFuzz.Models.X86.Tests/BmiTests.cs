using System.Numerics;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>BMI, ADX and CRC32: RAX is the destination, RBX the register or memory source, RCX the other one.</summary>
public sealed class BmiTests
{
    private const ulong BitFlags = CF | ZF | SF | OF;

    /// <summary>PDEP spreads 0b101 over the mask 0xf0 to 0x50, and PEXT brings 0x50 back; from memory as well.</summary>
    [Fact]
    public void PdepAndPextAreInverse()
    {
        Assert.Equal(0x50UL, Case("c4 e2 f3 f5 c3", 0, (Register.Rcx, 5), (Register.Rbx, 0xf0)).RunToEnd()[Register.Rax]);
        Assert.Equal(5UL, Case("c4 e2 f2 f5 c3", 0, (Register.Rcx, 0x50), (Register.Rbx, 0xf0)).RunToEnd()[Register.Rax]);
        Assert.Equal(0x50UL, Case("c4 e2 f3 f5 03", 0, (Register.Rcx, 5), (Register.Rbx, Data)).With(Data, 0xf0).RunToEnd()[Register.Rax]);
    }

    /// <summary>MULX with one register twice keeps the high half: all ones squared has 0xffff_fffe on top.</summary>
    [Fact]
    public void MulxIntoOneRegisterKeepsTheHighHalf()
    {
        RegisterState end = Case("c4 e2 7b f6 c3", CF, (Register.Rdx, 0xffff_ffff), (Register.Rbx, 0xffff_ffff)).RunToEnd();

        Assert.Equal(0xffff_fffeUL, end[Register.Rax]);
        Assert.Equal(CF, end.Status());
    }

    /// <summary>SHLX takes its value from memory and its count from a register; a fault leaves the destination.</summary>
    [Fact]
    public void ShlxLoadsItsValue()
    {
        Assert.Equal(0x30UL, Case("c4 e2 71 f7 03", 0, (Register.Rcx, 36), (Register.Rbx, Data)).With(Data, 3).RunToEnd()[Register.Rax]);
        Event fault = Case("c4 e2 71 f7 03", 0, (Register.Rax, 9), (Register.Rbx, 0x7000_0000_0000)).Run().Only();
        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(9UL, fault.Registers[Register.Rax]);
    }

    /// <summary>Without the feature an encoding is #UD.</summary>
    [Theory]
    [InlineData("c4 e2 f0 f2 c3", "BMI1")]
    [InlineData("c4 e2 f3 f5 c3", "BMI2")]
    [InlineData("66 0f 38 f6 c3", "ADX")]
    [InlineData("f2 0f 38 f1 c3", "SSE4_2")]
    public void AMissingFeatureIsUndefined(string code, string feature)
    {
        CpuProfile old = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Remove(feature) };

        Assert.Equal(EndKind.ReachedEnd, Case(code).Run().End);
        Assert.Equal((byte)6, Case(code).Run(old).Only().Vector);
    }

    /// <summary>TBM's BLCFILL is #UD on both vendors' profiles.</summary>
    [Fact]
    public void TbmIsUndefined()
    {
        Assert.Equal((byte)6, Case("8f e9 78 01 cb").Run(CpuProfile.DefaultAmd).Only().Vector);
        Assert.Equal((byte)6, Case("8f e9 78 01 cb").Run(CpuProfile.DefaultIntel).Only().Vector);
    }

    /// <summary>The check value of CRC-32C: "123456789" gives 0xe3069283 with inversion at both ends, whatever the step size.</summary>
    [Fact]
    public void Crc32GivesTheCheckValue()
    {
        RegisterState end = Case(
            "f2 48 0f 38 f1 03 f2 0f 38 f0 43 08",
            0,
            (Register.Rax, 0xffff_ffff),
            (Register.Rbx, Data)).With(Data, [.. "123456789"u8]).RunToEnd();
        RegisterState steps = Case(
            "f2 0f 38 f1 03 66 f2 0f 38 f1 43 04 f2 48 0f 38 f0 43 06 66 f2 0f 38 f1 43 07",
            0,
            (Register.Rax, 0x1111_1111_ffff_ffff),
            (Register.Rbx, Data)).With(Data, [.. "123456789"u8]).RunToEnd();

        Assert.Equal(0xe306_9283UL, end[Register.Rax] ^ 0xffff_ffff);
        Assert.Equal(0xe306_9283UL, steps[Register.Rax] ^ 0xffff_ffff);
    }

    /// <summary>Every operation of two sources on edge values at both widths, against the definition spelt out in numbers or bits.</summary>
    [Theory]
    [InlineData("andn", "c4 e2 {0} f2 c3", 0x70, BitFlags)]
    [InlineData("bextr", "c4 e2 {0} f7 c3", 0x70, CF | ZF | OF)]
    [InlineData("bzhi", "c4 e2 {0} f5 c3", 0x70, BitFlags)]
    [InlineData("blsr", "c4 e2 {0} f3 cb", 0x78, BitFlags)]
    [InlineData("blsmsk", "c4 e2 {0} f3 d3", 0x78, BitFlags)]
    [InlineData("blsi", "c4 e2 {0} f3 db", 0x78, BitFlags)]
    [InlineData("pdep", "c4 e2 {0} f5 c3", 0x73, 0)]
    [InlineData("pext", "c4 e2 {0} f5 c3", 0x72, 0)]
    [InlineData("sarx", "c4 e2 {0} f7 c3", 0x72, 0)]
    [InlineData("shlx", "c4 e2 {0} f7 c3", 0x71, 0)]
    [InlineData("shrx", "c4 e2 {0} f7 c3", 0x73, 0)]
    [InlineData("rorx", "c4 e3 {0} f0 c3 4b", 0x7b, 0)]
    public void OperationsAgreeWithTheirDefinition(string name, string code, int vex, ulong changes)
    {
        List<string> failures = [];
        int cases = 0;
        foreach (int bits in (int[])[32, 64])
        {
            // VEX.vvvv is inverted: 0x78 selects RAX, 0x70 RCX. The destination of BLSR and its sisters is in it.
            using Probe probe = new(code.Replace("{0}", (bits == 64 ? vex | 0x80 : vex).ToString("x2"), StringComparison.Ordinal));
            foreach (ulong b in Probe.Edges)
            {
                foreach (ulong c in Probe.Edges)
                {
                    cases++;
                    ulong before = (b ^ c) % 3 == 0 ? RflagsBits.Status : 0;
                    RegisterState end = probe.RunToEnd(before, (Register.Rax, 0x1111_2222_3333_4444UL), (Register.Rbx, b), (Register.Rcx, c));
                    (ulong value, bool carry) = Define(name, Probe.Low(b, bits), Probe.Low(c, bits), bits);
                    ulong flags = (Probe.ResultFlags(value, bits) & (SF | ZF)) | (carry ? CF : 0);
                    ulong kept = changes == 0 ? RflagsBits.Status : 0;
                    if (end[Register.Rax] != value || ((end.Rflags ^ flags) & changes) != 0 || ((end.Rflags ^ before) & kept) != 0)
                    {
                        failures.Add($"{name} {b:x}, {c:x}, {bits} bits: {end[Register.Rax]:x} flags {end.Status():x}, by definition {value:x} flags {flags & changes:x}");
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>ADCX and ADOX carry through their own flag and leave the other five.</summary>
    [Theory]
    [InlineData("66", "0f 38 f6 c3", CF)]
    [InlineData("f3", "0f 38 f6 c3", OF)]
    public void AdcxAndAdoxUseOneFlag(string prefix, string code, ulong flag)
    {
        List<string> failures = [];
        int cases = 0;
        foreach (int bits in (int[])[32, 64])
        {
            using Probe probe = new($"{prefix} {(bits == 64 ? "48" : string.Empty)} {code}");
            foreach (ulong a in Probe.Edges)
            {
                foreach (ulong b in Probe.Edges)
                {
                    foreach (ulong before in (ulong[])[0, flag, RflagsBits.Status ^ flag, RflagsBits.Status])
                    {
                        cases++;
                        RegisterState end = probe.RunToEnd(before, (Register.Rax, a), (Register.Rbx, b));
                        BigInteger sum = (BigInteger)Probe.Low(a, bits) + Probe.Low(b, bits) + ((before & flag) != 0 ? 1 : 0);
                        ulong flags = (before & ~flag) | (sum >> bits > 0 ? flag : 0);
                        if (end[Register.Rax] != Probe.Low((ulong)(sum & ulong.MaxValue), bits) || end.Status() != flags)
                        {
                            failures.Add($"{a:x} + {b:x}, {bits} bits, flags {before:x}: {end[Register.Rax]:x} flags {end.Status():x}");
                        }
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>MULX gives both halves of the product and changes no flag.</summary>
    [Fact]
    public void MulxAgreesWithBigIntegers()
    {
        List<string> failures = [];
        int cases = 0;
        foreach (int bits in (int[])[32, 64])
        {
            using Probe probe = new($"c4 e2 {(bits == 64 ? "f3" : "73")} f6 c3");
            foreach (ulong a in Probe.Edges)
            {
                foreach (ulong b in Probe.Edges)
                {
                    cases++;
                    RegisterState end = probe.RunToEnd(RflagsBits.Status, (Register.Rdx, a), (Register.Rbx, b));
                    BigInteger product = (BigInteger)Probe.Low(a, bits) * Probe.Low(b, bits);
                    BigInteger found = ((BigInteger)end[Register.Rax] << bits) + end[Register.Rcx];
                    if (found != product || end.Status() != RflagsBits.Status || end[Register.Rdx] != a)
                    {
                        failures.Add($"{a:x} * {b:x}, {bits} bits: {end[Register.Rax]:x}:{end[Register.Rcx]:x}");
                    }
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    private static (ulong Value, bool Carry) Define(string name, ulong b, ulong c, int bits)
    {
        int count = (int)(c % (ulong)bits);
        long signed = bits == 32 ? (int)b : (long)b;
        return name switch
        {
            "andn" => (Probe.Low(~c & b, bits), false),
            "bextr" => (Select(bits, bit => bit < (int)((c >> 8) & 0xff) && bit + (int)(c & 0xff) < bits && Has(b, bit + (int)(c & 0xff))), false),
            "bzhi" => (Select(bits, bit => bit < (int)(c & 0xff) && Has(b, bit)), (int)(c & 0xff) > bits - 1),
            "blsr" => (Select(bits, bit => Has(b, bit) && bit != FirstOf(b, bits)), b == 0),
            "blsmsk" => (Select(bits, bit => bit <= FirstOf(b, bits)), b == 0),
            "blsi" => (Select(bits, bit => bit == FirstOf(b, bits)), b != 0),
            "pdep" => (Select(bits, bit => Has(b, bit) && Has(c, Enumerable.Range(0, bit).Count(below => Has(b, below)))), false),
            "pext" => (Gather(c, b, bits), false),
            "sarx" => (Probe.Low((ulong)(signed >> count), bits), false),
            "shlx" => (Probe.Low(b << count, bits), false),
            "shrx" => (b >> count, false),
            "rorx" => (Select(bits, bit => Has(b, (bit + 0x4b) % bits)), false),
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, "not an operation of this test"),
        };
    }

    private static bool Has(ulong value, int bit) => ((value >> bit) & 1) != 0;

    /// <summary>Number of the lowest set bit; the width for 0.</summary>
    private static int FirstOf(ulong value, int bits) => Enumerable.Range(0, bits).FirstOrDefault(bit => Has(value, bit), bits);

    private static ulong Select(int bits, Func<int, bool> isSet) => Enumerable.Range(0, bits).Where(isSet).Aggregate(0UL, (value, bit) => value | (1UL << bit));

    private static ulong Gather(ulong value, ulong mask, int bits)
    {
        List<int> places = [.. Enumerable.Range(0, bits).Where(bit => Has(mask, bit))];
        return Select(places.Count, bit => Has(value, places[bit]));
    }
}
