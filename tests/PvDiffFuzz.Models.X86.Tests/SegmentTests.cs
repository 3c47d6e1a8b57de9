using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about segment registers and selectors.</summary>
public sealed class SegmentTests
{
    /// <summary>Loads that fault, with the selector without RPL as error code.</summary>
    [Fact]
    public void SelectorChecksRaiseTheirErrors()
    {
        (string Code, ulong Selector, byte Vector, uint? Error)[] rows =
        [
            ("8e d8", 0x10, 13, 0x10), ("8e d8", 7, 13, 4), ("8e d8", 0xfff8, 13, 0xfff8), ("8e e0", 0x7b, 13, 0x78), ("8e d0", 0x28, 13, 0x28),
            ("8e d0", 0x33, 13, 0x30), ("8e d0", 3, 13, 0), ("8e c8", 0x33, 6, null),
        ];
        List<string> wrong = [];
        foreach ((string code, ulong selector, byte vector, uint? error) in rows)
        {
            Event fault = Case(code, 0, (Register.Rax, selector)).Run().Only();
            if (fault.Vector != vector || fault.ErrorCode != error || fault.Registers.Ds != 0 || fault.Registers.Ss != Selectors.UserData)
            {
                wrong.Add($"{code} {selector:x}: {fault.Vector} {fault.ErrorCode:x}");
            }
        }

        Assert.Empty(wrong);
    }

    /// <summary>MOV SS shades the next instruction: under TF the first trap comes after the NOP, not after the MOV.</summary>
    [Fact]
    public void MoveToSsDelaysTheSingleStep()
    {
        TestCase testCase = Case("8e d0 90 90", TF, (Register.Rax, Selectors.UserData)) with { Responses = [new Response([])] };

        Assert.Equal([End - 1, End], testCase.Run().Events.Select(e => e.Registers.Rip));
    }

    /// <summary>Loading FS takes the descriptor's base, and so does a null selector on Intel and on Zen, but not on older AMD processors.</summary>
    [Fact]
    public void LoadingFsSetsItsBase()
    {
        TestCase flat = Case("8e e0", 0, (Register.Rax, Selectors.UserData), (Register.FsBase, 0x1000));
        TestCase none = Case("8e e0", 0, (Register.FsBase, 0x1000), (Register.Fs, Selectors.UserData));

        Assert.Equal((0UL, Selectors.UserData), (flat.RunToEnd().FsBase, flat.RunToEnd().Fs));
        Assert.Equal(0UL, none.RunToEnd().FsBase);
        Assert.Equal(0x1000UL, none.RunToEnd(CpuProfile.DefaultAmd with { Family = 21 }).FsBase);
    }

    /// <summary>LAR of 0x33 gives affb00, LSL all ones; an invisible selector clears ZF and keeps the register.</summary>
    [Fact]
    public void InspectionFollowsTheDescriptors()
    {
        RegisterState rights = Case("0f 02 cb", 0, (Register.Rbx, 0x33)).RunToEnd();
        Assert.Equal((0xaf_fb00UL, ZF), (rights[Register.Rcx], rights.Status()));
        Assert.Equal(0xffff_ffffUL, Case("0f 03 cb", 0, (Register.Rbx, 0x33)).RunToEnd()[Register.Rcx]);
        RegisterState hidden = Case("0f 02 cb", ZF, (Register.Rbx, 0x10), (Register.Rcx, 9)).RunToEnd();
        Assert.Equal((9UL, 0UL), (hidden[Register.Rcx], hidden.Status()));
        Assert.Equal(ZF, Case("0f 00 e3", 0, (Register.Rbx, 0x33)).RunToEnd().Status());
        Assert.Equal(0UL, Case("0f 00 eb", ZF, (Register.Rbx, 0x33)).RunToEnd().Status());
        Assert.Equal(ZF, Case("0f 00 eb", 0, (Register.Rbx, 0x2b)).RunToEnd().Status());
    }

    /// <summary>Stores are 16 bits to memory; PUSH FS is a zero-extended quadword; PUSH DS of 32 bits stores two bytes on Intel.</summary>
    [Fact]
    public void StoresHaveTheirWidths()
    {
        byte[] ones = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        Assert.Equal(0xffff_ffff_ffff_002bUL, Assert.Single(Case("48 8c 13", 0, (Register.Rbx, Data)).With(Data, ones).Run().Memory).Value);
        Assert.Equal(0UL, Assert.Single(Case("0f a0").With(Stack - 8, ones).Run().Memory).Value);
        TestCase push = Case(CpuMode.Compatibility32, "1e").With(Stack - 8, ones);
        Assert.Equal(0x0000_002b_ffff_ffffUL, Assert.Single(push.Run().Memory).Value);
        Assert.Equal(0xffff_002b_ffff_ffffUL, Assert.Single(push.Run(CpuProfile.DefaultIntel).Memory).Value);
    }

    /// <summary>ARPL raises RPL 0 to 3 and sets ZF; a null DS in compatibility mode makes accesses #GP(0).</summary>
    [Fact]
    public void CompatibilityModeSelectors()
    {
        RegisterState end = Case(CpuMode.Compatibility32, "63 cb", 0, (Register.Rbx, 0x10), (Register.Rcx, 3)).RunToEnd();
        Assert.Equal((0x13UL, ZF), (end[Register.Rbx], end.Status()));
        Assert.Equal((byte)13, Case(CpuMode.Compatibility32, "8e d8 8b 03", 0, (Register.Rbx, Data)).Run().Only().Vector);
    }

    /// <summary>Every type, privilege and presence of a descriptor, with every RPL: what LAR, LSL, VERR, VERW and loads of DS and SS make of it, by the manual's own words.</summary>
    [Fact]
    public void EveryKindOfDescriptorIsJudged()
    {
        List<string> wrong = [];
        int cases = 0;
        for (int kind = 0; kind < 256; kind++)
        {
            (byte type, bool system, byte dpl, bool present) = ((byte)(kind & 15), (kind & 16) != 0, (byte)((kind >> 5) & 3), (kind & 128) != 0);
            SegmentDescriptor descriptor = new(9, type, system, dpl, present, Long: false, Big: true, Granular: true, Available: true, 0, uint.MaxValue);
            CpuProfile profile = CpuProfile.DefaultAmd with { Descriptors = [.. CpuProfile.DefaultDescriptors, descriptor] };
            using X86Model model = new(profile);
            for (int rpl = 0; rpl < 4; rpl++)
            {
                ulong selector = (9 << 3) + (ulong)rpl;
                bool code = !system && (type & 8) != 0;
                bool conforming = code && (type & 4) != 0;
                bool open = conforming || dpl == 3;
                bool readable = !system && (!code || (type & 2) != 0);
                bool writable = !system && !code && (type & 2) != 0;

                // An LDT, a TSS (available or busy) and, for LAR only, a call gate.
                bool table = system && type is 2 or 9 or 11;
                bool gate = system && type == 12;
                (string Name, string Code, bool Expected)[] inspections =
                [
                    ("LAR", "0f 02 d8", open && (!system || table || gate)), ("LSL", "0f 03 d8", open && (!system || table)),
                    ("VERR", "0f 00 e0", open && readable), ("VERW", "0f 00 e8", open && writable),
                ];
                foreach ((string name, string bytes, bool expected) in inspections)
                {
                    cases++;
                    bool found = model.Run(Case(bytes, 0, (Register.Rax, selector))).Registers!.Status() == ZF;
                    if (found != expected)
                    {
                        wrong.Add($"{name} type {type:x} system {system} dpl {dpl} rpl {rpl}: {found}");
                    }
                }

                // Loads: #GP with the selector for what is no such segment or not open; then #NP, for SS #SS, where it is not present.
                bool data = open && readable;
                bool stack = writable && dpl == 3 && rpl == 3;
                foreach ((string bytes, bool fits, byte absent) in ((string, bool, byte)[])[("8e d8", data, 11), ("8e d0", stack, 12)])
                {
                    cases++;
                    Event only = model.Run(Case(bytes, 0, (Register.Rax, selector))).Only();
                    byte vector = !fits ? (byte)13 : !present ? absent : (byte)14;
                    uint error = vector == 14 ? only.ErrorCode!.Value : 9 << 3;
                    if (only.Vector != vector || only.ErrorCode != error)
                    {
                        wrong.Add($"{bytes} type {type:x} system {system} dpl {dpl} present {present} rpl {rpl}: {only.Vector} {only.ErrorCode:x}");
                    }
                }
            }
        }

        Probe.AssertNone(wrong, cases);
    }
}
