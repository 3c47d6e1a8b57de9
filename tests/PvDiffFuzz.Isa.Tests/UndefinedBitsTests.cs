using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;
using Flags = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Isa.Tests;

public sealed class UndefinedBitsTests
{
    private const ulong SignParityAdjust = Flags.SF | Flags.PF | Flags.AF;

    /// <summary>One instruction each: which flags are undefined after it. RCX is 5 for counts in CL.</summary>
    [Theory]
    [InlineData("4801D8", 0, "add rax,rbx")]
    [InlineData("4821D8", Flags.AF, "and rax,rbx")]
    [InlineData("4831D8", Flags.AF, "xor rax,rbx")]
    [InlineData("4885D8", Flags.AF, "test rax,rbx")]
    [InlineData("D1E0", Flags.AF, "shl eax,1")]
    [InlineData("C1E000", 0, "shl eax,0")]
    [InlineData("C1E020", 0, "shl eax,32: masked to 0")]
    [InlineData("48C1E020", Flags.AF | Flags.OF, "shl rax,32")]
    [InlineData("48C1E040", 0, "shl rax,64: masked to 0")]
    [InlineData("D3E0", Flags.AF | Flags.OF, "shl eax,cl")]
    [InlineData("C0E008", Flags.AF | Flags.OF | Flags.CF, "shl al,8")]
    [InlineData("66C1E810", Flags.AF | Flags.OF | Flags.CF, "shr ax,16")]
    [InlineData("C0F808", Flags.AF | Flags.OF, "sar al,8")]
    [InlineData("C1C001", 0, "rol eax,1 by imm8")]
    [InlineData("C1C002", Flags.OF, "rol eax,2")]
    [InlineData("D3D0", Flags.OF, "rcl eax,cl")]
    [InlineData("0FA4D801", Flags.AF, "shld eax,ebx,1")]
    [InlineData("0FA4D805", Flags.AF | Flags.OF, "shld eax,ebx,5")]
    [InlineData("0FA4D820", 0, "shld eax,ebx,32: masked to 0")]
    [InlineData("660FACD811", Flags.Status, "shrd ax,bx,17")]
    [InlineData("48F7E3", Flags.SF | Flags.ZF | Flags.AF | Flags.PF, "mul rbx")]
    [InlineData("480FAFC3", Flags.SF | Flags.ZF | Flags.AF | Flags.PF, "imul rax,rbx")]
    [InlineData("48F7F3", Flags.Status, "div rbx")]
    [InlineData("48F7FB", Flags.Status, "idiv rbx")]
    [InlineData("480FA3D8", Flags.OF | SignParityAdjust, "bt rax,rbx")]
    [InlineData("480FABD8", Flags.OF | SignParityAdjust, "bts rax,rbx")]
    [InlineData("480FBCC3", Flags.CF | Flags.OF | SignParityAdjust, "bsf rax,rbx")]
    [InlineData("F3480FBCC3", Flags.OF | SignParityAdjust, "tzcnt rax,rbx")]
    [InlineData("F3480FBDC3", Flags.OF | SignParityAdjust, "lzcnt rax,rbx")]
    [InlineData("F3480FB8C3", 0, "popcnt rax,rbx")]
    [InlineData("C4E2F8F3CB", Flags.AF | Flags.PF, "blsr rax,rbx")]
    [InlineData("C4E2F0F5C3", Flags.AF | Flags.PF, "bzhi rax,rbx,rcx")]
    [InlineData("C4E2F0F7C3", SignParityAdjust, "bextr rax,rbx,rcx")]
    [InlineData("C4E2F3F6C3", 0, "mulx rax,rcx,rbx")]
    [InlineData("C4E2F1F7C3", 0, "shlx rax,rbx,rcx")]
    public void KnowsTheUndefinedFlags(string bytes, ulong flags, string text)
    {
        UndefinedMask mask = After(CpuVendor.Amd, bytes);
        Assert.True(mask.Rflags == flags, $"{text}: {mask.Rflags:x}, not {flags:x}");
        Assert.False(mask.Consumed);
    }

    /// <summary>The instructions that only 32-bit code has.</summary>
    [Theory]
    [InlineData("37", Flags.OF | Flags.SF | Flags.ZF | Flags.PF)]
    [InlineData("3F", Flags.OF | Flags.SF | Flags.ZF | Flags.PF)]
    [InlineData("27", Flags.OF)]
    [InlineData("2F", Flags.OF)]
    [InlineData("D40A", Flags.OF | Flags.AF | Flags.CF)]
    [InlineData("D50A", Flags.OF | Flags.AF | Flags.CF)]
    public void KnowsTheUndefinedFlagsOfDecimalAdjustments(string bytes, ulong flags) =>
        Assert.Equal(flags, UndefinedBits.After([Traced(bytes, mode: CpuMode.Compatibility32)], CpuVendor.Amd, lastCompleted: true).Rflags);

    /// <summary>A later instruction that writes the flag defines it again; one that leaves it alone does not.</summary>
    [Fact]
    public void AWriteDefinesAFlagAgain()
    {
        Assert.Equal(0UL, After(CpuVendor.Amd, "48F7F3", "4801D8").Rflags);
        Assert.Equal(Flags.Status, After(CpuVendor.Amd, "48F7F3", "4889D8").Rflags);
        Assert.Equal(Flags.Status & ~Flags.CF, After(CpuVendor.Amd, "48F7F3", "F8").Rflags);
        Assert.Equal(Flags.Status, After(CpuVendor.Amd, "48F7F3", "C1E000").Rflags);
    }

    /// <summary>Whatever reads an undefined flag makes everything after it incomparable, and is named.</summary>
    [Theory]
    [InlineData("4811D8", "adc rax,rbx")]
    [InlineData("0F94C0", "sete al")]
    [InlineData("480F44C3", "cmove rax,rbx")]
    [InlineData("7400", "je short")]
    [InlineData("9C", "pushf")]
    [InlineData("9F", "lahf")]
    [InlineData("D1D0", "rcl eax,1")]
    public void ReadingAnUndefinedFlagConsumesIt(string bytes, string text)
    {
        UndefinedMask mask = After(CpuVendor.Amd, "48F7F3", bytes);
        Assert.True(mask.Consumed, text);
        Assert.Contains(mask.Rows, r => r.Contains(text.Split(' ')[0], StringComparison.Ordinal));
        Assert.Contains("divide-flags", mask.Rows, StringComparer.Ordinal);
    }

    /// <summary>SYSCALL puts the flags into R11, so the same bits are undefined there.</summary>
    [Fact]
    public void SyscallCarriesUndefinedFlagsIntoR11()
    {
        UndefinedMask mask = After(CpuVendor.Amd, "4821D8", "0F05");
        Assert.False(mask.Consumed);
        Assert.Equal(Flags.AF, mask.Rflags);
        Assert.Equal(Flags.AF, mask.Gpr[11]);
    }

    /// <summary>A hypervisor that turns SYSCALL back into a fault does so after R11 was loaded.</summary>
    [Fact]
    public void SyscallLoadsR11BeforeItIsTurnedIntoAFault() =>
        Assert.Equal(Flags.AF, UndefinedBits.After([Traced("4821D8"), Traced("0F05")], CpuVendor.Amd, lastCompleted: false).Gpr[11]);

    /// <summary>Returns that load R11 with RFLAGS load what is undefined there.</summary>
    [Fact]
    public void ReturnsMayCarryUndefinedFlagsIntoR11()
    {
        Assert.Equal(Flags.AF, UndefinedBits.After([Traced("4821D8")], CpuVendor.Amd, lastCompleted: true, resumes: true, flagsInR11: true).Gpr[11]);
        Assert.Equal(0UL, UndefinedBits.After([Traced("4821D8")], CpuVendor.Amd, lastCompleted: true, resumes: true).Gpr[11]);
    }

    /// <summary>A frame on the stack of the code that was interrupted holds undefined flags, and a RET may find them there. One that faulted with nothing undefined leaves nothing to find, and other memory is no stack.</summary>
    [Theory]
    [InlineData("4821D8", "C3", true, true)]
    [InlineData("4821D8", "488B442408", true, true)]
    [InlineData("4821D8", "488B03", true, false)]
    [InlineData("4821D8", "C3", false, false)]
    [InlineData("90", "C3", true, false)]
    public void AFrameOnTheOwnStackMayBeReadThere(string first, string last, bool own, bool consumed)
    {
        TracedInstruction faults = Traced("488B00") with { Raised = new RaisedException(14, 0) };

        Assert.Equal(consumed, UndefinedBits.After([Traced(first), faults, Traced(last)], CpuVendor.Amd, lastCompleted: true, resumes: true, framesOnOwnStack: own).Consumed);
    }

    /// <summary>A processor without TZCNT has BSF there, which leaves CF undefined as well.</summary>
    [Fact]
    public void WithoutTzcntItsBytesAreBsf()
    {
        CpuProfile without = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Remove("BMI1").Remove("LZCNT") };

        Assert.Equal(Flags.CF, UndefinedBits.After([Traced("F3480FBCC3")], CpuVendor.Amd, lastCompleted: true, profile: without).Rflags & Flags.CF);
        Assert.Equal(Flags.CF, UndefinedBits.After([Traced("F3480FBDC3")], CpuVendor.Amd, lastCompleted: true, profile: without).Rflags & Flags.CF);
        Assert.Equal(0UL, UndefinedBits.After([Traced("F3480FBCC3")], CpuVendor.Amd, lastCompleted: true, profile: CpuProfile.DefaultAmd).Rflags & Flags.CF);
    }

    /// <summary>A fault is precise: the instruction that raised it changed nothing.</summary>
    [Fact]
    public void AFaultingInstructionLeavesNothingUndefined()
    {
        Assert.Equal(UndefinedMask.None, UndefinedBits.After([Traced("48F7F3")], CpuVendor.Amd, lastCompleted: false));
        Assert.Equal(Flags.AF, UndefinedBits.After([Traced("4821D8"), Traced("480118")], CpuVendor.Amd, lastCompleted: false).Rflags);
    }

    /// <summary>Writing the stack item by item may leave some of it written when a later item faults.</summary>
    [Fact]
    public void AFaultingEnterMayHaveWrittenMemory()
    {
        Assert.True(UndefinedBits.After([Traced("C8100001")], CpuVendor.Amd, lastCompleted: false).Memory);
        Assert.False(UndefinedBits.After([Traced("C8100001")], CpuVendor.Amd, lastCompleted: true).Memory);
        Assert.True(UndefinedBits.After([Traced("FF18")], CpuVendor.Amd, lastCompleted: false).Memory);
        Assert.False(UndefinedBits.After([Traced("E800000000")], CpuVendor.Amd, lastCompleted: false).Memory);
    }

    /// <summary>BSF with a zero source leaves its destination alone by AMD's manual; Intel's calls it undefined.</summary>
    [Fact]
    public void BitScansDependOnTheVendor()
    {
        Assert.Equal(0UL, After(CpuVendor.Amd, "480FBCC3").Gpr[0]);
        Assert.Equal(ulong.MaxValue, After(CpuVendor.Intel, "480FBCC3").Gpr[0]);
        Assert.Equal(ulong.MaxValue, After(CpuVendor.Intel, "0FBCC3").Gpr[0]);
    }

    /// <summary>BSWAP of a 16-bit register leaves these 16 bits undefined and the others alone.</summary>
    [Fact]
    public void SixteenBitByteSwapLeavesTheRegisterUndefined()
    {
        Assert.Equal(0xffffUL, After(CpuVendor.Amd, "660FC8").Gpr[0]);
        Assert.Equal(0UL, After(CpuVendor.Amd, "0FC8").Gpr[0]);
        Assert.Equal(0UL, After(CpuVendor.Amd, "660FC8", "89D8").Gpr[0]);
        Assert.Equal(0xff00UL, After(CpuVendor.Amd, "660FC8", "88D8").Gpr[0]);
    }

    /// <summary>An undefined register in an address or as a source is consumed; overwriting it is not.</summary>
    [Theory]
    [InlineData("488B18", true)]
    [InlineData("4801C3", true)]
    [InlineData("488918", true)]
    [InlineData("4889D8", false)]
    [InlineData("31C0", false)]
    [InlineData("48C1E820", true)]
    public void ReadingAnUndefinedRegisterConsumesIt(string bytes, bool consumed) =>
        Assert.Equal(consumed, After(CpuVendor.Amd, "660FC8", bytes).Consumed);

    /// <summary>A 16-bit double shift past its operand leaves memory undefined, and reading memory then consumes it.</summary>
    [Fact]
    public void UndefinedMemoryIsFollowed()
    {
        UndefinedMask mask = After(CpuVendor.Amd, "660FA4181F");
        Assert.True(mask.Memory);
        Assert.Equal(Flags.Status, mask.Rflags);
        Assert.True(After(CpuVendor.Amd, "660FA4181F", "8B1E").Consumed);
    }

    /// <summary>REP with a count of 0 does not set flags, so it defines none.</summary>
    [Fact]
    public void ARepeatedComparisonOfNothingDefinesNothing()
    {
        Assert.Equal(Flags.Status, UndefinedBits.After([Traced("48F7F3"), Traced("F3A6", rcx: 0)], CpuVendor.Amd, lastCompleted: true).Rflags);
        Assert.Equal(0UL, UndefinedBits.After([Traced("48F7F3"), Traced("F3A6", rcx: 1)], CpuVendor.Amd, lastCompleted: true).Rflags);
        Assert.Equal(0UL, UndefinedBits.After([Traced("48F7F3"), Traced("F3A6", rcx: 0x1_0000_0000)], CpuVendor.Amd, lastCompleted: true).Rflags);
        Assert.Equal(Flags.Status, UndefinedBits.After([Traced("48F7F3"), Traced("67F3A6", rcx: 0x1_0000_0000)], CpuVendor.Amd, lastCompleted: true).Rflags);
    }

    /// <summary>With responses, instructions in the middle may not have completed: nothing becomes defined again.</summary>
    [Fact]
    public void ResumedCasesKeepWhatWasOnceUndefined() =>
        Assert.Equal(Flags.Status, UndefinedBits.After([Traced("48F7F3"), Traced("4801D8")], CpuVendor.Amd, lastCompleted: true, resumes: true).Rflags);

    /// <summary>
    /// MUL leaves four flags undefined, and UD2 behind it saves them in a frame. When the handler is payload, nobody masks them there. A jump to the same place saves nothing, nor does the next
    /// instruction; DIV that faults has left nothing undefined; and a UD2 that raised nothing is a forced emulation of seven bytes.
    /// </summary>
    [Theory]
    [InlineData("48F7E3", "0F0B", 6, 0x440000UL, true)]
    [InlineData("48F7E3", "CD03", null, 0x440000UL, true)]
    [InlineData("4801D8", "0F0B", 6, 0x440000UL, false)]
    [InlineData("4801D8", "48F7F3", null, 0x440000UL, false)]
    [InlineData("48F7E3", "FFE0", null, 0x440000UL, false)]
    [InlineData("48F7E3", "0F0B", null, 0x401005UL, false)]
    [InlineData("48F7E3", "0F0B", null, 0x40100aUL, false)]
    public void AnEventOfAHandlerInThePayloadConsumes(string first, string second, int? raised, ulong handler, bool consumed)
    {
        TracedInstruction fault = Traced(second) with { Address = 0x401003, Raised = raised is int vector ? new RaisedException((byte)vector, null) : null };

        UndefinedMask mask = UndefinedBits.After([Traced(first), fault, Traced("90") with { Address = handler }], CpuVendor.Amd, lastCompleted: true);

        Assert.Equal((consumed, consumed), (mask.Consumed, mask.Rows.Contains("read by delivery")));
    }

    /// <summary>SYSRET is a branch by its looks; where the trace tells that it raised #GP, its handler is an event's.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ABranchThatRaisedAnEventConsumes(bool raised)
    {
        TracedInstruction sysret = Traced("480F07") with { Address = 0x401003, Raised = raised ? new RaisedException(13, 0) : null };

        Assert.Equal(raised, UndefinedBits.After([Traced("48F7E3"), sysret, Traced("90") with { Address = 0x440000 }], CpuVendor.Amd, lastCompleted: true).Consumed);
    }

    /// <summary>JMP goes where nothing can be fetched, and the frame of that #PF has what MUL left undefined. ADD that stands where memory ends has defined it before.</summary>
    [Theory]
    [InlineData("FFE0", true, true)]
    [InlineData("FFE0", false, false)]
    [InlineData("4801D8", true, false)]
    public void AFetchThatFaultsBehindAnInstructionConsumes(string code, bool raised, bool consumed)
    {
        TracedInstruction last = Traced(code) with { Address = 0x401003, NextFetchRaised = raised };
        ulong next = raised ? 0x440000UL : 0x401003 + (ulong)(code.Length / 2);

        Assert.Equal(consumed, UndefinedBits.After([Traced("48F7E3"), last, Traced("90") with { Address = next }], CpuVendor.Amd, lastCompleted: true).Consumed);
    }

    /// <summary>With responses, whose handler an event goes to is not told: what was undefined when it saved RFLAGS is noted, whatever became defined behind it. Without an event nothing is.</summary>
    [Theory]
    [InlineData(true, "48F7E3", true, 0xd4UL)]
    [InlineData(true, "48F7E3", false, 0UL)]
    [InlineData(true, "4801D8", true, 0UL)]
    [InlineData(false, "4801D8", true, 0UL)]
    public void WhatAnEventSavedIsNoted(bool resumes, string first, bool raised, ulong saved)
    {
        TracedInstruction fault = Traced("0F0B") with { Address = 0x401003, Raised = raised ? new RaisedException(6, null) : null };

        Assert.Equal(saved, UndefinedBits.After([Traced(first), fault, Traced("4801D8") with { Address = 0x440000 }], CpuVendor.Amd, lastCompleted: true, resumes).Saved);
    }

    /// <summary>Our table and Iced's agree about every countable form whose effect does not depend on a count; control and debug moves fault at CPL3.</summary>
    [Fact]
    public void TheTableAgreesWithIced()
    {
        StringBuilder failures = new();
        foreach (InstructionForm form in InstructionForms.All.Where(f => f.Integer && f.Family != Family.Privileged && !FlagEffects.HasCount(f.Code)))
        {
            FormTemplate template = (InstructionForms.Template(form.Code, CpuMode.Long64) ?? InstructionForms.Template(form.Code, CpuMode.Compatibility32))!;
            FlagEffect effect = FlagEffects.Of(form.Code, null);
            if (effect.Undefined != (template.FlagsUndefined & Flags.Status) || (effect.Defined & Flags.Status) != (template.FlagsDefined & Flags.Status))
            {
                failures.AppendLine($"{form.Code}: undefined {effect.Undefined:x}, Iced {template.FlagsUndefined:x}; defined {effect.Defined:x}, Iced {template.FlagsDefined:x}");
            }
        }

        Assert.True(failures.Length == 0, failures.ToString());
    }

    /// <summary>No mask without its source, and no row that no form uses.</summary>
    [Fact]
    public void EveryRowCitesAManualAndIsUsed()
    {
        Assert.All(UndefinedTable.Rows, r => Assert.Matches("^(SDM|APM) vol", r.Source));
        HashSet<string> used = [.. InstructionForms.All.Where(f => f.Integer).SelectMany(f => FlagEffects.RowsOf(f.Code)).Select(r => r.Id)];
        Assert.Equal(UndefinedTable.Rows.Select(r => r.Id).Order(StringComparer.Ordinal), used.Order(StringComparer.Ordinal));
    }

    /// <summary>The page of undefined bits lists every row.</summary>
    [Fact]
    public void TheDocumentListsEveryRow()
    {
        string document = Documents.Read("undefined-bits.md");
        Assert.All(UndefinedTable.Rows, r => Assert.Contains(Documents.Row(r), document, StringComparison.Ordinal));
        Assert.Equal(UndefinedTable.Rows.Length, document.Split('\n').Count(l => l.StartsWith("| `", StringComparison.Ordinal)));
    }

    private static UndefinedMask After(CpuVendor vendor, params ReadOnlySpan<string> instructions)
    {
        ImmutableArray<TracedInstruction>.Builder trace = ImmutableArray.CreateBuilder<TracedInstruction>();
        foreach (string bytes in instructions)
        {
            trace.Add(Traced(bytes));
        }

        return UndefinedBits.After(trace.ToImmutable(), vendor, lastCompleted: true);
    }

    private static TracedInstruction Traced(string bytes, ulong rcx = 5, CpuMode mode = CpuMode.Long64) =>
        new(0x401000, [.. Convert.FromHexString(bytes)], mode, rcx);
}
