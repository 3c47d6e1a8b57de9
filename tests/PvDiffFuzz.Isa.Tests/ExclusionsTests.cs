using System.Text;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa.Tests;

public sealed class ExclusionsTests
{
    private static readonly CpuProfile Everything = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("PKU") };

    /// <summary>
    /// The bytes of an excluded instruction are found wherever a jump could begin to decode them: RDPID is RDSEED behind its prefix, and CLWB, which is harmless itself, is XSAVEOPT.
    /// </summary>
    [Theory]
    [InlineData("0F31", "time")]
    [InlineData("90900F01F9", "time")]
    [InlineData("B80F01D900", "hypercalls")]
    [InlineData("660F01C1", "hypercalls")]
    [InlineData("F20F01D9", "hypercalls")]
    [InlineData("480FC7F0", "random")]
    [InlineData("660FC7F0", "random")]
    [InlineData("F30FC7F8", "random")]
    [InlineData("660FAE30", "extended-state")]
    [InlineData("0FA2", "identity")]
    [InlineData("0F01E0", "machine-status")]
    [InlineData("0F0100", "descriptor-tables")]
    [InlineData("0F00C8", "descriptor-tables")]
    [InlineData("0F03C0", "segment-limit")]
    [InlineData("660FAEF0", "waits")]
    [InlineData("C7F800000000", "transactions")]
    [InlineData("0F01EF", "protection-keys")]
    [InlineData("0F34", "sysenter-intel")]
    [InlineData("660F38800000", "vmx")]
    public void FindsExcludedInstructions(string bytes, string id)
    {
        Exclusion? row = Exclusions.FindAnywhere(Convert.FromHexString(bytes), CpuMode.Long64, Everything, out int offset);
        Assert.Equal(id, row?.Id);
        Assert.InRange(offset, 0, bytes.Length / 2);
    }

    /// <summary>Neighbours in the opcode map stay allowed.</summary>
    [Theory]
    [InlineData("0F05", CpuMode.Long64)]
    [InlineData("0F34", CpuMode.Long64)]
    [InlineData("0F0110", CpuMode.Long64)]
    [InlineData("0F01F8", CpuMode.Long64)]
    [InlineData("0F01EF", CpuMode.Long64)]
    [InlineData("0FAEF0", CpuMode.Long64)]
    [InlineData("0FC708", CpuMode.Long64)]
    [InlineData("0F02C0", CpuMode.Long64)]
    [InlineData("0F00E0", CpuMode.Long64)]
    public void LeavesOtherInstructionsAlone(string bytes, CpuMode mode) =>
        Assert.Null(Exclusions.FindAnywhere(Convert.FromHexString(bytes), mode, CpuProfile.DefaultAmd, out _));

    /// <summary>SYSCALL is excluded in compatibility mode only.</summary>
    [Fact]
    public void RowsMayDependOnTheMode()
    {
        Assert.Equal("syscall-compatibility", Exclusions.FindAnywhere([0x0f, 0x05], CpuMode.Compatibility32, CpuProfile.DefaultAmd, out _)?.Id);
        Assert.Null(Exclusions.Find(Code.Syscall, CpuMode.Long64, CpuProfile.DefaultAmd));
    }

    /// <summary>For every excluded form that has a template, its plain encoding is found.</summary>
    /// <remarks>VLDMXCSR and VSTMXCSR are kept out of generated forms only: in raw bytes the model answers that it has no such form.</remarks>
    [Theory]
    [InlineData(CpuMode.Long64)]
    [InlineData(CpuMode.Compatibility32)]
    public void FindsEveryExcludedForm(CpuMode mode)
    {
        StringBuilder failures = new();
        byte[] buffer = new byte[TemplateEncoder.MaximumLength];
        int tried = 0;
        foreach (FormTemplate template in InstructionForms.Templates(mode))
        {
            if (template.Space != OpcodeSpace.Legacy || Exclusions.Find(template.Code, mode, Everything) is null)
            {
                continue;
            }

            OperandChoice choice = new() { Rm = 2, IsMemory = template.RmField == RmField.Memory, Memory = new MemoryOperand(2, MemoryOperand.None, 0, 0) };
            int length = TemplateEncoder.Encode(template, in choice, buffer, out _);
            tried++;
            if (Exclusions.FindAnywhere(buffer.AsSpan(0, length), mode, Everything, out _) is null)
            {
                failures.AppendLine($"{template}: {Convert.ToHexString(buffer, 0, length)}");
            }
        }

        Assert.True(tried > 80, "too few excluded forms were tried");
        Assert.True(failures.Length == 0, failures.ToString());
    }

    /// <summary>Rows are told apart by name, each has a reason in a sentence, and no mnemonic stands in two rows.</summary>
    [Fact]
    public void RowsAreComplete()
    {
        Assert.Equal(Exclusions.Rows.Length, Exclusions.Rows.Select(r => r.Id).Distinct(StringComparer.Ordinal).Count());
        Assert.All(Exclusions.Rows, r => Assert.EndsWith(".", r.Reason, StringComparison.Ordinal));
        Mnemonic[] all = [.. Exclusions.Rows.SelectMany(r => r.Mnemonics)];
        Assert.Equal(all.Length, all.Distinct().Count());
    }

    /// <summary>The generator's page lists every row with its reason, in order.</summary>
    [Fact]
    public void TheDocumentListsEveryRow()
    {
        string document = Documents.Read("generator.md");
        Assert.All(Exclusions.Rows, r => Assert.Contains(Documents.Row(r), document, StringComparison.Ordinal));
        Assert.Equal(Exclusions.Rows.Length, document.Split('\n').Count(l => l.StartsWith("| `", StringComparison.Ordinal) && Exclusions.Rows.Any(r => l.StartsWith($"| `{r.Id}` |", StringComparison.Ordinal))));
    }
}
