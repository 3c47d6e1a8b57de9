using System.Collections.Immutable;
using System.Globalization;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using Xunit.Abstractions;
using MemoryOperand = PvDiffFuzz.Isa.MemoryOperand;
using Register = PvDiffFuzz.Core.Register;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Conformance.Tests.Grids;

/// <summary>The model against the processor: every form over edge values, both carries, and combinations of the other status flags.</summary>
public sealed class GridTests(GridRunner runner, ITestOutputHelper output) : IClassFixture<GridRunner>
{
    private static readonly ImmutableArray<ulong> Edges =
    [
        0, 1, 2, 0x1f, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
        0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0xffff_ffff_ffff_ffff, 0x0123_4567_89ab_cdef,
    ];

    private static readonly ImmutableArray<ulong> FewEdges = [0, 1, 0x21, 0x80, 0x7fff, 0x8000_0000, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

    public static TheoryData<Code> RegisterForms => [.. GridForms.Registers(CpuMode.Long64).Select(t => t.Code)];

    public static TheoryData<Code> MemoryForms => [.. GridForms.Memory(CpuMode.Long64).Select(t => t.Code)];

    public static TheoryData<Code> CompatibilityRegisterForms => [.. GridForms.Registers(CpuMode.Compatibility32).Select(t => t.Code)];

    public static TheoryData<Code> CompatibilityMemoryForms => [.. GridForms.Memory(CpuMode.Compatibility32).Select(t => t.Code)];

    /// <summary>The tables offer the forms that the rows are meant to cover.</summary>
    [Fact]
    public void TheGridsCoverTheIntegerForms()
    {
        (CpuMode Mode, int Registers, int Memory)[] fewest = [(CpuMode.Long64, 300, 250), (CpuMode.Compatibility32, 250, 180)];
        foreach ((CpuMode mode, int registers, int memory) in fewest)
        {
            Assert.True(GridForms.Registers(mode).Length >= registers, $"{GridForms.Registers(mode).Length} register forms in {mode}");
            Assert.True(GridForms.Memory(mode).Length >= memory, $"{GridForms.Memory(mode).Length} memory forms in {mode}");
        }
    }

    [NativeTheory]
    [MemberData(nameof(RegisterForms))]
    public void RegisterFormsAgree(Code form) => Agree(form, CpuMode.Long64, memory: false, Edges);

    [NativeTheory]
    [MemberData(nameof(MemoryForms))]
    public void MemoryFormsAgree(Code form) => Agree(form, CpuMode.Long64, memory: true, FewEdges);

    [NativeTheory]
    [MemberData(nameof(CompatibilityRegisterForms))]
    public void RegisterFormsAgreeInCompatibilityMode(Code form) => Agree(form, CpuMode.Compatibility32, memory: false, Narrow(Edges));

    [NativeTheory]
    [MemberData(nameof(CompatibilityMemoryForms))]
    public void MemoryFormsAgreeInCompatibilityMode(Code form) => Agree(form, CpuMode.Compatibility32, memory: true, Narrow(FewEdges));

    /// <summary>The edges that fit 32 bits.</summary>
    private static ImmutableArray<ulong> Narrow(ImmutableArray<ulong> edges) => [.. edges.Where(e => e <= uint.MaxValue)];

    private void Agree(Code form, CpuMode mode, bool memory, ImmutableArray<ulong> edges)
    {
        FormTemplate template = InstructionForms.Template(form, mode)!;
        List<TestCase> cases = [];
        for (int i = 0; i < edges.Length; i++)
        {
            for (int j = 0; j < edges.Length; j++)
            {
                // The other flags run through their combinations, so that every condition is met with every value.
                ulong others = Spread((uint)((i * 7) + (j * 11)));
                cases.Add(Point(template, memory, edges[i], edges[j], others));
                cases.Add(Point(template, memory, edges[i], edges[j], others | RflagsBits.CF));
            }
        }

        ImmutableArray<Examination> examined = runner.Examine(cases.ToArray());
        int known = 0;
        List<string> failures = [];
        foreach (Examination examination in examined.Where(e => e.Diverges && !e.Comparison.Consumed))
        {
            if (runner.IsKnown(examination))
            {
                known++;
            }
            else
            {
                failures.Add(Explain(examination));
            }
        }

        int comparable = examined.Count(e => e.Comparison.Comparable == 2);
        output.WriteLine($"{form}: {comparable} of {cases.Count} points compared, {known} known divergences");
        Assert.True(failures.Count == 0, $"{form}: {failures.Count} of {cases.Count} points differ\n{string.Join('\n', failures.Take(8))}");
        Assert.True(comparable >= cases.Count * 9 / 10, $"{form}: only {comparable} of {cases.Count} points have two outcomes: {Why(examined)}");
        Assert.True(known * 2 <= cases.Count, $"{form}: {known} of {cases.Count} points are known divergences, which leaves too little");
    }

    /// <summary>RM is RBX or [RDI], REG is RCX, VVVV is RSI; RAX and RDX serve the implicit operands.</summary>
    private static TestCase Point(FormTemplate template, bool memory, ulong a, ulong b, ulong flags)
    {
        OperandChoice choice = new()
        {
            Reg = 1,
            Rm = 3,
            OpcodeReg = 3,
            Vvvv = 6,
            IsMemory = memory,
            Memory = new MemoryOperand(7, MemoryOperand.None, 0, 0),
            Immediate = b,
        };
        Span<byte> bytes = stackalloc byte[TemplateEncoder.MaximumLength];
        int length = TemplateEncoder.Encode(template, in choice, bytes, out _);
        bool compatibility = template.Mode == CpuMode.Compatibility32;
        ulong block = compatibility ? AddressMap.LowBlock : AddressMap.HighBlock;
        ulong start = block + AddressMap.CodeEnd - (uint)length;
        GprFile gpr = default;
        gpr[(int)Register.Rax] = template.Family == Family.Multiply ? b : a;
        gpr[(int)Register.Rcx] = b;
        gpr[(int)Register.Rdx] = template.Family == Family.Multiply ? ((flags & RflagsBits.CF) == 0 ? 0 : compatibility ? (uint)((int)b >> 31) : (ulong)((long)b >> 63)) : a ^ b;
        gpr[(int)Register.Rbx] = a;
        gpr[(int)Register.Rsp] = block + AddressMap.Stack + 0x1000;
        gpr[(int)Register.Rsi] = b;
        gpr[(int)Register.Rdi] = block + AddressMap.Data;
        return new TestCase
        {
            Code = new CodeBlock(start, ImmutableArray.Create<byte>(bytes[..length]), [(byte)length]),
            Registers = new RegisterState
            {
                Gpr = gpr,
                Rip = start,
                Rflags = Payload.Flags | flags,
                Cs = compatibility ? Selectors.UserCode32 : Selectors.UserCode64,
                Ds = compatibility ? Selectors.UserData : (ushort)0,
                Es = compatibility ? Selectors.UserData : (ushort)0,
            },
            Layout = AddressMap.Standard,
            Contents = memory ? [new MemoryContents(block + AddressMap.Data, [.. BitConverter.GetBytes(a)])] : [],
        };
    }

    private static ulong Spread(uint number) =>
        ((number & 1) == 0 ? 0 : RflagsBits.PF) | ((number & 2) == 0 ? 0 : RflagsBits.AF) | ((number & 4) == 0 ? 0 : RflagsBits.ZF)
        | ((number & 8) == 0 ? 0 : RflagsBits.SF) | ((number & 16) == 0 ? 0 : RflagsBits.OF);

    private static string Explain(Examination examination)
    {
        TestCase point = examination.Case;
        string fields = string.Join(", ", examination.Comparison.Differences.Select(d => $"{d.Field}={string.Join('/', d.Values)}"));
        return string.Create(
            CultureInfo.InvariantCulture,
            $"  {Convert.ToHexString(point.Code.Bytes.AsSpan())} a={point.Registers[Register.Rbx]:x} b={point.Registers[Register.Rcx]:x} rflags={point.Registers.Rflags:x}: {fields}");
    }

    private static string Why(ImmutableArray<Examination> examined) =>
        string.Join("; ", examined.SelectMany(e => e.Outcomes).Where(o => !o.Comparable).Select(o => $"{o.End} {o.Detail}").Distinct(StringComparer.Ordinal).Take(3));
}
