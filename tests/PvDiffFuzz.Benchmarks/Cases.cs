using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Benchmarks;

/// <summary>The cases that are measured.</summary>
internal static class Cases
{
    /// <summary>Exactly sixteen instructions, otherwise the default mix.</summary>
    public static GeneratorOptions Mixed { get; } = new() { MinimumInstructions = 16, MaximumInstructions = 16 };

    /// <summary>Sixteen instructions that nearly always run to the end.</summary>
    public static GeneratorOptions Straight { get; } = Mixed with
    {
        Weights = GeneratorOptions.DefaultWeights.RemoveRange([Family.Entry, Family.Privileged, Family.Segment, Family.Branch, Family.Misc, Family.String]),
        RawPercent = 0,
        ResponsePercent = 0,
        FinalEntryPercent = 0,
        FaultingOperandPermille = 0,
        PrefixPermille = 0,
    };

    /// <summary>The processor at hand, or the default one.</summary>
    public static CpuProfile Profile { get; } = NativeTarget.Probe() is null ? HostProfile.Probe() : CpuProfile.DefaultAmd;

    /// <summary>Distinct generated cases.</summary>
    public static TestCase[] Generated(GeneratorOptions options, int count)
    {
        Generator generator = new(options, Profile);
        return [.. Enumerable.Range(0, count).Select(i => generator.Generate(1, (ulong)i))];
    }

    /// <summary>Distinct cases: fifteen increments of registers and a last instruction.</summary>
    public static TestCase[] Increments(string last, int count)
    {
        byte[] code = Convert.FromHexString("48ffc048ffc148ffc248ffc348ffc548ffc648ffc749ffc049ffc149ffc249ffc349ffc449ffc549ffc649ffc7" + last);
        ulong start = AddressMap.HighBlock + AddressMap.CodeEnd - (ulong)code.Length;
        CodeBlock block = new(start, [.. code], CodeSplitter.Split(code, CpuMode.Long64));
        TestCase[] cases = new TestCase[count];
        for (int i = 0; i < count; i++)
        {
            RegisterState registers = new() { Gpr = default, Rip = start, Rflags = RflagsBits.Fixed1 | RflagsBits.IF };
            cases[i] = new TestCase
            {
                Code = block,
                Registers = registers.With(Register.Rax, (ulong)i).With(Register.Rsp, AddressMap.HighBlock + AddressMap.Stack + 0x1000),
                Layout = AddressMap.Standard,
            };
        }

        return cases;
    }

    /// <summary>A case with a breakpoint on its last instruction.</summary>
    public static TestCase Armed(TestCase testCase) =>
        testCase with { Registers = testCase.Registers.With(Register.Dr0, testCase.Code.End - 1).With(Register.Dr7, 0x401) };
}
