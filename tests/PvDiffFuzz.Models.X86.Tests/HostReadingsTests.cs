using System.Collections.Immutable;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Instructions that read the host give what the profile states, and end the case where it states nothing.</summary>
public sealed class HostReadingsTests
{
    private const ulong Ones = ulong.MaxValue;

    private static readonly CpuProfile Stated = CpuProfile.DefaultAmd with
    {
        Features = CpuProfile.DefaultAmd.Features.Remove("UMIP").Add("RDPRU"),
        GdtLimit = 0x7f,
        Readings = new Dictionary<Reading, ulong>
        {
            [Reading.TimeStamp] = 0x1111_2222_3333_4444,
            [Reading.ProcessorNumber] = 0x5,
            [Reading.Random] = 0xaaaa_bbbb_cccc_dddd,
            [Reading.Xcr0] = 0x1_0000_0207,
            [Reading.InUse] = 3,
            [Reading.MaximumCycles] = 0x66,
            [Reading.ActualCycles] = 0x77,
            [Reading.GdtBase] = 0xffff_8000_1234_5678,
            [Reading.IdtBase] = 0xffff_fe00_0000_0000,
            [Reading.IdtLimit] = 0xfff,
            [Reading.LdtSelector] = 0,
            [Reading.TaskSelector] = 0x40,
            [Reading.Cr0] = 0x8005_0033,
        }.ToImmutableSortedDictionary(),
        Cpuid =
        [
            new CpuidLeaf(0, null, 0xd, 1, 2, 3), new CpuidLeaf(7, 0, 1, 4, 5, 6), new CpuidLeaf(0xd, 0, 7, 8, 9, 10), new CpuidLeaf(0xd, 1, 11, 12, 13, 14),
            new CpuidLeaf(0x8000_0000, null, 0x8000_0001, 0, 0, 0),
        ],
    };

    /// <summary>What RAX, RBX, RCX and RDX hold afterwards; RBX starts as all ones, the others as 0 unless RAX and RCX are given. Null: not looked at.</summary>
    [Fact]
    public void RegistersGetTheReadings()
    {
        (string Code, ulong Rax, ulong Rcx, ulong? NewRax, ulong? NewRbx, ulong? NewRcx, ulong? NewRdx)[] rows =
        [
            ("0f 31", Ones, 0, 0x3333_4444, Ones, 0, 0x1111_2222),
            ("0f 01 f9", Ones, Ones, 0x3333_4444, Ones, 5, 0x1111_2222),
            ("f3 0f c7 fb", 0, 0, 0, 5, 0, null),
            ("0f c7 f3", 0, 0, 0, 0xcccc_dddd, 0, null),
            ("48 0f c7 fb", 0, 0, 0, 0xaaaa_bbbb_cccc_dddd, 0, null),
            ("66 0f c7 f3", 0, 0, 0, 0xffff_ffff_ffff_dddd, 0, null),
            ("0f 01 d0", Ones, 0, 0x207, Ones, 0, 1),
            ("0f 01 d0", Ones, 1, 3, Ones, 1, 0),
            ("0f 01 fd", 0, 0, 0x66, Ones, 0, 0),
            ("0f 01 fd", 0, 1, 0x77, Ones, 1, 0),
            ("0f 01 fd", Ones, 2, 0, Ones, 2, 0),
            ("0f 00 cb", 0, 0, 0, 0x40, 0, null),
            ("66 0f 00 cb", 0, 0, 0, 0xffff_ffff_ffff_0040, 0, null),
            ("48 0f 01 e3", 0, 0, 0, 0x8005_0033, 0, null),
            ("66 0f 01 e3", 0, 0, 0, 0xffff_ffff_ffff_0033, 0, null),
            ("0f 00 c3", 0, 0, 0, 0, 0, null),
            ("0f a2", 0, 99, 0xd, 1, 2, 3),
            ("0f a2", 7, 0xffff_ffff_0000_0000, 1, 4, 5, 6),
            ("0f a2", 7, 1, 0, 0, 0, 0),
            ("0f a2", 0xffff_ffff_0000_000d, 1, 11, 12, 13, 14),
        ];
        List<string> wrong = [];
        foreach ((string code, ulong rax, ulong rcx, ulong? newRax, ulong? newRbx, ulong? newRcx, ulong? newRdx) in rows)
        {
            RegisterState end = Case(code, Status, (Register.Rax, rax), (Register.Rcx, rcx), (Register.Rbx, Ones)).RunToEnd(Stated);
            bool random = code.Contains("c7 f3", StringComparison.Ordinal) || code.EndsWith("48 0f c7 fb", StringComparison.Ordinal);
            bool flags = end.Status() == (random ? CF : Status);
            if (!flags || end[Register.Rax] != newRax || end[Register.Rbx] != newRbx || end[Register.Rcx] != newRcx || (newRdx is ulong rdx && end[Register.Rdx] != rdx))
            {
                wrong.Add($"{code} rax={rax:x} rcx={rcx:x}: {end[Register.Rax]:x} {end[Register.Rbx]:x} {end[Register.Rcx]:x} {end[Register.Rdx]:x} {end.Status():x}");
            }
        }

        Probe.AssertNone(wrong, rows.Length);
    }

    /// <summary>Leaf e is above d, the highest basic one: Intel answers as for d, subleaf included, AMD 0. Leaf 80000002 is above the highest extended one.</summary>
    [Fact]
    public void CpuidAboveTheHighestLeafDependsOnTheVendor()
    {
        CpuProfile intel = Stated with { Vendor = CpuVendor.Intel };
        foreach (ulong leaf in (ReadOnlySpan<ulong>)[0xe, 0x8000_0002, 0x4000_0000])
        {
            TestCase testCase = Case("0f a2", 0, (Register.Rax, leaf), (Register.Rcx, 1));
            Assert.Equal((leaf, 0UL, 0UL), (leaf, testCase.RunToEnd(Stated)[Register.Rax], testCase.RunToEnd(Stated)[Register.Rdx]));
            Assert.Equal((leaf, 11UL, 14UL), (leaf, testCase.RunToEnd(intel)[Register.Rax], testCase.RunToEnd(intel)[Register.Rdx]));
        }

        Assert.Equal(0UL, Case("0f a2", 0, (Register.Rax, 0x8000_0001)).RunToEnd(intel)[Register.Rax]);
    }

    /// <summary>SGDT stores 10 bytes, in compatibility mode 6 whatever the operand size; SLDT, STR and SMSW store 2.</summary>
    [Fact]
    public void MemoryGetsLimitAndBase()
    {
        Assert.Equal(0x8000_1234_5678_007fUL, Stored(Case("0f 01 03", 0, (Register.Rbx, Data))));
        Assert.Equal(0x0fffUL | (0xfe00_0000_0000UL << 16), Stored(Case("0f 01 0b", 0, (Register.Rbx, Data))));
        Assert.Equal(0x1234_5678_007fUL, Stored(Case(CpuMode.Compatibility32, "66 0f 01 03", 0, (Register.Rbx, Data))));
        Assert.Equal(0x40UL, Stored(Case("48 0f 00 0b", 0, (Register.Rbx, Data))));
        Assert.Equal(0x33UL, Stored(Case(CpuMode.Compatibility32, "0f 01 23", 0, (Register.Rbx, Data))));
        Event split = Case("0f 01 03", 0, (Register.Rbx, AddressMap.LowBlock + AddressMap.Data + 0x2000 - 4)).Run(Stated).Only();
        Assert.Equal((AddressMap.LowBlock + AddressMap.Data + 0x2000, 6U), (split.Cr2!.Value, split.ErrorCode!.Value));
    }

    /// <summary>Without a reading the case ends, whatever the profile has else; XCR2 is #GP(0) even then, and with UMIP the tables are.</summary>
    [Fact]
    public void WhatIsNotStatedIsNotGuessed()
    {
        CpuProfile silent = Stated with { Readings = ImmutableSortedDictionary<Reading, ulong>.Empty, Cpuid = [] };
        using X86Model model = new(silent);
        string[] codes = ["0f 31", "0f 01 f9", "f3 0f c7 fb", "0f c7 f3", "0f c7 fb", "0f 01 d0", "0f 01 fd", "0f a2", "0f 01 03", "0f 01 0b", "0f 00 03", "0f 00 cb", "0f 01 e3"];
        Assert.Equal([], codes.Where(code => model.Run(Case(code)).End != EndKind.Unsupported));

        Assert.Equal((byte)13, Case("0f 01 d0", 0, (Register.Rcx, 2)).Run(silent).Only().Vector);
        foreach (string code in (ReadOnlySpan<string>)["0f 01 03", "0f 01 0b", "0f 00 03", "0f 00 cb", "0f 01 e3"])
        {
            Event refused = Case(code).Run(CpuProfile.DefaultAmd).Only();
            Assert.Equal((code, (byte)13, (uint?)0), (code, refused.Vector, refused.ErrorCode));
        }
    }

    private static ulong Stored(TestCase testCase)
    {
        Outcome outcome = testCase.Run(Stated);
        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        return outcome.Memory[0].Value;
    }
}
