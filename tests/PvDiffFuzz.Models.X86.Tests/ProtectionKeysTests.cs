using PvDiffFuzz.Core;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>PKRU: all pages have key 0, whose AD is bit 0 and whose WD is bit 1.</summary>
public sealed class ProtectionKeysTests
{
    private const ulong ReadOnly = AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable;

    private static readonly CpuProfile Keys = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("PKU") };

    /// <summary>Error code of the #PF by access and PKRU; 0 where there is none. 20 is PK, 4 user, 2 write, 1 present.</summary>
    [Fact]
    public void AccessesAreRefusedByKey()
    {
        (string Code, uint Pkru, ulong Address, uint Error)[] rows =
        [
            ("8b 03", 0, Data, 0), ("8b 03", 2, Data, 0), ("8b 03", 1, Data, 0x25), ("8b 03", 3, Data, 0x25), ("8b 03", 0xffff_fffc, Data, 0),
            ("89 03", 0, Data, 0), ("89 03", 2, Data, 0x27), ("89 03", 1, Data, 0x27), ("01 03", 2, Data, 0x27), ("39 03", 2, Data, 0),
            ("89 03", 0, ReadOnly, 7), ("89 03", 2, ReadOnly, 0x27), ("8b 03", 1, Data + 0x3000, 4), ("8b 03", 1, Data + 0x7fd, 0x25),
            ("0f ae 3b", 1, Data, 0x25), ("0f 18 03", 1, Data, 0), ("64 8b 03", 1, Data, 0x25), ("f0 0f c1 03", 2, Data, 0x27),
        ];
        List<string> wrong = [];
        foreach ((string code, uint pkru, ulong address, uint error) in rows)
        {
            foreach (CpuMode mode in Enum.GetValues<CpuMode>())
            {
                Event only = WithRights(Case(mode, code, 0, (Register.Rbx, address), (Register.Fs, Selectors.UserData)), pkru).Run(Keys).Only();
                bool right = error == 0 ? only.Registers.Rip == End : only.Vector == 14 && only.ErrorCode == error && only.Cr2 == address && only.Registers.Pkru == pkru;
                if (!right)
                {
                    wrong.Add($"{mode} {code} pkru={pkru:x} at {address:x}: {only.Vector} {only.ErrorCode:x} {only.Cr2:x}");
                }
            }
        }

        Probe.AssertNone(wrong, rows.Length * 2);
    }

    /// <summary>A supervisor page refuses by itself: no PK bit. Fetches know no keys.</summary>
    [Fact]
    public void SupervisorPagesAndFetchesKnowNoKeys()
    {
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(0x60_0000, 1, PageAccess.Read | PageAccess.Write | PageAccess.Supervisor)]);
        TestCase load = WithRights(Case("8b 03", 0, (Register.Rbx, 0x60_0000)), 3) with { Layout = layout };

        Assert.Equal((uint?)5, load.Run(Keys).Only().ErrorCode);
        Assert.Equal(End, WithRights(Case("90"), 3).RunToEnd(Keys).Rip);
    }

    /// <summary>The stack is data: PUSH faults, and the pushed registers stay.</summary>
    [Fact]
    public void TheStackHasAKeyToo()
    {
        Event push = WithRights(Case("50"), 2).Run(Keys).Only();

        Assert.Equal(((uint?)0x27, (ulong?)(Stack - 8), Stack), (push.ErrorCode, push.Cr2, push.Registers[Register.Rsp]));
    }

    /// <summary>WRPKRU takes EAX and holds for the next instruction; RDPKRU clears the upper half of RAX and RDX.</summary>
    [Fact]
    public void WritesHoldAtOnce()
    {
        Event store = WithRights(Case("0f 01 ef 89 03", 0, (Register.Rax, 0xffff_ffff_0000_0002), (Register.Rbx, Data)), 0).Run(Keys).Only();
        Assert.Equal(((uint?)0x27, (uint?)2, End - 2), (store.ErrorCode, store.Registers.Pkru, store.Registers.Rip));

        Event again = WithRights(Case("0f 01 ef 89 03", 0, (Register.Rbx, Data)), 3).Run(Keys).Only();
        Assert.Equal((End, (uint?)0), (again.Registers.Rip, again.Registers.Pkru));

        RegisterState read = WithRights(Case("0f 01 ee", 0, (Register.Rax, ulong.MaxValue), (Register.Rdx, ulong.MaxValue)), 0x5555_5554).RunToEnd(Keys);
        Assert.Equal((0x5555_5554UL, 0UL), (read[Register.Rax], read[Register.Rdx]));
    }

    /// <summary>ECX, and for WRPKRU EDX, must be 0; upper halves do not matter.</summary>
    [Fact]
    public void OtherNumbersAreRefused()
    {
        (string Code, ulong Rcx, ulong Rdx, bool Faults)[] rows =
        [
            ("0f 01 ee", 1, 0, true), ("0f 01 ee", 0, 1, false), ("0f 01 ee", 1UL << 32, 0, false),
            ("0f 01 ef", 1, 0, true), ("0f 01 ef", 0, 1, true), ("0f 01 ef", 1UL << 32, 1UL << 32, false),
        ];
        foreach ((string code, ulong rcx, ulong rdx, bool faults) in rows)
        {
            Event only = WithRights(Case(code, 0, (Register.Rcx, rcx), (Register.Rdx, rdx)), 0).Run(Keys).Only();
            Assert.Equal((code, rcx, rdx, faults), (code, rcx, rdx, only is { Vector: 13, ErrorCode: 0 }));
        }
    }

    /// <summary>Without PKU both are #UD, and a case that states PKRU cannot run; with it, unstated rights cannot be read but can be written.</summary>
    [Fact]
    public void RightsBelongToProcessorsThatHaveThem()
    {
        Assert.Equal((byte)6, Case("0f 01 ee").Run().Only().Vector);
        Assert.Equal((byte)6, Case("0f 01 ef").Run().Only().Vector);
        using X86Model without = new(CpuProfile.DefaultIntel);
        Assert.Equal(EndKind.Unsupported, without.Run(WithRights(Case("90"), 0)).End);
        using X86Model with = new(Keys);
        Assert.Equal(EndKind.Unsupported, with.Run(Case("0f 01 ee")).End);
        Assert.Null(Case("90").RunToEnd(Keys).Pkru);
        Assert.Equal((uint?)8, Case("0f 01 ef", 0, (Register.Rax, 8)).RunToEnd(Keys).Pkru);
    }

    private static TestCase WithRights(TestCase testCase, uint pkru) => testCase with { Registers = testCase.Registers with { Pkru = pkru } };
}
