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

    /// <summary>Distinct cases of sixteen random instructions of twelve plain kinds, which run to the end: ALU of three widths, loads, stores, shifts, multiplication, CMOV.</summary>
    public static TestCase[] Plain(int count)
    {
        Random random = new(1);
        TestCase[] cases = new TestCase[count];
        for (int i = 0; i < count; i++)
        {
            byte[] code = [.. Enumerable.Range(0, 16).SelectMany(_ => PlainInstruction(random))];
            ulong start = AddressMap.HighBlock + AddressMap.CodeEnd - (ulong)code.Length;
            RegisterState registers = new() { Gpr = default, Rip = start, Rflags = RflagsBits.Fixed1 | RflagsBits.IF };
            for (Register register = Register.Rax; register <= Register.R15; register++)
            {
                registers = registers.With(register, (ulong)random.NextInt64());
            }

            cases[i] = new TestCase
            {
                Code = new CodeBlock(start, [.. code], CodeSplitter.Split(code, CpuMode.Long64)),
                Registers = registers
                    .With(Register.Rsi, AddressMap.HighBlock + AddressMap.Data + 0x1000)
                    .With(Register.Rdi, AddressMap.HighBlock + AddressMap.Data + 0x1000),
                Layout = AddressMap.Standard,
            };
        }

        return cases;
    }

    /// <summary>Operands are any registers but RSI and RDI, which point at data.</summary>
    private static byte[] PlainInstruction(Random random)
    {
        byte first = Operand(random);
        byte second = Operand(random);
        byte rex = (byte)(0x48 | ((second >> 3) << 2) | (first >> 3));
        byte registers = (byte)(0xc0 | ((second & 7) << 3) | (first & 7));
        byte offset = (byte)random.Next(0, 256);
        byte reg = (byte)((second & 7) << 3);
        return random.Next(12) switch
        {
            0 => [rex, 0x01, registers],                                                        // add r64,r64
            1 => [(byte)(rex & ~8), 0x31, registers],                                           // xor r32,r32
            2 => [rex, 0x28, registers],                                                        // sub r8,r8
            3 => [rex, 0x11, registers],                                                        // adc r64,r64
            4 => [rex, 0x81, (byte)(0xe0 | (first & 7)), offset, second, first, 0x7f],          // and r64,imm32
            5 => [(byte)(rex & ~1), 0x8b, (byte)(0x46 | reg), offset],                          // mov r64,[rsi+disp8]
            6 => [(byte)(rex & ~1), 0x89, (byte)(0x47 | reg), offset],                          // mov [rdi+disp8],r64
            7 => [(byte)(rex & ~1), 0x03, (byte)(0x46 | reg), offset],                          // add r64,[rsi+disp8]
            8 => [rex, 0xc1, (byte)(0xe0 | (first & 7)), (byte)(offset & 63)],                  // shl r64,imm8
            9 => [(byte)(0x48 | ((first >> 3) << 2) | (second >> 3)), 0x0f, 0xaf, (byte)(0xc0 | ((first & 7) << 3) | (second & 7))], // imul r64,r64
            10 => [(byte)(0x48 | ((first >> 3) << 2) | (second >> 3)), 0x0f, 0x42, (byte)(0xc0 | ((first & 7) << 3) | (second & 7))], // cmovb r64,r64
            _ => [(byte)(rex & ~1), 0x8d, (byte)(0x46 | reg), offset],                    // lea r64,[rsi+disp8]
        };
    }

    private static byte Operand(Random random)
    {
        byte register = (byte)random.Next(14);
        return register < 6 ? register : (byte)(register + 2);
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
