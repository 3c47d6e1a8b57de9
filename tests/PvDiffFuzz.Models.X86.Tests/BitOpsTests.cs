using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Bit tests, scans and counts against loops over bits, and facts that a reader can check by hand.</summary>
public sealed class BitOpsTests
{
    private static readonly (string Prefix, int Bits)[] Widths = [("66", 16), (string.Empty, 32), ("48", 64)];

    /// <summary>BTS of bit -1 in memory: the highest bit of the operand just below the address; BTC of bit 100: word 6 of 16 bits.</summary>
    [Fact]
    public void BitOffsetsReachBeyondTheOperand()
    {
        Outcome below = Case("48 0f ab 03", 0, (Register.Rbx, Data), (Register.Rax, ulong.MaxValue)).Run();
        Outcome above = Case("66 0f bb 03", 0, (Register.Rbx, Data), (Register.Rax, 100)).Run();

        Assert.Equal(new MemoryWord(Data - 8, 1UL << 63), Assert.Single(below.Memory));
        Assert.Equal(new MemoryWord(Data + 8, 1UL << 36), Assert.Single(above.Memory));
    }

    /// <summary>The bit offset has the operand's width: 0x8000 is -32768 for 16 bits and 32768 for 32.</summary>
    [Fact]
    public void BitOffsetsAreSignedInTheirWidth()
    {
        Outcome narrow = Case("66 0f ab 03", 0, (Register.Rbx, Data + 0x1000), (Register.Rax, 0x8000)).Run();
        Outcome wide = Case("0f ab 03", 0, (Register.Rbx, Data), (Register.Rax, 0x1000)).Run();

        Assert.Equal(new MemoryWord(Data, 1), Assert.Single(narrow.Memory));
        Assert.Equal(new MemoryWord(Data + 0x200, 1), Assert.Single(wide.Memory));
    }

    /// <summary>The address mask applies to the sum of address and bit offset: 4 GiB - 4 plus 4 wraps to 0, which is not mapped.</summary>
    [Fact]
    public void BitOffsetsWrapInThirtyTwoBitAddresses()
    {
        Event fault = Case("67 0f a3 03", 0, (Register.Rbx, 0xffff_fffc), (Register.Rax, 32)).Run().Only();

        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(0UL, fault.Cr2);
    }

    /// <summary>BT only reads, so it works on a read-only page; BTS there is a write fault even where the bit is set already.</summary>
    [Fact]
    public void OnlyBtWorksOnAReadOnlyPage()
    {
        const ulong readOnly = AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable + 8;
        RegisterState end = Case("0f ba 23 00", ZF | CF, (Register.Rbx, readOnly)).RunToEnd();
        Event fault = Case("0f ba 2b 00", 0, (Register.Rbx, readOnly)).Run().Only();

        Assert.Equal(ZF, end.Status());
        Assert.Equal(7u, fault.ErrorCode);
    }

    /// <summary>BSF and BSR of 0 set ZF and keep all 64 bits of the destination, for 32-bit operands too.</summary>
    [Theory]
    [InlineData("0f bc c3")]
    [InlineData("0f bd c3")]
    [InlineData("48 0f bc c3")]
    [InlineData("66 0f bd c3")]
    public void ScansOfZeroKeepTheDestination(string code)
    {
        foreach (CpuProfile profile in (CpuProfile[])[CpuProfile.DefaultAmd, CpuProfile.DefaultIntel])
        {
            RegisterState end = Case(code, 0, (Register.Rax, 0x1111_2222_3333_4444)).RunToEnd(profile);

            Assert.Equal(0x1111_2222_3333_4444UL, end[Register.Rax]);
            Assert.Equal(ZF, end.Status() & ZF);
        }
    }

    /// <summary>LZCNT of 0x10 is 27 and TZCNT of it 4; without the features they are BSR and BSF: both 4. POPCNT without its feature is #UD.</summary>
    [Fact]
    public void CountsWithoutTheirFeatureAreScans()
    {
        CpuProfile old = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Remove("LZCNT").Remove("BMI1").Remove("POPCNT") };

        Assert.Equal(27UL, Case("f3 0f bd c3", 0, (Register.Rbx, 0x10)).RunToEnd()[Register.Rax]);
        Assert.Equal(4UL, Case("f3 0f bc c3", 0, (Register.Rbx, 0x10)).RunToEnd()[Register.Rax]);
        Assert.Equal(4UL, Case("f3 0f bd c3", 0, (Register.Rbx, 0x10)).RunToEnd(old)[Register.Rax]);
        Assert.Equal(7UL, Case("f3 0f bc c3", 0, (Register.Rax, 7)).RunToEnd(old)[Register.Rax]);
        Assert.Equal((byte)6, Case("f3 0f b8 c3").Run(old).Only().Vector);
    }

    /// <summary>BSWAP reverses four bytes with zero extension, or eight.</summary>
    [Fact]
    public void BswapReversesBytes()
    {
        Assert.Equal(0x8877_6655UL, Case("0f c8", 0, (Register.Rax, 0x1122_3344_5566_7788)).RunToEnd()[Register.Rax]);
        Assert.Equal(0x8877_6655_4433_2211UL, Case("49 0f c8", 0, (Register.R8, 0x1122_3344_5566_7788)).RunToEnd()[Register.R8]);
    }

    /// <summary>BT, BTS, BTR and BTC of registers, edge values by every bit number, in both encodings.</summary>
    [Fact]
    public void BitTestsAgreeWithLoops()
    {
        List<string> failures = [];
        int cases = 0;
        foreach ((string prefix, int bits) in Widths)
        {
            for (int kind = 0; kind < 4; kind++)
            {
                using Probe byRegister = new($"{prefix} 0f {0xa3 + (kind * 8):x2} d8");
                using Probe byImmediate = new($"{prefix} 0f ba {0xe0 + (kind * 8):x2} 4b");
                foreach (ulong value in Probe.Edges)
                {
                    for (ulong number = 0; number < 130; number++, cases++)
                    {
                        CompareBit(byRegister, kind, value, number, bits, failures);
                    }

                    CompareBit(byImmediate, kind, value, 0x4b, bits, failures);
                }
            }
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>BSF, BSR, POPCNT, LZCNT and TZCNT of edge values at every width.</summary>
    [Fact]
    public void CountsAgreeWithLoops()
    {
        List<string> failures = [];
        int cases = 0;
        foreach ((string prefix, int bits) in Widths)
        {
            string repeated = prefix == "66" ? "66 f3" : $"f3 {prefix}";
            using Probe forward = new($"{prefix} 0f bc c3");
            using Probe reverse = new($"{prefix} 0f bd c3");
            using Probe ones = new($"{repeated} 0f b8 c3");
            using Probe leading = new($"{repeated} 0f bd c3");
            using Probe trailing = new($"{repeated} 0f bc c3");
            foreach (ulong value in Probe.Edges)
            {
                cases++;
                List<int> set = [.. Enumerable.Range(0, bits).Where(bit => ((value >> bit) & 1) != 0)];
                bool zero = set.Count == 0;
                if (!zero)
                {
                    CompareCount("BSF", forward, value, set[0], bits, 0, ZF, failures);
                    CompareCount("BSR", reverse, value, set[^1], bits, 0, ZF, failures);
                }

                int above = zero ? bits : bits - 1 - set[^1];
                int below = zero ? bits : set[0];
                CompareCount("POPCNT", ones, value, set.Count, bits, zero ? ZF : 0, RflagsBits.Status, failures);
                CompareCount("LZCNT", leading, value, above, bits, (zero ? CF : 0) | (above == 0 ? ZF : 0), CF | ZF, failures);
                CompareCount("TZCNT", trailing, value, below, bits, (zero ? CF : 0) | (below == 0 ? ZF : 0), CF | ZF, failures);
            }
        }

        Probe.AssertNone(failures, cases);
    }

    private static void CompareBit(Probe probe, int kind, ulong value, ulong number, int bits, List<string> failures)
    {
        RegisterState end = probe.RunToEnd(ZF | CF, (Register.Rax, value), (Register.Rbx, number));
        ulong bit = 1UL << (int)(number % (ulong)bits);
        ulong result = kind switch
        {
            0 => value,
            1 => value | bit,
            2 => value & ~bit,
            _ => value ^ bit,
        };
        ulong expected = kind == 0 ? value : Probe.Written(value, result, bits);
        ulong carry = (value & bit) != 0 ? CF : 0;
        if (end[Register.Rax] != expected || (end.Rflags & (ZF | CF)) != (ZF | carry))
        {
            failures.Add($"kind {kind}, {value:x} bit {number}, {bits} bits: {end[Register.Rax]:x} flags {end.Status():x}");
        }
    }

    private static void CompareCount(string name, Probe probe, ulong value, int result, int bits, ulong flags, ulong defined, List<string> failures)
    {
        const ulong old = 0x1111_2222_3333_4444;
        RegisterState end = probe.RunToEnd(RflagsBits.Status, (Register.Rax, old), (Register.Rbx, value));
        if (end[Register.Rax] != Probe.Written(old, (ulong)result, bits) || (end.Rflags & defined) != flags)
        {
            failures.Add($"{name} {value:x}, {bits} bits: {end[Register.Rax]:x} flags {end.Status():x}");
        }
    }
}
