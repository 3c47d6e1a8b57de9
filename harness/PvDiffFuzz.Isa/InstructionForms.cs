using System.Collections.Frozen;
using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>One instruction form of the catalogue.</summary>
/// <param name="Code">Iced's name of the form.</param>
/// <param name="Family">Family.</param>
/// <param name="Long64">Iced decodes it in 64-bit mode with default options.</param>
/// <param name="Compatibility32">Iced decodes it in 32-bit mode with default options.</param>
/// <param name="Integer">It has no x87, MMX, vector, mask, tile or bound operand, explicit or implied: it counts in coverage.</param>
public sealed record InstructionForm(Code Code, Family Family, bool Long64, bool Compatibility32, bool Integer)
{
    /// <summary>True when the form exists in the mode.</summary>
    public bool IsValid(CpuMode mode) => mode == CpuMode.Long64 ? Long64 : Compatibility32;
}

/// <summary>The catalogue of instruction forms, from Iced's tables. Built once.</summary>
public static class InstructionForms
{
    private static readonly FrozenDictionary<Code, FormTemplate> Templates64 = BuildTemplates(CpuMode.Long64);
    private static readonly FrozenDictionary<Code, FormTemplate> Templates32 = BuildTemplates(CpuMode.Compatibility32);
    private static readonly FrozenDictionary<Code, InstructionForm> ByCode = BuildForms();

    /// <summary>Every form that Iced decodes with default options in 64-bit or 32-bit mode, in Iced's order.</summary>
    public static ImmutableArray<InstructionForm> All { get; } = [.. ByCode.Values.OrderBy(f => f.Code)];

    /// <summary>The forms of a mode that count in coverage: no x87, MMX, vector, mask, tile or bound operand, privileged forms included.</summary>
    public static ImmutableArray<InstructionForm> Countable(CpuMode mode) => [.. All.Where(f => f.Integer && f.IsValid(mode))];

    /// <summary>The catalogue's entry for a form, or null when Iced does not decode it with default options in either mode.</summary>
    public static InstructionForm? Find(Code code) => ByCode.GetValueOrDefault(code);

    /// <summary>The templates of a mode in Iced's order: one for each countable form.</summary>
    public static ImmutableArray<FormTemplate> Templates(CpuMode mode) =>
        [.. (mode == CpuMode.Long64 ? Templates64 : Templates32).Values.OrderBy(t => t.Code)];

    /// <summary>The template of a form, or null when the mode does not have it.</summary>
    public static FormTemplate? Template(Code code, CpuMode mode) =>
        (mode == CpuMode.Long64 ? Templates64 : Templates32).GetValueOrDefault(code);

    /// <summary>True for instructions whose operands are all general.</summary>
    public static bool IsGeneralForm(OpCodeInfo info) => info.IsInstruction && !HasWideOperand(info);

    private static FrozenDictionary<Code, FormTemplate> BuildTemplates(CpuMode mode)
    {
        Dictionary<Code, FormTemplate> templates = [];
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (info.IsInstruction && info.DecoderOption == DecoderOptions.None && ModeOf(info, mode) && !HasWideOperand(info) && TemplateBuilder.Build(info, mode) is { } template)
            {
                templates.Add(code, template);
            }
        }

        return templates.ToFrozenDictionary();
    }

    private static FrozenDictionary<Code, InstructionForm> BuildForms()
    {
        Dictionary<Code, InstructionForm> forms = [];
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (!info.IsInstruction || info.DecoderOption != DecoderOptions.None || info.Fwait)
            {
                continue;
            }

            // A form with general operands only is valid when its encoding really decodes to it: Iced lists some that need AMD's decoder.
            bool wide = HasWideOperand(info);
            bool long64 = wide ? info.Mode64 : Templates64.ContainsKey(code);
            bool compatibility = wide ? info.Mode32 : Templates32.ContainsKey(code);
            if (long64 || compatibility)
            {
                forms.Add(code, new InstructionForm(code, Families.Of(info), long64, compatibility, !wide));
            }
        }

        return forms.ToFrozenDictionary();
    }

    private static bool ModeOf(OpCodeInfo info, CpuMode mode) => mode == CpuMode.Long64 ? info.Mode64 : info.Mode32;

    /// <summary>True for x87, MMX, vector, mask, tile and bound operands, also implied ones.</summary>
    private static bool HasWideOperand(OpCodeInfo info)
    {
        for (int i = 0; i < info.OpCount; i++)
        {
            if (!IsGeneral(info.GetOpKind(i)))
            {
                return true;
            }
        }

        foreach (CpuidFeature feature in info.Code.CpuidFeatures())
        {
            if (feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU287XL_ONLY or CpuidFeature.FPU387 or CpuidFeature.FPU387SL_ONLY or CpuidFeature.MMX
                or CpuidFeature.D3NOW or CpuidFeature.AMX_TILE or CpuidFeature.AESKLE or CpuidFeature.WIDE_KL)
            {
                return true;
            }
        }

        return info.Encoding is EncodingKind.EVEX or EncodingKind.MVEX or EncodingKind.D3NOW || info.Code is Code.VEX_Vzeroupper or Code.VEX_Vzeroall;
    }

    private static bool IsGeneral(OpCodeOperandKind kind) => kind switch
    {
        OpCodeOperandKind.mem_mpx or OpCodeOperandKind.mem_mib or OpCodeOperandKind.sibmem => false,
        >= OpCodeOperandKind.mem_vsib32x and <= OpCodeOperandKind.mem_vsib64z => false,
        OpCodeOperandKind.r32_or_mem_mpx or OpCodeOperandKind.r64_or_mem_mpx => false,
        >= OpCodeOperandKind.mm_or_mem and <= OpCodeOperandKind.k_or_mem => false,
        >= OpCodeOperandKind.k_reg and <= OpCodeOperandKind.zmmp3_vvvv => false,
        OpCodeOperandKind.bnd_reg or OpCodeOperandKind.st0 or OpCodeOperandKind.sti_opcode or OpCodeOperandKind.imm4_m2z => false,
        >= OpCodeOperandKind.tmm_reg => false,
        OpCodeOperandKind.seg_rDI => false,
        _ => true,
    };
}
