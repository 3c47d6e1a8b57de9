using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about XCHG, XADD and CMPXCHG.</summary>
public sealed class ExchangeTests
{
    private const ulong ReadOnly = AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable;

    /// <summary>41 90 is XCHG EAX, R8D and clears upper halves; 90 alone changes nothing.</summary>
    [Fact]
    public void ExchangeOf32BitsZeroExtendsBoth()
    {
        RegisterState end = Case("41 90", 0, (Register.Rax, 0x1_0000_0002), (Register.R8, 0x3_0000_0004)).RunToEnd();

        Assert.Equal((4UL, 2UL), (end[Register.Rax], end[Register.R8]));
        Assert.Equal(ulong.MaxValue, Case("90", 0, (Register.Rax, ulong.MaxValue)).RunToEnd()[Register.Rax]);
    }

    /// <summary>XADD of a register with itself doubles it: 3 + 3 = 6 with PF.</summary>
    [Fact]
    public void ExchangeAddOfOneRegisterDoublesIt()
    {
        RegisterState end = Case("48 0f c1 c0", CF, (Register.Rax, 3)).RunToEnd();

        Assert.Equal((6UL, PF), (end[Register.Rax], end.Status()));
    }

    /// <summary>CMPXCHG EBX, ECX: equal writes EBX only, unequal EAX only; what is not written keeps its upper half.</summary>
    [Fact]
    public void CompareExchangeWritesOneRegister()
    {
        RegisterState equal = Case("0f b1 cb", 0, (Register.Rax, 0x1_0000_0005), (Register.Rbx, 0x2_0000_0005), (Register.Rcx, 7)).RunToEnd();
        RegisterState unequal = Case("0f b1 cb", 0, (Register.Rax, 0x1_0000_0006), (Register.Rbx, 0x2_0000_0005), (Register.Rcx, 7)).RunToEnd();

        Assert.Equal((0x1_0000_0005UL, 7UL, ZF | PF), (equal[Register.Rax], equal[Register.Rbx], equal.Status()));
        Assert.Equal((5UL, 0x2_0000_0005UL, 0UL), (unequal[Register.Rax], unequal[Register.Rbx], unequal.Status()));
    }

    /// <summary>An unequal CMPXCHG still needs write permission.</summary>
    [Fact]
    public void CompareExchangeNeedsWritePermissionWhenUnequal() =>
        Assert.Equal(7u, Case("0f b1 0b", 0, (Register.Rax, 1), (Register.Rbx, ReadOnly)).Run().Only().ErrorCode);

    /// <summary>CMPXCHG16B: misaligned is #GP(0) even where the page is missing; equal stores RCX:RBX.</summary>
    [Fact]
    public void WideCompareExchangeChecksAlignmentFirst()
    {
        Assert.Equal((byte)13, Case("48 0f c7 0f", 0, (Register.Rdi, 8)).Run().Only().Vector);
        Assert.Equal((byte)14, Case("48 0f c7 0f", 0, (Register.Rdi, 16)).Run().Only().Vector);
        Outcome stored = Case("48 0f c7 0f", 0, (Register.Rdi, Data), (Register.Rbx, 1), (Register.Rcx, 2)).Run();
        Assert.Equal((MemoryWord[])[new MemoryWord(Data, 1), new MemoryWord(Data + 8, 2)], stored.Memory.ToArray());
        Assert.Equal(ZF, stored.Registers!.Status());
    }

    /// <summary>CMPXCHG8B that fails loads EDX:EAX and clears ZF only.</summary>
    [Fact]
    public void NarrowCompareExchangeLoadsBothHalves()
    {
        RegisterState end = Case("0f c7 0f", ZF | CF, (Register.Rdi, Data), (Register.Rax, ulong.MaxValue)).With(Data, 1, 0, 0, 0, 2).RunToEnd();

        Assert.Equal((1UL, 2UL, CF), (end[Register.Rax], end[Register.Rdx], end.Status()));
    }
}
