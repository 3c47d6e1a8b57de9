using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;
using MemoryOperand = PvDiffFuzz.Isa.MemoryOperand;
using Register = PvDiffFuzz.Core.Register;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Conformance.Tests.Forms;

/// <summary>Every form of the catalogue runs on the model, on processors with everything and with nothing, or is in the list of gaps.</summary>
public sealed class EveryFormTests
{
    private static readonly ImmutableSortedSet<string> Everything =
        CpuProfile.DefaultAmd.Features.Union(Enum.GetNames<CpuidFeature>()).Union(["FXSR", "OSXSAVE", "AM"]).Remove("UMIP");

    private static readonly CpuProfile Stated = CpuProfile.DefaultAmd with
    {
        Features = Everything,
        Readings = Enum.GetValues<Reading>().ToImmutableSortedDictionary(r => r, _ => 1UL),
        Cpuid = [new CpuidLeaf(0, null, 0, 0, 0, 0)],
    };

    /// <summary>The processors: each vendor with every feature, with what is usual, and with no optional one.</summary>
    private static ImmutableArray<(string Name, CpuProfile Profile)> Processors { get; } =
    [
        ("AMD with everything", Stated),
        ("Intel with everything", Stated with { Vendor = CpuVendor.Intel, Family = 6 }),
        ("AMD", CpuProfile.DefaultAmd with { Readings = Stated.Readings, Cpuid = Stated.Cpuid }),
        ("Intel", CpuProfile.DefaultIntel with { Readings = Stated.Readings, Cpuid = Stated.Cpuid }),
        ("bare AMD", Stated with { Features = ["UMIP"] }),
        ("bare Intel", Stated with { Vendor = CpuVendor.Intel, Family = 6, Features = ["UMIP"] }),
    ];

    public static TheoryData<string, CpuMode> Rows
    {
        get
        {
            TheoryData<string, CpuMode> rows = [];
            foreach ((string name, _) in Processors)
            {
                rows.Add(name, CpuMode.Long64);
                rows.Add(name, CpuMode.Compatibility32);
            }

            return rows;
        }
    }

    /// <summary>Each form with a register and with a memory operand has an outcome that can be compared, unless it is a gap of this mode.</summary>
    [Theory]
    [MemberData(nameof(Rows))]
    public void EveryFormHasAnOutcomeOrIsAGap(string processor, CpuMode mode)
    {
        CpuProfile profile = Processors.Single(p => p.Name == processor).Profile;
        using X86Model model = new(profile);
        List<string> wrong = [];
        ImmutableArray<FormTemplate> templates = InstructionForms.Templates(mode);
        foreach (FormTemplate template in templates)
        {
            ModelGap? gap = ModelGaps.Find(template.Code.ToString(), mode);
            bool excused = gap is not null && (gap.Vendor is null || gap.Vendor == profile.Vendor);
            foreach (bool memory in template.RmField == RmField.Either ? [false, true] : (ReadOnlySpan<bool>)[template.RmField == RmField.Memory])
            {
                Outcome outcome = model.Run(Point(template, memory, profile.Has("PKU") ? 0 : null));
                if (outcome.End == EndKind.Unsupported && !excused)
                {
                    wrong.Add($"{template.Code}{(memory ? " (memory)" : "")}: {outcome.Detail}");
                }
            }
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} of {templates.Length} forms on {processor} in {mode}:\n{string.Join('\n', wrong.Take(20))}");
        Assert.True(templates.Length > 850, $"only {templates.Length} forms");
    }

    /// <summary>Without any optional feature, a form that needs one is #UD or was a no-operation before it got its name; nothing else happens.</summary>
    [Theory]
    [InlineData(CpuMode.Long64)]
    [InlineData(CpuMode.Compatibility32)]
    public void FormsWithoutTheirFeatureAreUndefined(CpuMode mode)
    {
        // Prefixes that older processors ignore (LZCNT is BSR, TZCNT is BSF, WBNOINVD is WBINVD) and opcodes that were reserved for no-operations.
        HashSet<Mnemonic> older =
        [
            Mnemonic.Lzcnt, Mnemonic.Tzcnt, Mnemonic.Wbnoinvd, Mnemonic.Endbr32, Mnemonic.Endbr64, Mnemonic.Rdsspd, Mnemonic.Rdsspq, Mnemonic.Cldemote, Mnemonic.Prefetch,
            Mnemonic.Prefetchw, Mnemonic.Prefetchwt1, Mnemonic.Prefetchit0, Mnemonic.Prefetchit1,
        ];
        using X86Model model = new(Processors.Single(p => p.Name == "bare AMD").Profile);
        HashSet<string> always = ["INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64", "CPUID", "TSC", "MSR", "CX8", "CMOV", "SYSCALL", "MULTIBYTENOP", "PAUSE", "RDPMC"];
        int undefined = 0;
        List<string> wrong = [];
        foreach (FormTemplate template in InstructionForms.Templates(mode).Where(t => !t.Features.All(always.Contains) && !t.Features.Any(f => f.Contains("_or_", StringComparison.Ordinal))))
        {
            Event only = model.Run(Point(template, template.RmField == RmField.Memory, pkru: null)).Events[0];
            undefined += only.Vector == 6 ? 1 : 0;
            if (only.Vector != 6 && !older.Contains(template.Code.Mnemonic()))
            {
                wrong.Add($"{template.Code} [{string.Join(' ', template.Features)}]: {only.Vector}");
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
        Assert.True(undefined >= 150, $"only {undefined} forms were undefined");
    }

    /// <summary>Every countable form is modelled or a gap, not both and not neither; gaps are under 3 % of each mode.</summary>
    [Theory]
    [InlineData(CpuMode.Long64, 1073)]
    [InlineData(CpuMode.Compatibility32, 884)]
    public void TheGapsAreFew(CpuMode mode, int forms)
    {
        ImmutableArray<InstructionForm> countable = InstructionForms.Countable(mode);
        string[] gaps = [.. countable.Select(f => f.Code.ToString()).Where(name => ModelGaps.Find(name, mode) is not null)];
        string[] missing = [.. countable.Select(f => f.Code.ToString()).Except(gaps, StringComparer.Ordinal).Where(name => !X86Model.ModelledForms.Contains(name))];

        Assert.Equal([], missing);
        Assert.Equal(forms, countable.Length);
        Assert.True(gaps.Length * 100 < forms * 3, $"{gaps.Length} of {forms} forms are gaps: {string.Join(' ', gaps)}");

        // A gap whose forms all are served is none, unless it is one of a vendor's.
        Assert.Equal([], gaps.Where(name => X86Model.ModelledForms.Contains(name) && ModelGaps.Find(name, mode)!.Vendor is null));
    }

    private static TestCase Point(FormTemplate template, bool memory, uint? pkru)
    {
        OperandChoice choice = new()
        {
            Reg = template.RegField == RegField.Control ? (byte)0 : (byte)1,
            Rm = 3,
            OpcodeReg = 3,
            Vvvv = 6,
            IsMemory = memory,
            Memory = new MemoryOperand(7, MemoryOperand.None, 0, 0),
            Immediate = 0x11,
        };
        Span<byte> bytes = stackalloc byte[TemplateEncoder.MaximumLength];
        int length = TemplateEncoder.Encode(template, in choice, bytes, out _);
        bool compatibility = template.Mode == CpuMode.Compatibility32;

        // Amid the code, so that no decoder runs over the end of it; the zeros after it fault.
        ulong start = AddressMap.LowBlock + AddressMap.Code + PageLayout.PageSize;
        GprFile gpr = default;
        gpr[(int)Register.Rsp] = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        gpr[(int)Register.Rdi] = AddressMap.LowBlock + AddressMap.Data;
        return new TestCase
        {
            Code = new CodeBlock(start, ImmutableArray.Create<byte>(bytes[..length]), [(byte)length]),
            Registers = new RegisterState
            {
                Gpr = gpr,
                Rip = start,
                Rflags = RflagsBits.Fixed1 | RflagsBits.IF,
                Cs = compatibility ? Selectors.UserCode32 : Selectors.UserCode64,
                Ds = compatibility ? Selectors.UserData : (ushort)0,
                Es = compatibility ? Selectors.UserData : (ushort)0,
                Pkru = pkru,
            },
            Layout = AddressMap.Standard,
            Limits = new CaseLimits(100),
        };
    }
}
