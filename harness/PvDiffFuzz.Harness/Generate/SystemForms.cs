using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>The forms with operands that actions of paravirtual cases encode, looked up once for a mode.</summary>
internal sealed class SystemForms(CpuMode mode)
{
#pragma warning disable CS1591 // Each member is the form of that name.
    public FormTemplate MovToControl { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_cr_r64 : Code.Mov_cr_r32, mode);

    public FormTemplate MovFromControl { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_r64_cr : Code.Mov_r32_cr, mode);

    public FormTemplate MovToDebug { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_dr_r64 : Code.Mov_dr_r32, mode);

    public FormTemplate MovFromDebug { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_r64_dr : Code.Mov_r32_dr, mode);

    public FormTemplate Lmsw { get; } = Of(Code.Lmsw_rm16, mode);

    public FormTemplate Lgdt { get; } = Of(mode == CpuMode.Long64 ? Code.Lgdt_m1664 : Code.Lgdt_m1632, mode);

    public FormTemplate Lidt { get; } = Of(mode == CpuMode.Long64 ? Code.Lidt_m1664 : Code.Lidt_m1632, mode);

    public FormTemplate Sgdt { get; } = Of(mode == CpuMode.Long64 ? Code.Sgdt_m1664 : Code.Sgdt_m1632, mode);

    public FormTemplate Sidt { get; } = Of(mode == CpuMode.Long64 ? Code.Sidt_m1664 : Code.Sidt_m1632, mode);

    public FormTemplate[] Smsw { get; } = mode == CpuMode.Long64 ? [Of(Code.Smsw_rm16, mode), Of(Code.Smsw_r32m16, mode), Of(Code.Smsw_r64m16, mode)] : [];

    public FormTemplate LoadSegment { get; } = Of(Code.Mov_Sreg_rm16, mode);

    public FormTemplate Lldt { get; } = Of(Code.Lldt_rm16, mode);

    public FormTemplate Ltr { get; } = Of(Code.Ltr_rm16, mode);

    public FormTemplate Invlpg { get; } = Of(Code.Invlpg_m, mode);

    public FormTemplate Invpcid { get; } = Of(mode == CpuMode.Long64 ? Code.Invpcid_r64_m128 : Code.Invpcid_r32_m128, mode);

    public FormTemplate Load { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_r64_rm64 : Code.Mov_r32_rm32, mode);

    public FormTemplate Store { get; } = Of(mode == CpuMode.Long64 ? Code.Mov_rm64_r64 : Code.Mov_rm32_r32, mode);

    public FormTemplate Store32 { get; } = Of(Code.Mov_rm32_r32, mode);

    public FormTemplate Store16 { get; } = Of(Code.Mov_rm16_r16, mode);

    public FormTemplate Modify { get; } = Of(mode == CpuMode.Long64 ? Code.Add_rm64_r64 : Code.Add_rm32_r32, mode);

    public FormTemplate Iret { get; } = Of(mode == CpuMode.Long64 ? Code.Iretq : Code.Iretd, mode);

    public FormTemplate Retf { get; } = Of(mode == CpuMode.Long64 ? Code.Retfq : Code.Retfd, mode);

    public FormTemplate[] SegmentBases { get; } = mode == CpuMode.Long64 ? [Of(Code.Rdfsbase_r64, mode), Of(Code.Rdgsbase_r64, mode), Of(Code.Wrfsbase_r64, mode), Of(Code.Wrgsbase_r64, mode)] : [];
#pragma warning restore CS1591

    private static FormTemplate Of(Code code, CpuMode mode) =>
        InstructionForms.Template(code, mode) ?? throw new InvalidOperationException($"{code} has no template in mode {mode}");
}
