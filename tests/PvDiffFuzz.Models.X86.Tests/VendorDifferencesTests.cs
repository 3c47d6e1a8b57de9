using System.Globalization;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Where AMD and Intel differ at CPL3: one row for each difference, with what both manuals say.</summary>
/// <remarks>
/// <para>
/// More of them, with facts of their own: far transfers and their stack slots, operands and code at 4 GiB (<see cref="FarTransfersTests"/>), order of stack and target
/// of CALL (<see cref="BranchesTests"/>), RF between iterations of REP (<see cref="StringsTests"/>), pushes of selectors (<see cref="SegmentTests"/>), CPUID above its
/// highest leaf (<see cref="HostReadingsTests"/>).
/// </para>
/// <para>
/// Not here, because no case can show them: what SYSRET does to SS and to a return address that is not canonical (it is #GP at CPL3), FOP, FIP and FDP after FXSAVE (a
/// case carries no x87 state), the values of undefined flags after multiplications, divisions and shifts (rows of the table of undefined bits), and what a hypervisor makes
/// of VMCALL and VMMCALL (without one both are #UD). Breakpoints on the instruction after MOV SS belong to the tests of breakpoints (<see cref="BreakpointTests"/>), lengths of
/// undefined encodings to <see cref="UndefinedLengthTests"/>.
/// </para>
/// </remarks>
public sealed class VendorDifferencesTests
{
    /// <summary>The last byte of the low block's two data pages, plus one.</summary>
    private const ulong DataEnd = AddressMap.LowBlock + AddressMap.Data + 0x2000;

    private const CpuMode Wide = CpuMode.Long64;
    private const CpuMode Narrow = CpuMode.Compatibility32;

    /// <summary>A TSS of DPL 3 in the last eight bytes of a GDT of 0x80 bytes, and one whose sixteen bytes fit.</summary>
    private static readonly SegmentDescriptor[] Tasks =
    [
        new SegmentDescriptor(8, 0xb, System: true, 3, Present: true, Long: false, Big: false, Granular: false, Available: false, 0, 0x67),
        new SegmentDescriptor(15, 0x9, System: true, 3, Present: true, Long: false, Big: false, Granular: false, Available: false, 0, 0x67),
    ];

    [Fact]
    public void EachVendorFollowsItsManual()
    {
        (string What, TestCase Case, string Amd, string Intel)[] rows =
        [
            ("66 before a near JMP truncates RIP for AMD only", Case("66 eb 00 90"), "#14 cr2=1fff", "end"),
            ("66 before Jcc makes a displacement of 16 bits for AMD only; then 00 00 is ADD [RAX],AL", Case("66 0f 84 00 00 00 00"), "#14 cr2=0", "end"),
            ("66 before a near RET pops two bytes for AMD only", Case("66 c3").With(Stack, 0x00, 0x20, 0x40), "#14 cr2=2000", "end"),
            ("REX.W cancels the 66 for both", Case("66 48 e8 00 00 00 00"), "end", "end"),
            ("so 66 REX.W Jcc that lacks two bytes is a fetch fault for both", Case("66 48 0f 81 67 f0"), "#14 cr2=402000", "#14 cr2=402000"),
            ("SYSENTER does not exist in long mode for AMD", Case("0f 34"), "#6", "unsupported"),
            ("nor in compatibility mode", Case(Narrow, "0f 34"), "#6", "unsupported"),
            ("SYSEXIT is privileged for both", Case("0f 35"), "#13 error=0", "#13 error=0"),
            ("SYSCALL in compatibility mode enters at CSTAR for AMD", Case(Narrow, "0f 05"), "unsupported", "#6"),
            ("SYSRET is privileged; outside 64-bit mode Intel does not know it", Case("0f 07"), "#13 error=0", "#13 error=0"),
            ("SYSRET in compatibility mode", Case(Narrow, "0f 07"), "#13 error=0", "#6"),
            ("LSS with REX.W reads six bytes for AMD, ten for Intel", Case("48 0f b2 0b", 0, (Register.Rbx, DataEnd - 6)), "#13 error=0", "#14 cr2=412000"),
            ("and so does far JMP", Case("48 ff 2b", 0, (Register.Rbx, DataEnd - 6)), "#13 error=0", "#14 cr2=412000"),
            ("66 REX.W LSS is not the form of four bytes for AMD", Case("66 48 0f b2 0b", 0, (Register.Rbx, DataEnd - 4)), "#14 cr2=412000", "#14 cr2=412000"),
            ("66 MOVSXD reads four bytes for AMD, two for Intel", Case("66 63 0b", 0, (Register.Rbx, DataEnd - 2)), "#14 cr2=412000", "end"),
            ("UD0 has no ModRM byte for AMD", Case("0f ff"), "#6", "#14 cr2=402000"),
            ("LOCK MOV from CR0 is CR8 for AMD, which is privileged", Case("f0 0f 20 c0"), "#13 error=0", "#6"),
            ("VMCALL is Intel's, undefined outside VMX operation", Case("0f 01 c1"), "#6", "#6"),
            ("VMMCALL is AMD's, undefined without SVM", Case("0f 01 d9"), "#6", "#6"),
            ("PREFETCH with a register is undefined for AMD", Case("0f 0d c0"), "#6", "end"),
            ("POPAD reads the slot of ESP for AMD; Intel skips it", Case(Narrow, "61", 0, (Register.Rsp, 0xffff_fff1)), "#12 error=0", "#14 cr2=1"),
        ];
        List<string> wrong = [];
        foreach ((string what, TestCase testCase, string amd, string intel) in rows)
        {
            string onAmd = Describe(testCase, CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Add("SEP") });
            string onIntel = Describe(testCase, CpuProfile.DefaultIntel);
            if (onAmd != amd || onIntel != intel)
            {
                wrong.Add($"{what}: AMD {onAmd}, not {amd}; Intel {onIntel}, not {intel}");
            }
        }

        Probe.AssertNone(wrong, rows.Length);
    }

    /// <summary>LAR of TSS 7b, whose second half is past the limit: ZF is clear but for Intel in compatibility mode, which needs eight bytes only. LAR of 43 always sees it.</summary>
    [Fact]
    public void DescriptorsOfSixteenBytesLieWithinTheLimit()
    {
        foreach (CpuProfile vendor in (ReadOnlySpan<CpuProfile>)[CpuProfile.DefaultAmd, CpuProfile.DefaultIntel])
        {
            CpuProfile profile = vendor with { Descriptors = [.. vendor.Descriptors, .. Tasks], GdtLimit = 0x7f };
            foreach (CpuMode mode in Enum.GetValues<CpuMode>())
            {
                bool cut = Case(mode, "0f 02 d8", 0, (Register.Rax, 0x7b)).RunToEnd(profile).Status() == ZF;
                bool whole = Case(mode, "0f 03 d8", 0, (Register.Rax, 0x43)).RunToEnd(profile).Status() == ZF;
                Assert.Equal((vendor.Vendor, mode, vendor.Vendor == CpuVendor.Intel && mode == Narrow, true), (vendor.Vendor, mode, cut, whole));
            }
        }
    }

    /// <summary>A null selector clears the base of FS for Intel and for AMD from family 17 hexadecimal on; older ones keep it.</summary>
    [Fact]
    public void NullSelectorsClearTheBaseByFamily()
    {
        TestCase none = Case("8e e0", 0, (Register.FsBase, 0x1000), (Register.Fs, Selectors.UserData));

        Assert.Equal(0x1000UL, none.RunToEnd(CpuProfile.DefaultAmd with { Family = 0x16 }).FsBase);
        Assert.Equal(0UL, none.RunToEnd(CpuProfile.DefaultAmd with { Family = 0x17 }).FsBase);
        Assert.Equal(0UL, none.RunToEnd(CpuProfile.DefaultIntel).FsBase);
    }

    /// <summary>BSF and BSR of 0 leave a 64-bit destination alone for AMD; Intel calls it undefined, and the model leaves it too.</summary>
    [Theory]
    [InlineData("48 0f bc d9")]
    [InlineData("48 0f bd d9")]
    public void ScansOfZeroLeaveTheDestination(string code)
    {
        TestCase scan = Case(code, 0, (Register.Rbx, 0x1234_5678_9abc_def0));

        Assert.Equal(0x1234_5678_9abc_def0UL, scan.RunToEnd(CpuProfile.DefaultAmd)[Register.Rbx]);
        Assert.Equal(0x1234_5678_9abc_def0UL, scan.RunToEnd(CpuProfile.DefaultIntel)[Register.Rbx]);
    }

    /// <summary>REP with a 32-bit address and ECX = 0: AMD writes nothing; Intel clears the upper half of RCX, and of RSI and RDI for MOVS and STOS only.</summary>
    [Fact]
    public void ZeroCountsWriteByVendor()
    {
        (string Code, bool Rsi, bool Rdi)[] rows = [("67 f3 a4", true, true), ("67 f3 aa", false, true), ("67 f3 ac", false, false), ("67 f3 a6", false, false), ("67 f3 ae", false, false)];
        const ulong high = 1UL << 32;
        foreach ((string code, bool rsi, bool rdi) in rows)
        {
            TestCase testCase = Case(code, 0, (Register.Rcx, high), (Register.Rsi, high), (Register.Rdi, high));
            RegisterState amd = testCase.RunToEnd(CpuProfile.DefaultAmd);
            RegisterState intel = testCase.RunToEnd(CpuProfile.DefaultIntel);
            Assert.Equal((code, high, high, high), (code, amd[Register.Rcx], amd[Register.Rsi], amd[Register.Rdi]));
            Assert.Equal((code, 0UL, rsi ? 0 : high, rdi ? 0 : high), (code, intel[Register.Rcx], intel[Register.Rsi], intel[Register.Rdi]));
        }
    }

    private static string Describe(TestCase testCase, CpuProfile profile)
    {
        using X86Model model = new(profile);
        Outcome outcome = model.Run(testCase);
        if (outcome.End is not (EndKind.ReachedEnd or EndKind.Event))
        {
            return outcome.End == EndKind.Unsupported ? "unsupported" : outcome.End.ToString();
        }

        Event only = outcome.Only();
        return outcome.End == EndKind.ReachedEnd && only.Registers.Rip == End && testCase.Code.Address + (ulong)testCase.Code.Bytes.Length == End && only.Cr2 == End
            ? "end"
            : only.Cr2 is ulong cr2 ? string.Create(CultureInfo.InvariantCulture, $"#{only.Vector} cr2={cr2:x}")
            : only.ErrorCode is uint error ? string.Create(CultureInfo.InvariantCulture, $"#{only.Vector} error={error:x}")
            : string.Create(CultureInfo.InvariantCulture, $"#{only.Vector}");
    }
}
