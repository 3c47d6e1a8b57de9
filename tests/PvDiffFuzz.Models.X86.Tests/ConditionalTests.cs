using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>SETcc, CMOVcc and the sign extensions of the accumulator.</summary>
public sealed class ConditionalTests
{
    /// <summary>The sixteen conditions as the manuals' table spells them, in encoding order.</summary>
    private static readonly Func<bool, bool, bool, bool, bool, bool>[] Conditions =
    [
        (o, c, z, s, p) => o,
        (o, c, z, s, p) => !o,
        (o, c, z, s, p) => c,
        (o, c, z, s, p) => !c,
        (o, c, z, s, p) => z,
        (o, c, z, s, p) => !z,
        (o, c, z, s, p) => c || z,
        (o, c, z, s, p) => !c && !z,
        (o, c, z, s, p) => s,
        (o, c, z, s, p) => !s,
        (o, c, z, s, p) => p,
        (o, c, z, s, p) => !p,
        (o, c, z, s, p) => s != o,
        (o, c, z, s, p) => s == o,
        (o, c, z, s, p) => z || s != o,
        (o, c, z, s, p) => !z && s == o,
    ];

    /// <summary>Every condition under every combination of the five flags it may look at, for SETcc and CMOVcc of all widths.</summary>
    [Fact]
    public void EveryConditionFollowsItsFlags()
    {
        List<string> failures = [];
        int cases = 0;
        for (int condition = 0; condition < Conditions.Length; condition++)
        {
            using Probe set = new($"0f 9{condition:x} c4");
            (Probe Probe, int Bits)[] moves = [(new($"66 0f 4{condition:x} c3"), 16), (new($"0f 4{condition:x} c3"), 32), (new($"48 0f 4{condition:x} c3"), 64)];
            for (int flags = 0; flags < 32; flags++, cases++)
            {
                bool o = (flags & 1) != 0;
                bool c = (flags & 2) != 0;
                bool z = (flags & 4) != 0;
                bool s = (flags & 8) != 0;
                bool p = (flags & 16) != 0;
                ulong status = (o ? OF : 0) | (c ? CF : 0) | (z ? ZF : 0) | (s ? SF : 0) | (p ? PF : 0);
                bool holds = Conditions[condition](o, c, z, s, p);
                const ulong old = 0x1111_2222_3333_4444;
                const ulong other = 0xaaaa_bbbb_cccc_dddd;
                RegisterState end = set.RunToEnd(status, (Register.Rax, old));
                if (end[Register.Rax] != (0x1111_2222_3333_0044 | (holds ? 0x100UL : 0)) || end.Status() != status)
                {
                    failures.Add($"SETcc {condition:x} flags {status:x}: {end[Register.Rax]:x}");
                }

                foreach ((Probe move, int bits) in moves)
                {
                    end = move.RunToEnd(status, (Register.Rax, old), (Register.Rbx, other));
                    if (end[Register.Rax] != Probe.Written(old, holds ? other : old, bits) || end.Status() != status)
                    {
                        failures.Add($"CMOVcc {condition:x} {bits} bits flags {status:x}: {end[Register.Rax]:x}");
                    }
                }
            }

            Array.ForEach(moves, move => move.Probe.Dispose());
        }

        Probe.AssertNone(failures, cases);
    }

    /// <summary>A 32-bit CMOV whose condition is false clears the upper half, from a register and from memory.</summary>
    [Theory]
    [InlineData("0f 44 c3")]
    [InlineData("0f 44 03")]
    public void AFalseCmovZeroExtends(string code) =>
        Assert.Equal(0x3333_4444UL, Case(code, 0, (Register.Rax, 0x1111_2222_3333_4444), (Register.Rbx, Data)).RunToEnd()[Register.Rax]);

    /// <summary>A CMOV whose condition is false still faults on its memory operand, as a read.</summary>
    [Fact]
    public void AFalseCmovStillLoads()
    {
        const ulong missing = 0x7000_0000_0000;
        Event fault = Case("0f 44 03", 0, (Register.Rax, 0x1111_2222_3333_4444), (Register.Rbx, missing)).Run().Only();

        Assert.Equal((byte)14, fault.Vector);
        Assert.Equal(4u, fault.ErrorCode);
        Assert.Equal(0x1111_2222_3333_4444UL, fault.Registers[Register.Rax]);
    }

    /// <summary>SETcc stores one byte.</summary>
    [Fact]
    public void SetccStoresOneByte()
    {
        Outcome outcome = Case("0f 94 03", ZF, (Register.Rbx, Data)).With(Data, 0xff, 0xff).Run();

        Assert.Equal(new MemoryWord(Data, 0xff01), Assert.Single(outcome.Memory));
    }

    /// <summary>CBW, CWDE, CDQE, CWD, CDQ and CQO of a negative and of a positive accumulator.</summary>
    [Theory]
    [InlineData("66 98", 0x1111_2222_3333_4480, 0x1111_2222_3333_ff80, 0x5555_6666_7777_8888)]
    [InlineData("98", 0x1111_2222_3333_8444, 0xffff_8444, 0x5555_6666_7777_8888)]
    [InlineData("48 98", 0x1111_2222_8333_4444, 0xffff_ffff_8333_4444, 0x5555_6666_7777_8888)]
    [InlineData("48 98", 0xffff_2222_7333_4444, 0x7333_4444, 0x5555_6666_7777_8888)]
    [InlineData("66 99", 0x1111_2222_3333_8444, 0x1111_2222_3333_8444, 0x5555_6666_7777_ffff)]
    [InlineData("66 99", 0x1111_2222_3333_4444, 0x1111_2222_3333_4444, 0x5555_6666_7777_0000)]
    [InlineData("99", 0x1111_2222_8333_4444, 0x1111_2222_8333_4444, 0xffff_ffff)]
    [InlineData("48 99", 0x8111_2222_3333_4444, 0x8111_2222_3333_4444, 0xffff_ffff_ffff_ffff)]
    [InlineData("48 99", 0x1111_2222_3333_4444, 0x1111_2222_3333_4444, 0)]
    public void SignExtensionsFillTheirDestination(string code, ulong rax, ulong expectedRax, ulong expectedRdx)
    {
        RegisterState end = Case(code, CF | ZF, (Register.Rax, rax), (Register.Rdx, 0x5555_6666_7777_8888)).RunToEnd();

        Assert.Equal(expectedRax, end[Register.Rax]);
        Assert.Equal(expectedRdx, end[Register.Rdx]);
        Assert.Equal(CF | ZF, end.Status());
    }
}
