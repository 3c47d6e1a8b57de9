using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>RDMSR and WRMSR of supervisor code.</summary>
public sealed class MsrTests
{
    private const string Write = "0F 30";

    /// <summary>What can be written reads back, and shows at the end where it has a name.</summary>
    [Theory]
    [InlineData(0xc000_0082u, 0x1234UL, SystemRegister.Lstar)]
    [InlineData(0xc000_0083u, 0x8000_0000_0000_1234UL, SystemRegister.Cstar)]
    [InlineData(0xc000_0084u, 0x4700UL, SystemRegister.SyscallMask)]
    [InlineData(0xc000_0102u, 0xffff_8000_0000_0000UL, SystemRegister.KernelGsBase)]
    [InlineData(0x174u, 0x10UL, SystemRegister.SysenterCs)]
    [InlineData(0x175u, 0x20UL, SystemRegister.SysenterEsp)]
    [InlineData(0x176u, 0x30UL, SystemRegister.SysenterEip)]
    [InlineData(0x4b56_4df2u, ulong.MaxValue, SystemRegister.PvmSupervisorRsp)]
    [InlineData(0x4b56_4df3u, 0x1000UL, SystemRegister.PvmSupervisorRedzone)]
    [InlineData(0x4b56_4df4u, 0x1000UL, SystemRegister.PvmEventEntry)]
    [InlineData(0x4b56_4df5u, 0x1000UL, SystemRegister.PvmRetuRip)]
    [InlineData(0x4b56_4df6u, 0x1000UL, SystemRegister.PvmRetsRip)]
    [InlineData(0x4b56_4df7u, 0x9000UL, SystemRegister.PvmSwitchCr3)]
    [InlineData(0x4b56_4df1u, 0UL, SystemRegister.PvmVcpuStruct)]
    public void WhatIsWrittenReadsBack(uint index, ulong value, SystemRegister register)
    {
        Outcome outcome = Access(Write + "31 C0 31 D2 0F 32", index, value).RunToEnd();

        Assert.Equal(value, outcome.System[register]);
        Assert.Equal(((ulong)(uint)value, value >> 32), (outcome.Registers!.Gpr[0], outcome.Registers.Gpr[2]));
    }

    /// <summary>#GP(0): not canonical, unaligned, the wrong selectors, fixed bits, or no such MSR.</summary>
    [Theory]
    [InlineData(0xda0u, 0UL)]
    [InlineData(0xc000_0082u, 0x8000_0000_0000UL)]
    [InlineData(0xc000_0100u, 0x8000_0000_0000UL)]
    [InlineData(0xc000_0101u, 0x8000_0000_0000UL)]
    [InlineData(0xc000_0102u, 0x8000_0000_0000UL)]
    [InlineData(0xc000_0081u, 0x0013_0010_0000_0000UL)]
    [InlineData(0xc000_0081u, 0x0023_0018_0000_0000UL)]
    [InlineData(0xc000_0081u, 0x0023_0011_0000_0000UL)]
    [InlineData(0xc000_0080u, 0UL)]
    [InlineData(0xc000_0080u, 0x501UL)]
    [InlineData(0x4b56_4df1u, 0x8001UL)]
    [InlineData(0x4b56_4df4u, 0x8000_0000_0000UL)]
    [InlineData(0x4b56_4df4u, 0x7fff_ffff_ff00UL)]
    [InlineData(0x4b56_4df8u, 0UL)]
    [InlineData(0x4b56_4dffu, 0UL)]
    [InlineData(0xdead_beefu, 0UL)]
    [InlineData(0x6e1u, 0UL)]
    public void WhatCannotBeIsRefused(uint index, ulong value)
    {
        Event what = Access(Write, index, value).Run().Only();

        Assert.Equal((13, (uint?)0), (what.Vector, what.ErrorCode));
    }

    /// <summary>User selectors of MSR_STAR may have any RPL.</summary>
    [Theory]
    [InlineData(0x0023_0010_0000_0000UL)]
    [InlineData(0x0020_0010_1234_5678UL)]
    public void StarTakesTheSelectorsInUse(ulong value) => Assert.Equal(value, Access(Write, 0xc000_0081, value).RunToEnd().System[SystemRegister.Star]);

    /// <summary>GS and FS base are the underlying ones.</summary>
    [Fact]
    public void BasesAreTheLiveOnes()
    {
        Assert.Equal(0x7000UL, Access(Write, 0xc000_0101, 0x7000).RunToEnd().Registers!.GsBase);
        Assert.Equal(0x7000UL, Access(Write, 0xc000_0100, 0x7000).RunToEnd().Registers!.FsBase);
        Assert.Equal(Payload.KernelGsBase, Access("0F 32", 0xc000_0101, 0).RunToEnd().Registers!.Gpr[0]);
    }

    /// <summary>Four fields of fe00 | index with 256 &lt;= start &lt; end &lt; 511; PML5 is 1ff without LA57; a part of what there was.</summary>
    [Theory]
    [InlineData(0xffff_ffff_ffb3_ff93UL, true)]
    [InlineData(0xffff_ffff_ffb2_ff94UL, true)]
    [InlineData(0xffff_ffff_ffb4_ff93UL, false)]
    [InlineData(0xffff_ffff_ff93_ff93UL, false)]
    [InlineData(0xffff_ffff_ffb3_fe93UL, false)]
    [InlineData(0xffff_ffff_7fb3_ff93UL, false)]
    [InlineData(0xfffe_ff00_ffb3_ff93UL, false)]
    public void TheAddressRangeHasConstraints(ulong value, bool accepted)
    {
        Outcome outcome = Access(Write, 0x4b56_4df0, value).With((SystemRegister.PvmLinearAddressRange, 0xffff_ffff_ffb3_ff93)).Run();

        Assert.Equal(accepted ? EndKind.ReachedEnd : EndKind.Event, outcome.End);
        Assert.Equal(accepted ? value : 0xffff_ffff_ffb3_ff93, outcome.System[SystemRegister.PvmLinearAddressRange]);
    }

    /// <summary>MSR_IA32_PKRS exists with protection keys.</summary>
    [Fact]
    public void PkrsNeedsProtectionKeys() => Assert.Equal(0xfUL, Access(Write, 0x6e1, 0xf).RunToEnd(Payload.Keys).System[SystemRegister.Pkrs]);

    /// <summary>An MSR that processors have and PVM does not name is not for the model to answer.</summary>
    [Fact]
    public void OtherMsrsAreUnsupported() => Assert.Equal(EndKind.Unsupported, Access("0F 32", 0x10, 0).RunAny().End);

    private static TestCase Access(string code, uint index, ulong value) => Payload.Supervisor(code, (Register.Rcx, index), (Register.Rax, (uint)value), (Register.Rdx, value >> 32));
}
