using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;
using MemoryOperand = PvDiffFuzz.Isa.MemoryOperand;

namespace PvDiffFuzz.Harness;

/// <summary>Inserts an instruction of any form that is not excluded, with any registers: the family evenly, then the mnemonic, then the form. So the rarest of them is not far away, also in code for which the generator makes none.</summary>
internal sealed class FormMutation : IMutation
{
    private const int MostInstructions = 64;

    private static readonly Dictionary<(CpuMode Mode, CpuVendor Vendor), FormTemplate[][][]> Forms = new[]
        {
            (CpuMode.Long64, CpuVendor.Amd), (CpuMode.Long64, CpuVendor.Intel), (CpuMode.Compatibility32, CpuVendor.Amd), (CpuMode.Compatibility32, CpuVendor.Intel),
        }.ToDictionary(key => key, key => FormsOf(key.Item1, key.Item2));

    /// <inheritdoc/>
    public int Weight => 10;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        List<CodePiece> pieces = [.. CodeEdit.PiecesOf(testCase.Code)];
        if (pieces.Count >= MostInstructions)
        {
            return null;
        }

        FormTemplate[][] family = random.Pick<FormTemplate[][]>(Forms[(testCase.Mode, context.Vendor)]);
        FormTemplate template = random.Pick<FormTemplate>(random.Pick<FormTemplate[]>(family));
        OperandChoice choice = ChooseOperands(testCase, template, ref random);
        Span<byte> bytes = stackalloc byte[TemplateEncoder.MaximumLength];
        int length = TemplateEncoder.Encode(template, in choice, bytes, out _);
        if (length > CodeSplitter.MaximumInstructionLength)
        {
            return null;
        }

        // What is relative is relative to the end that the instruction will have.
        pieces.Insert(random.Below(pieces.Count + 1), new CodePiece(ImmutableArray.Create(bytes[..length]), testCase.Code.End, -1));
        return CodeEdit.Arrange(testCase, CollectionsMarshal.AsSpan(pieces), context.Vendor);
    }

    private static OperandChoice ChooseOperands(TestCase testCase, FormTemplate template, ref CounterRandom random)
    {
        bool wide = testCase.Mode == CpuMode.Long64;
        int registers = wide ? GprFile.Count : GprFile.Count / 2;
        return new OperandChoice
        {
            Reg = (byte)random.Below(registers),
            Rm = (byte)random.Below(registers),
            OpcodeReg = (byte)random.Below(registers),
            Vvvv = (byte)random.Below(registers),
            IsMemory = template.RmField == RmField.Memory || (template.RmField != RmField.Register && random.Percent(50)),
            Memory = new MemoryOperand((sbyte)random.Below(registers), MemoryOperand.None, 0, random.Percent(60) ? 0 : random.Below(256) - 128),
            Immediate = template.BranchBytes != 0 ? 0 : random.Pick(EdgeValues.Operands.AsSpan()),
            Second = (ushort)random.Below(4),
            Rex = wide && random.Percent(30) ? (byte)(0x40 | random.Below(16)) : (byte)0,
        };
    }

    private static FormTemplate[][][] FormsOf(CpuMode mode, CpuVendor vendor)
    {
        CpuProfile profile = vendor == CpuVendor.Amd ? CpuProfile.DefaultAmd : CpuProfile.DefaultIntel;
        return
        [
            .. InstructionForms.Templates(mode)
                .Where(template => Exclusions.Find(template.Code, mode, profile) is null)
                .GroupBy(template => template.Family)
                .OrderBy(family => family.Key)
                .Select(family => family.GroupBy(template => template.Code.Mnemonic()).Select(forms => forms.ToArray()).ToArray()),
        ];
    }
}
