using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about near branches.</summary>
public sealed class BranchesTests
{
    /// <summary>CALL over one NOP pushes the address after itself; RET 8 drops 16 bytes.</summary>
    [Fact]
    public void CallPushesAndReturnPops()
    {
        Assert.Equal(new MemoryWord(Stack - 8, End - 1), Assert.Single(Case("e8 01 00 00 00 90").Run().Memory));
        byte[] end = BitConverter.GetBytes(End);
        Assert.Equal(Stack + 16, Case("c2 08 00").With(Stack, end).RunToEnd()[Register.Rsp]);
    }

    /// <summary>A non-canonical target is #GP(0) at the branch with RSP unchanged.</summary>
    [Fact]
    public void NonCanonicalTargetsFaultAtTheBranch()
    {
        List<string> wrong = [];
        foreach (string code in (string[])["ff e0", "ff d0", "c3"])
        {
            Event fault = Case(code, 0, (Register.Rax, 1UL << 63)).With(Stack, 0, 0, 0, 0, 0, 0, 0, 0x80).Run().Only();
            if (fault.Vector != 13 || fault.ErrorCode != 0 || fault.Registers.Rip != End - (ulong)((code.Length + 1) / 3) || fault.Registers[Register.Rsp] != Stack)
            {
                wrong.Add(code);
            }
        }

        Assert.Empty(wrong);
    }

    /// <summary>CALL with a bad stack and a bad target: #PF on AMD, #GP on Intel.</summary>
    [Fact]
    public void CallOrdersStackAndTargetByVendor()
    {
        TestCase testCase = Case("ff d0", 0, (Register.Rax, 1UL << 63), (Register.Rsp, 8));

        Assert.Equal((byte)14, testCase.Run().Only().Vector);
        Assert.Equal((byte)13, testCase.Run(CpuProfile.DefaultIntel).Only().Vector);
    }

    /// <summary>66 eb 00: AMD truncates RIP to 2000, where nothing is mapped; Intel goes on.</summary>
    [Fact]
    public void PrefixedJumpTruncatesOnAmdOnly()
    {
        Event fault = Case("66 eb 00 90").Run().Only();

        Assert.Equal(((End - 1) & 0xffff, (End - 1) & 0xffff), (fault.Registers.Rip, fault.Cr2!.Value));
        Assert.Equal(EndKind.ReachedEnd, Case("66 eb 00 90").Run(CpuProfile.DefaultIntel).End);
    }

    /// <summary>All sixteen conditions on flag settings that tell them apart: a taken jump skips INC EAX.</summary>
    [Fact]
    public void ConditionsFollowTheirFlags()
    {
        Func<ulong, bool>[] conditions =
        [
            f => (f & OF) != 0, f => (f & CF) != 0, f => (f & ZF) != 0, f => (f & (CF | ZF)) != 0,
            f => (f & SF) != 0, f => (f & PF) != 0, f => ((f & SF) != 0) != ((f & OF) != 0), f => ((f & SF) != 0) != ((f & OF) != 0) || (f & ZF) != 0,
        ];
        List<string> wrong = [];
        foreach (ulong flags in (ulong[])[0, CF, PF, ZF, SF, OF, SF | OF, SF | OF | ZF, Status])
        {
            for (int number = 0; number < 16; number++)
            {
                bool taken = Case($"{0x70 + number:x2} 02 ff c0", flags).RunToEnd()[Register.Rax] == 0;
                if (taken != (conditions[number >> 1](flags) ^ ((number & 1) != 0)))
                {
                    wrong.Add($"{number:x} with {flags:x}");
                }
            }
        }

        Assert.Empty(wrong);
    }

    /// <summary>LOOP three times over INC EAX; with prefix 67 ECX counts and RCX is zero-extended; a count of 1 falls through.</summary>
    [Fact]
    public void LoopCountsDown()
    {
        RegisterState end = Case("ff c0 e2 fc", 0, (Register.Rcx, 3)).RunToEnd();
        Assert.Equal((3UL, 0UL), (end[Register.Rax], end[Register.Rcx]));
        Assert.Equal(0UL, Case("67 e2 fd", 0, (Register.Rcx, 0xffff_ffff_0000_0001)).RunToEnd()[Register.Rcx]);
        Assert.Equal(1UL, Case("67 e0 00", 0, (Register.Rcx, 0xffff_ffff_0000_0002)).RunToEnd()[Register.Rcx]);
        Assert.Equal(1UL, Case("67 e3 02 ff c0 ff c0", 0, (Register.Rcx, 1)).RunToEnd()[Register.Rcx]);
        Assert.Equal(0UL, Case("67 e3 02 ff c0", 0, (Register.Rcx, 1UL << 32)).RunToEnd()[Register.Rax]);
    }
}
