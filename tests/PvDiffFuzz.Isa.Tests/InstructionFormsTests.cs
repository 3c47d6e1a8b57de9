using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa.Tests;

public sealed class InstructionFormsTests
{
    /// <summary>Facts about single forms that a reader can check in the manual's opcode map.</summary>
    [Theory]
    [InlineData(Code.Add_rm64_r64, true, false, true, Family.Arithmetic)]
    [InlineData(Code.Aaa, false, true, true, Family.Arithmetic)]
    [InlineData(Code.Into, false, true, true, Family.Entry)]
    [InlineData(Code.Bound_r32_m3232, false, true, true, Family.Entry)]
    [InlineData(Code.Ud2, true, true, true, Family.Entry)]
    [InlineData(Code.Mov_r64_cr, true, false, true, Family.Privileged)]
    [InlineData(Code.Wrmsr, true, true, true, Family.Privileged)]
    [InlineData(Code.Mov_Sreg_rm16, true, true, true, Family.Segment)]
    [InlineData(Code.Cmpxchg16b_m128, true, false, true, Family.Atomic)]
    [InlineData(Code.VEX_Andn_r64_r64_rm64, true, false, true, Family.Bmi)]
    [InlineData(Code.Setssbsy, true, true, true, Family.Privileged)]
    [InlineData(Code.Sete_rm8, true, true, true, Family.Bit)]
    [InlineData(Code.Movsb_m8_m8, true, true, true, Family.String)]
    [InlineData(Code.Fadd_m32fp, true, true, false, Family.Misc)]
    [InlineData(Code.Emms, true, true, false, Family.Misc)]
    [InlineData(Code.VEX_Vzeroupper, true, true, false, Family.Misc)]
    [InlineData(Code.Paddb_xmm_xmmm128, true, true, false, Family.Misc)]
    public void DescribesForms(Code code, bool long64, bool compatibility, bool integer, Family family)
    {
        Assert.Equal(new InstructionForm(code, family, long64, compatibility, integer), InstructionForms.Find(code));
    }

    /// <summary>Iced decodes a 16-bit near branch in 64-bit mode only with AMD's rules, so with default options the form does not exist there.</summary>
    [Fact]
    public void FormsThatNeedVendorOptionsAreNotValid()
    {
        Assert.False(InstructionForms.Find(Code.Jmp_rel16)!.Long64);
        Assert.True(InstructionForms.Find(Code.Jmp_rel16)!.Compatibility32);
        Assert.Null(InstructionForms.Find(Code.Jmpe_rm32));
    }

    /// <summary>Every countable form has a template in its mode and the other way round, and there are as many as Iced's table has.</summary>
    [Theory]
    [InlineData(CpuMode.Long64)]
    [InlineData(CpuMode.Compatibility32)]
    public void CountableFormsAreTheTemplates(CpuMode mode)
    {
        Assert.Equal(InstructionForms.Countable(mode).Select(f => f.Code), InstructionForms.Templates(mode).Select(t => t.Code));
        Assert.InRange(InstructionForms.Countable(mode).Length, 850, 1200);
    }

    /// <summary>Every family of the catalogue has at least one form in 64-bit mode, so that no weight is in vain.</summary>
    [Fact]
    public void EveryFamilyHasForms() =>
        Assert.Equal(Enum.GetValues<Family>(), InstructionForms.Countable(CpuMode.Long64).Select(f => f.Family).Distinct().Order());

    /// <summary>No form that Iced lists for the mode, with general operands only, is forgotten but for those that its decoder cannot produce by default.</summary>
    [Fact]
    public void MissingFormsAreThoseTheDecoderDoesNotProduce()
    {
        HashSet<Code> known = [.. InstructionForms.Countable(CpuMode.Compatibility32).Select(f => f.Code)];
        ImmutableArray<Code> missing =
        [
            .. Enum.GetValues<Code>().Where(c =>
                c.ToOpCode() is { IsInstruction: true, Mode32: true, DecoderOption: DecoderOptions.None } info && InstructionForms.IsGeneralForm(info) && !known.Contains(c)),
        ];
        Code[] expected =
        [
            Code.Popw_CS, Code.Reservednop_rm16_r16_0F0D, Code.Reservednop_rm32_r32_0F0D, Code.Reservednop_rm16_r16_0F18, Code.Reservednop_rm32_r32_0F18, Code.Montmul_16, Code.Ud0,
        ];
        Assert.Equal(expected.Order(), missing.Order());
    }
}
