using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Xunit.Abstractions;

namespace PvDiffFuzz.Conformance.Tests.Grids;

/// <summary>The model against the processor: every selector of the GDT, past its end and of the LDT, in every instruction that takes one, in both modes.</summary>
public sealed class SelectorGridTests(GridRunner runner, ITestOutputHelper output) : IClassFixture<GridRunner>
{
    /// <summary>Linux keeps the number of the processor in the limit of this descriptor, so LSL of it varies.</summary>
    private const int ProcessorNumber = 15;

    private static readonly ImmutableArray<ushort> Selectors =
    [
        .. Enumerable.Range(0, 0x90).Select(s => (ushort)s), 0xfff8, 0xfffb, 0xfffc, 0xffff, 0x8003, 0x1003,
    ];

    /// <summary>Code with the selector in AX, and where the selector is read from memory instead: at RBX, or on the stack above the address of the end of the code.</summary>
    private static readonly (string Name, string Code64, string Code32)[] Instructions =
    [
        ("MOV DS", "8e d8", "8e d8"), ("MOV ES", "8e c0", "8e c0"), ("MOV SS", "8e d0", "8e d0"), ("MOV FS", "8e e0", "8e e0"), ("MOV GS", "8e e8", "8e e8"),
        ("MOV CS", "8e c8", "8e c8"), ("POP FS", "0f a1", "0f a1"), ("POP GS", "0f a9", "0f a9"), ("POP DS", "1f", "1f"), ("POP SS", "17", "17"),
        ("LSS", "0f b2 0b", "0f b2 0b"), ("LFS", "0f b4 0b", "0f b4 0b"), ("LGS", "0f b5 0b", "0f b5 0b"), ("LES", "c4 0b", "c4 0b"), ("LDS", "c5 0b", "c5 0b"),
        ("LAR", "0f 02 c8", "0f 02 c8"), ("LAR 16", "66 0f 02 c8", "66 0f 02 c8"), ("LAR 64", "48 0f 02 c8", "0f 02 0b"), ("LSL", "0f 03 c8", "0f 03 c8"),
        ("VERR", "0f 00 e0", "0f 00 e0"), ("VERW", "0f 00 e8", "0f 00 e8"), ("ARPL", "63 c8", "63 c8"),
        ("JMP far", "ff 2b", "ff 2b"), ("CALL far", "ff 1b", "ff 1b"), ("JMP far 16", "66 ff 2b", "66 ff 2b"), ("RETF", "48 cb", "cb"), ("IRET", "48 cf", "cf"),
    ];

    public static TheoryData<string, CpuMode> Rows
    {
        get
        {
            TheoryData<string, CpuMode> rows = [];
            foreach ((string name, _, _) in Instructions)
            {
                rows.Add(name, CpuMode.Long64);
                rows.Add(name, CpuMode.Compatibility32);
            }

            return rows;
        }
    }

    [NativeTheory]
    [MemberData(nameof(Rows))]
    public void SelectorsAgree(string name, CpuMode mode)
    {
        (_, string code64, string code32) = Instructions.Single(i => i.Name == name);
        string code = mode == CpuMode.Long64 ? code64 : code32;
        TestCase[] cases = [.. Selectors.Where(s => name != "LSL" || s >> 3 != ProcessorNumber).Select(s => Point(code, mode, s))];

        ImmutableArray<Examination> examined = runner.Examine(cases);
        string[] failures =
        [
            .. examined.Where(e => e.Diverges && !e.Comparison.Consumed && !runner.IsKnown(e)).Select(e => string.Create(
                CultureInfo.InvariantCulture,
                $"  selector {e.Case.Registers[Register.Rax]:x}: {string.Join(", ", e.Comparison.Differences.Select(d => $"{d.Field}={string.Join('/', d.Values)}"))}")),
        ];

        int comparable = examined.Count(e => e.Comparison.Comparable == 2);
        output.WriteLine($"{name} in {mode}: {comparable} of {cases.Length} selectors compared");
        Assert.True(failures.Length == 0, $"{name} in {mode}: {failures.Length} of {cases.Length} selectors differ\n{string.Join('\n', failures.Take(10))}");
        Assert.True(comparable * 10 >= cases.Length * 9, $"{name} in {mode}: only {comparable} of {cases.Length} selectors have two outcomes");
    }

    private static TestCase Point(string code, CpuMode mode, ushort selector)
    {
        bool compatibility = mode == CpuMode.Compatibility32;
        const ulong end = AddressMap.LowBlock + AddressMap.CodeEnd;
        const ulong data = AddressMap.LowBlock + AddressMap.Data;
        const ulong stack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        GprFile gpr = default;
        gpr[(int)Register.Rax] = selector;
        gpr[(int)Register.Rcx] = 0x1111_1111;
        gpr[(int)Register.Rbx] = data;
        gpr[(int)Register.Rsp] = stack;
        bool pops = code.StartsWith("0f a", StringComparison.Ordinal) || code is "1f" or "17";

        // At RBX the end of the code and the selector, or for LAR the selector; on the stack what POP, RETF or IRET takes.
        bool plain = code == "0f 02 0b";
        byte[] pointer = plain ? BitConverter.GetBytes((ulong)selector) : [.. BitConverter.GetBytes(code.StartsWith("66 ff", StringComparison.Ordinal) ? (uint)end & 0xffff | ((uint)selector << 16) : (uint)end), .. BitConverter.GetBytes(selector)];
        byte[] frame = pops ? BitConverter.GetBytes((ulong)selector)
            : compatibility ? [.. BitConverter.GetBytes((uint)end), .. BitConverter.GetBytes((uint)selector), .. BitConverter.GetBytes(0x202U)]
            : [.. BitConverter.GetBytes(end), .. BitConverter.GetBytes((ulong)selector), .. BitConverter.GetBytes(0x202UL), .. BitConverter.GetBytes(stack), .. BitConverter.GetBytes((ulong)Core.Selectors.UserData)];
        ulong start = end - (uint)bytes.Length;
        TestCase testCase = new()
        {
            Code = new CodeBlock(start, [.. bytes], [(byte)bytes.Length]),
            Registers = new RegisterState
            {
                Gpr = gpr,
                Rip = start,
                Rflags = Payload.Flags,
                Cs = compatibility ? Core.Selectors.UserCode32 : Core.Selectors.UserCode64,
                Ds = Core.Selectors.UserData,
                Es = Core.Selectors.UserData,
            },
            Layout = AddressMap.Standard,
            Contents = [new MemoryContents(data, [.. pointer]), new MemoryContents(stack, [.. frame])],
        };
        Assert.Null(testCase.Check());
        return testCase;
    }
}
