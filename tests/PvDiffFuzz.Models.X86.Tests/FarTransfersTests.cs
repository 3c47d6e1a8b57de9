using System.Buffers.Binary;
using System.Globalization;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about far JMP, CALL and RET and about IRET, and about segments in compatibility mode.</summary>
public sealed class FarTransfersTests
{
    /// <summary>A stack above 4 GiB, and the low half of its address.</summary>
    private const ulong High = AddressMap.HighBlock + AddressMap.Stack + 0x1000;
    private const ulong Low = High & uint.MaxValue;

    /// <summary>A profile with a call gate, a conforming, an absent, an execute-only and a DPL 0 code segment, and code with both L and D.</summary>
    private static readonly CpuProfile Rich = CpuProfile.DefaultAmd with
    {
        Descriptors =
        [
            .. CpuProfile.DefaultDescriptors,
            Code64(7) with { Type = 0xe, Dpl = 0 },
            Code64(8) with { Present = false },
            Code64(9) with { Big = true },
            Code64(10) with { Type = 0xc, System = true, Present = false },
            Code64(11) with { Type = 0x8, Long = false, Big = true },
            Code64(12) with { Type = 0xc, System = true, Dpl = 0 },
            Code64(13) with { Type = 0x9, System = true },
        ],
    };

    /// <summary>A far JMP with selector 30 loads CS with 33, one with 23 switches to compatibility mode; a 16-bit offset is zero-extended.</summary>
    [Fact]
    public void JumpLoadsCodeSegmentAndOffset()
    {
        Assert.Equal(Selectors.UserCode64, Pointer("ff 2b", 0x30, End).RunToEnd().Cs);
        Assert.Equal(Selectors.UserCode32, Pointer("ff 2b", 0x23, End).RunToEnd().Cs);
        Event narrow = Pointer("66 ff 2b", 0x33, 0xfffe, 2).Run().Only();
        Assert.Equal(((byte)14, 0xfffeUL, 0xfffeUL), (narrow.Vector, narrow.Cr2!.Value, narrow.Registers.Rip));
        Assert.Equal(Selectors.UserCode64, Case(CpuMode.Compatibility32, "ea 00 20 40 00 33 00").RunToEnd().Cs);
    }

    /// <summary>The trace tells which flags an IRET of four bytes an item is about to load; one of two or eight bytes has them elsewhere, and another instruction has none.</summary>
    [Theory]
    [InlineData(CpuMode.Compatibility32, "cf", 0x20202)]
    [InlineData(CpuMode.Long64, "cf", 0x20202)]
    [InlineData(CpuMode.Long64, "f3 cf", 0x20202)]
    [InlineData(CpuMode.Compatibility32, "66 cf", -1)]
    [InlineData(CpuMode.Long64, "48 cf", -1)]
    [InlineData(CpuMode.Long64, "c3", -1)]
    public void TheTraceTellsTheFlagsOfAReturn(CpuMode mode, string code, int flags)
    {
        using X86Model model = new();

        TracedInstruction first = model.Trace(Case(mode, code).With(Stack + 8, 0x02, 0x02, 0x02, 0x00), 10)[0];

        Assert.Equal(flags < 0 ? null : (uint?)flags, first.FlagsImage);
    }

    /// <summary>Bytes mean something else after a mode switch: 40 is INC EAX in compatibility mode and a prefix of NOP in 64-bit mode, at one address.</summary>
    [Fact]
    public void CodeIsDecodedAnewInTheOtherMode()
    {
        // Round one, 64-bit: 40 90, then the jump to 23 at the 40. Round two: INC EAX, NOP, then #GP at the jump with DS null.
        TestCase testCase = Pointer("40 90 ff 2b", 0x23, End - 4);
        Event end = testCase.Run().Only();

        Assert.Equal((1UL, (byte)13, End - 2), (end.Registers[Register.Rax], end.Vector, end.Registers.Rip));
    }

    /// <summary>Selector faults of JMP, RET and IRET: the selector without RPL, 0 for null and for a target that is not canonical.</summary>
    [Fact]
    public void SelectorsAreCheckedInOrder()
    {
        const ulong bad = 1UL << 47;
        (string Code, ushort Selector, ulong Offset, byte Vector, uint Error)[] rows =
        [
            ("ff 2b", 3, End, 13, 0), ("ff 2b", 0x37, End, 13, 0x34), ("ff 2b", 0xffff, End, 13, 0xfffc),
            ("ff 2b", 0x2b, End, 13, 0x28), ("ff 2b", 0x10, End, 13, 0x10),
            ("ff 2b", 0x40, End, 11, 0x40), ("ff 2b", 0x4b, End, 13, 0x48),
            ("ff 2b", 0x53, End, 11, 0x50), ("ff 2b", 0x63, End, 13, 0x60), ("ff 2b", 0x6b, End, 13, 0x68),
            ("48 cb", 0x30, End, 13, 0x30), ("48 cb", 0x33, bad, 13, 0), ("48 cb", 0x23, 1UL << 32, 13, 0), ("48 cb", 0x43, bad, 11, 0x40), ("48 cb", 0x53, End, 13, 0x50),
            ("48 cf", 0x31, End, 13, 0x30), ("48 cf", 0x33, bad, 13, 0), ("48 cf", 0x23, 1UL << 32, 13, 0),
        ];
        List<string> wrong = [];
        foreach ((string code, ushort selector, ulong offset, byte vector, uint error) in rows)
        {
            TestCase testCase = code == "ff 2b" ? Pointer(code, selector, offset) : Frame(code, offset, selector, 0, Stack, Selectors.UserData);
            Event fault = testCase.Run(Rich).Only();
            if (fault.Vector != vector || fault.ErrorCode != error || fault.Registers[Register.Rsp] != Stack || fault.Registers.Rip == End)
            {
                wrong.Add(string.Create(CultureInfo.InvariantCulture, $"{code} {selector:x}:{offset:x}: {fault.Vector} {fault.ErrorCode:x}"));
            }
        }

        Probe.AssertNone(wrong, rows.Length);
    }

    /// <summary>A conforming segment of DPL 0 is open to CPL3, which stays in CS.</summary>
    [Fact]
    public void ConformingCodeKeepsTheLevel() => Assert.Equal(0x3b, Pointer("ff 2b", 0x38, End).RunToEnd(Rich).Cs);

    /// <summary>CALL pushes CS, then RIP, each in a slot of the operand size that is cleared above CS.</summary>
    [Fact]
    public void CallPushesSlotsOfTheOperandSize()
    {
        TestCase call = Pointer("ff 1b", 0x33, End).With(Stack - 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
        Outcome outcome = call.Run();
        Assert.Equal((Stack - 8, 0x33_0040_2000UL), (Assert.Single(outcome.Memory).Address, outcome.Memory[0].Value));
        Assert.Equal(Stack - 8, outcome.Registers![Register.Rsp]);

        Event narrow = Pointer("66 ff 1b", 0x33, 0x10, 2).Run().Only();
        Assert.Equal(Stack - 4, narrow.Registers[Register.Rsp]);
    }

    /// <summary>REX.W: Intel takes a 64-bit offset; AMD keeps m16:32 and makes only the pushed slots wide.</summary>
    [Fact]
    public void WideFarCallDependsOnTheVendor()
    {
        TestCase amd = Pointer("48 ff 1b", 0x33, End);
        TestCase intel = Pointer("48 ff 1b", 0x33, End, 8);

        Assert.Equal(Stack - 16, amd.RunToEnd()[Register.Rsp]);
        Assert.Equal(Stack - 16, intel.RunToEnd(CpuProfile.DefaultIntel)[Register.Rsp]);
        Assert.Equal((byte)13, intel.Run().Only().Vector);
        Assert.Equal(Selectors.UserCode64, Pointer("66 48 ff 2b", 0x33, End).RunToEnd().Cs);
    }

    /// <summary>From 64-bit to compatibility mode AMD pushes at the low half of RSP, Intel at all of it.</summary>
    [Fact]
    public void CallAcrossModesPushesByVendor()
    {
        TestCase call = Pointer("ff 1b", 0x23, End);
        call = call with { Registers = call.Registers.With(Register.Rsp, High) };

        Event refused = call.Run().Only();
        Assert.Equal(((byte)14, Low - 4, High), (refused.Vector, refused.Cr2!.Value, refused.Registers[Register.Rsp]));
        Assert.Equal(High - 8, Assert.Single(call.Run(CpuProfile.DefaultIntel).Memory).Address);
    }

    /// <summary>RET releases its immediate, and to compatibility mode keeps the low half of RSP.</summary>
    [Fact]
    public void ReturnMovesTheStackPointer()
    {
        Assert.Equal(Stack + 24, Frame("48 ca 08 00", End, 0x33).RunToEnd()[Register.Rsp]);
        Assert.Equal(Stack + 8, Frame("cb", End, 0x33, width: 4).RunToEnd()[Register.Rsp]);
        Assert.Equal(2UL, Frame("66 cb", 2, 0x33, width: 2).Run().Only().Registers.Rip);
        TestCase far = Case("48 cb", 0, (Register.Rsp, High)).With(High, Words(8, End, 0x23));
        Assert.Equal(Low + 16, far.RunToEnd()[Register.Rsp]);
    }

    /// <summary>IRETQ pops RSP and SS at any level; in compatibility mode IRETD pops three slots.</summary>
    [Fact]
    public void InterruptReturnPopsTheStackIn64BitMode()
    {
        RegisterState wide = Frame("48 cf", End, 0x33, 0, High, 0x2b).RunToEnd();
        Assert.Equal((High, Selectors.UserData), (wide[Register.Rsp], wide.Ss));
        Assert.Equal(Low, Frame("48 cf", End, 0x23, 0, High, 0x2b).RunToEnd()[Register.Rsp]);
        TestCase narrow = Case(CpuMode.Compatibility32, "cf").With(Stack, Words(4, End, 0x33, 0));
        Assert.Equal((Stack + 12, Selectors.UserCode64), (narrow.RunToEnd()[Register.Rsp], narrow.RunToEnd().Cs));
    }

    /// <summary>SS must be writable data of RPL and DPL 3, never null; RIP is checked before it.</summary>
    [Fact]
    public void InterruptReturnChecksTheStackSegmentLast()
    {
        (ulong Rip, ushort Ss, uint Error)[] rows = [(End, 0, 0), (End, 3, 0), (End, 0x28, 0x28), (End, 0x33, 0x30), (End, 0x1b, 0x18), (End, 0x2f, 0x2c), (1UL << 63, 0x28, 0)];
        foreach ((ulong rip, ushort ss, uint error) in rows)
        {
            Event fault = Frame("48 cf", rip, 0x33, 0, Stack, ss).Run().Only();
            Assert.Equal(((byte)13, error, Selectors.UserData), (fault.Vector, fault.ErrorCode!.Value, fault.Registers.Ss));
        }
    }

    /// <summary>All ones: IF stays 1, IOPL, VM, VIF and VIP stay 0; the 16-bit form keeps what is above bit 15.</summary>
    [Fact]
    public void InterruptReturnLoadsUserFlags()
    {
        const ulong low = Status | DF | NT | IF | Fixed1;
        ulong all = ulong.MaxValue & ~TF;
        Assert.Equal(low | AC | ID | RF, Frame("48 cf", End, 0x33, all, Stack, 0x2b).RunToEnd().Rflags);
        Assert.Equal(IF | Fixed1 | RF, Frame("48 cf", End, 0x33, 0, Stack, 0x2b).RunToEnd().Rflags);
        Assert.Equal(low | RF, Frame("66 cf", 0x10, 0x33, all, Stack, 0x2b, 2).Run().Only().Registers.Rflags);
        TestCase identified = Frame("66 cf", 0x10, 0x33, 0, Stack, 0x2b, 2);
        Assert.Equal(ID | IF | Fixed1 | RF, (identified with { Registers = identified.Registers with { Rflags = ID | IF | Fixed1 } }).Run().Only().Registers.Rflags);
    }

    /// <summary>NT makes IRET #GP(0) even before a bad stack is noticed.</summary>
    [Fact]
    public void NestedTaskFaultsFirst()
    {
        Event fault = Case("48 cf", NT, (Register.Rsp, 8)).Run().Only();

        Assert.Equal(((byte)13, (uint?)0), (fault.Vector, fault.ErrorCode));
    }

    /// <summary>RF from the frame holds past IRETQ: the single step that began before it shows RF, one that began after it does not.</summary>
    [Fact]
    public void ResumeFlagOutlivesTheInterruptReturn()
    {
        TestCase stepped = Frame("48 cf", End, 0x33, RF, Stack, 0x2b);
        stepped = stepped with { Registers = stepped.Registers with { Rflags = TF | IF | Fixed1 } };
        Event first = stepped.Run().Only();
        Assert.Equal(((byte)1, IF | Fixed1 | RF), (first.Vector, first.Registers.Rflags));

        Event later = Frame("48 cf 90", End - 1, 0x33, RF | TF, Stack, 0x2b).Run().Only();
        Assert.Equal(((byte)1, TF | IF | Fixed1), (later.Vector, later.Registers.Rflags));
    }

    /// <summary>With five slots over the end of the stack, AMD reads SS before RSP and RFLAGS first; a return to RPL 0 reads the outer stack before it faults.</summary>
    [Fact]
    public void StackSlotsAreReadInTheOrderOfTheVendor()
    {
        const ulong top = Stack + 0x1000;
        (string Code, ulong Rsp, ulong Amd, ulong Intel)[] rows =
        [
            ("48 cf", top - 24, top + 8, top), ("48 cf", top, top + 16, top), ("48 cb", top, top + 8, top), ("48 cb", top - 16, top + 8, 0),
        ];
        foreach ((string code, ulong rsp, ulong amd, ulong intel) in rows)
        {
            TestCase testCase = Case(code, 0, (Register.Rsp, rsp));
            Assert.Equal((rsp, (ulong?)amd), (rsp, testCase.Run().Only().Cr2));
            Assert.Equal((rsp, intel), (rsp, testCase.Run(CpuProfile.DefaultIntel).Only().Cr2 ?? 0));
        }
    }

    /// <summary>A call gate that is present and open to CPL3 leads out of what is modelled.</summary>
    [Fact]
    public void UsableCallGatesEndTheCase()
    {
        CpuProfile profile = CpuProfile.DefaultAmd with { Descriptors = [.. CpuProfile.DefaultDescriptors, Code64(10) with { Type = 0xc, System = true }] };
        using X86Model model = new(profile);

        Assert.Equal(EndKind.Unsupported, model.Run(Pointer("ff 2b", 0x53, End)).End);
    }

    /// <summary>In compatibility mode code cannot be written through CS or DS, and execute-only code cannot be read.</summary>
    [Fact]
    public void CompatibilityModeChecksTypes()
    {
        (string Code, ulong Selector, bool Faults)[] rows =
        [
            ("2e 89 03", 0, true), ("2e 8b 0b", 0, false), ("2e 01 03", 0, true), ("8e d8 8b 0b", 0x23, false), ("8e d8 89 0b", 0x23, true), ("8e d8 8b 0b", 0x33, false),
            ("8e d8 8b 0b", 0x2b, false), ("8e d8 89 0b", 0x2b, false), ("8e c0 89 0b", 0x23, false), ("8e c0 26 89 0b", 0x23, true),
        ];
        List<string> wrong = [];
        foreach ((string code, ulong selector, bool faults) in rows)
        {
            Event only = Case(CpuMode.Compatibility32, code, 0, (Register.Rax, selector), (Register.Rbx, Data)).Run(Rich).Only();
            if (faults ? only.Vector != 13 || only.ErrorCode != 0 : only.Registers.Rip != End)
            {
                wrong.Add($"{code} with {selector:x}: {only.Vector} {only.ErrorCode}");
            }
        }

        Probe.AssertNone(wrong, rows.Length);
        TestCase own = Case(CpuMode.Compatibility32, "ea fd 1f 40 00 5b 00 2e 8a 03", 0, (Register.Rbx, Data));
        Assert.Equal(((byte)13, End - 3), (own.Run(Rich).Only().Vector, own.Run(Rich).Only().Registers.Rip));
    }

    /// <summary>An expand-down segment of limit 0 begins at offset 1; an ordinary one of limit ff ends there.</summary>
    [Fact]
    public void CompatibilityModeChecksLimits()
    {
        SegmentDescriptor data = CpuProfile.DefaultDescriptors[3] with { Granular = false };
        CpuProfile profile = CpuProfile.DefaultAmd with
        {
            Descriptors = [.. CpuProfile.DefaultDescriptors, data with { Index = 7, Type = 7, Limit = 0 }, data with { Index = 8, Base = (uint)Data, Limit = 0xff }],
        };
        (ulong Selector, ulong Offset, bool Allowed)[] rows = [(0x3b, Data, true), (0x3b, 0, false), (0x43, 0xfc, true), (0x43, 0xfd, false), (0x43, 0xffff_fffe, false)];
        foreach ((ulong selector, ulong offset, bool allowed) in rows)
        {
            Event only = Case(CpuMode.Compatibility32, "8e d8 89 0b", 0, (Register.Rax, selector), (Register.Rbx, offset)).Run(profile).Only();
            Assert.Equal((selector, offset, allowed ? (byte)14 : (byte)13), (selector, offset, only.Vector));
        }
    }

    /// <summary>An operand over the end of 4 GiB: AMD raises #GP(0) or #SS(0); Intel's wraps to address 0. A base may wrap for both.</summary>
    [Fact]
    public void OperandsAtFourGigabytesDependOnTheVendor()
    {
        TestCase load = Case(CpuMode.Compatibility32, "8b 0b", 0, (Register.Rbx, 0xffff_fffe));
        Assert.Equal((byte)13, load.Run().Only().Vector);
        Assert.Equal((ulong?)0, load.Run(CpuProfile.DefaultIntel).Only().Cr2);
        Assert.Equal((byte)12, Case(CpuMode.Compatibility32, "50", 0, (Register.Rsp, 2)).Run().Only().Vector);
        TestCase wrapped = Case(CpuMode.Compatibility32, "64 8b 0b", 0, (Register.Rbx, 0x7fff_fffe), (Register.Fs, Selectors.UserData), (Register.FsBase, 1UL << 31));
        Assert.Equal((ulong?)0, wrapped.Run().Only().Cr2);
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(0, 1, PageAccess.Read | PageAccess.Write)]);
        RegisterState end = (wrapped.With(0, 0x11, 0x22).With(0xffff_fffe, 0x33, 0x44) with { Layout = layout }).RunToEnd();
        Assert.Equal(0x2211_4433UL, end[Register.Rcx]);
    }

    /// <summary>An instruction over the end of 4 GiB is #GP(0) on AMD; one that ends there goes on at 0.</summary>
    [Fact]
    public void CodeDoesNotRunOverFourGigabytes()
    {
        const ulong edge = AddressMap.FourGigabyteEdge;
        PageRange last = new(edge, 1, PageAccess.Read | PageAccess.Write | PageAccess.Execute);
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges.Where(r => r.Address != edge), last]);
        TestCase jump = Case(CpuMode.Compatibility32, "ff e0", 0, (Register.Rax, 0xffff_fffe)) with { Layout = layout };

        Assert.Equal(((byte)13, 0xffff_fffeUL), (jump.With(0xffff_fffe, 0xb8, 1).Run().Only().Vector, jump.With(0xffff_fffe, 0xb8, 1).Run().Only().Registers.Rip));
        Assert.Equal((ulong?)0, jump.With(0xffff_fffe, 0xb8, 1).Run(CpuProfile.DefaultIntel).Only().Cr2);
        Assert.Equal(0UL, jump.With(0xffff_fffe, 0xb0, 1).Run().Only().Registers.Rip);
    }

    /// <summary>On AMD 0f 78 has two immediate bytes with and without a prefix, which are fetched before it is refused.</summary>
    [Fact]
    public void ExtractEncodingsHaveTwoImmediateBytes()
    {
        Assert.Equal((ulong?)End, Case("0f 78 c0").Run().Only().Cr2);
        Assert.Equal((ulong?)End, Case("66 0f 78 c0 00").Run().Only().Cr2);
        Assert.Equal((ulong?)End, Case("c5 f8 78 c0 00").Run().Only().Cr2);
        Assert.Equal((byte)6, Case("0f 78 c0 00 00").Run().Only().Vector);
        Assert.Equal((byte)6, Case("0f 78 c0").Run(CpuProfile.DefaultIntel).Only().Vector);
    }

    private static SegmentDescriptor Code64(int index) =>
        new(index, 0xb, System: false, 3, Present: true, Long: true, Big: false, Granular: true, Available: false, 0, uint.MaxValue);

    /// <summary>An indirect far transfer through a pointer at RBX.</summary>
    private static TestCase Pointer(string code, ushort selector, ulong offset, int width = 0)
    {
        width = width != 0 ? width : offset > uint.MaxValue ? 8 : 4;
        return Case(code, 0, (Register.Rbx, Data)).With(Data, [.. Words(width, offset), (byte)selector, (byte)(selector >> 8)]);
    }

    /// <summary>A return from a stack with RIP, CS, RFLAGS, RSP and SS.</summary>
    private static TestCase Frame(string code, ulong rip, ulong cs, ulong rflags = 0, ulong rsp = 0, ulong ss = 0, int width = 8) =>
        Case(code).With(Stack, Words(width, rip, cs, rflags, rsp, ss));

    private static byte[] Words(int width, params ReadOnlySpan<ulong> words)
    {
        byte[] bytes = new byte[width * words.Length];
        Span<byte> word = stackalloc byte[8];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(word, words[i]);
            word[..width].CopyTo(bytes.AsSpan(i * width));
        }

        return bytes;
    }

    /// <summary>With a 32-bit address the selector's address wraps by itself: ECX = fffffffd has its offset in the last three bytes below 4 GiB and one above, and its selector at 1.</summary>
    [Fact]
    public void TheSelectorOfAPointerWrapsAtTheAddressSize()
    {
        foreach (string code in (ReadOnlySpan<string>)["67 ff 29", "67 ff 19", "67 0f b2 01", "67 0f b4 01"])
        {
            Event only = Case(code, 0, (Register.Rcx, 0xffff_fffd)).Run().Only();
            Assert.Equal((code, (byte)14, (ulong?)1), (code, only.Vector, only.Cr2));
        }
    }
}
