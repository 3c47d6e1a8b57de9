using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Tests;
using Decoder = Iced.Intel.Decoder;
using Flags = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Tests.Generate;

public sealed class DistributionTests
{
    private static readonly CpuProfile Profile = CpuProfile.DefaultAmd;

    /// <summary>Every form that the processor has appears within 60,000 cases, but for the excluded ones and CLWB, which is an excluded one behind a prefix.</summary>
    [Theory]
    [InlineData(CpuMode.Long64)]
    [InlineData(CpuMode.Compatibility32)]
    public void EveryFormOfTheProcessorAppears(CpuMode mode)
    {
        GeneratorOptions options = new() { CompatibilityPercent = mode == CpuMode.Long64 ? 0 : 100, RawPercent = 0 };
        HashSet<Code> seen = [];
        foreach (TestCase testCase in Cases(options, 60_000))
        {
            foreach (Instruction instruction in Decode(testCase))
            {
                seen.Add(instruction.Code);
            }
        }

        string[] missing =
        [
            .. InstructionForms.Templates(mode)
                .Where(t => t.Features.All(f => f.StartsWith("INTEL", StringComparison.Ordinal) || f is "X64" || Profile.Has(f)))
                .Where(t => Exclusions.Find(t.Code, mode, Profile) is null && t.Code.Mnemonic() is not (Mnemonic.Reservednop or Mnemonic.Clwb) && !seen.Contains(t.Code))
                .Select(t => t.Code.ToString()),
        ];
        Assert.True(missing.Length == 0, string.Join(' ', missing));
        Assert.Equal(Enum.GetValues<Family>().Except([Family.Misc]), seen.Select(c => InstructionForms.Find(c)!.Family).Distinct().Except([Family.Misc]).Order());
    }

    /// <summary>A family that is the only one with a weight is the only one that appears, but for the moves of set-ups and LOOP.</summary>
    [Fact]
    public void WeightsSelectFamilies()
    {
        GeneratorOptions options = new()
        {
            Weights = ImmutableSortedDictionary<Family, int>.Empty.Add(Family.Logic, 1),
            RawPercent = 0,
            PrefixPermille = 0,
        };
        Family[] families = [.. Cases(options, 500).SelectMany(Decode).Select(i => InstructionForms.Find(i.Code)!.Family).Distinct().Order()];
        Assert.Equal([Family.Logic, Family.Move, Family.Branch], families);
    }

    /// <summary>Lengths keep to the options but for set-up instructions.</summary>
    [Fact]
    public void LengthsKeepToTheOptions()
    {
        GeneratorOptions options = new() { MinimumInstructions = 3, MaximumInstructions = 5, RawPercent = 0 };
        int[] lengths = [.. Cases(options, 2000).Select(c => c.Code.Lengths.Length)];
        Assert.All(lengths, l => Assert.InRange(l, 3, 16));
        Assert.True(lengths.Count(l => l <= 6) > 1200, "set-up instructions dominate");
    }

    /// <summary>Legal, redundant, repeated, misplaced and illegal prefixes, and instructions at and past the limit of 15 bytes.</summary>
    [Fact]
    public void EveryPrefixClassAppears()
    {
        Dictionary<string, int> counts = [];
        foreach (TestCase testCase in Cases(new GeneratorOptions { RawPercent = 0 }, 20_000))
        {
            int at = 0;
            foreach (byte length in testCase.Code.Lengths)
            {
                Count(testCase.Code.Bytes.AsSpan().Slice(at, length), counts);
                at += length;
            }
        }

        string[] classes = ["66", "67", "fs", "gs", "ignored segment", "lock legal", "lock illegal", "rep string", "rep other", "repeated", "rex not last", "length 15", "over-long"];
        Assert.All(classes, c => Assert.True(counts.GetValueOrDefault(c) >= 20, $"{c}: {counts.GetValueOrDefault(c)}"));
        Assert.True(counts["over-long"] < 20_000 / 10, "over-long instructions are too frequent");
    }

    /// <summary>Each place that operands are aimed at is hit by some address that the initial registers give.</summary>
    [Fact]
    public void EveryAddressClassAppears()
    {
        Dictionary<string, int> counts = [];
        foreach (TestCase testCase in Cases(new GeneratorOptions { RawPercent = 0, PrefixPermille = 0 }, 20_000))
        {
            // The first instruction sees the initial registers, so that its address can be computed here.
            Instruction first = Decode(testCase).FirstOrDefault();
            if (first.IP == testCase.Code.Address && AddressOf(in first, testCase) is { } address)
            {
                string name = ClassOf(address, Math.Max(1, first.MemorySize.GetSize()));
                counts[name] = counts.GetValueOrDefault(name) + 1;
            }
        }

        string[] classes =
        [
            "data", "split data", "writable, then read-only", "read-only, then writable", "writable code", "stack", "2 GiB", "4 GiB", "lowest", "highest", "not present", "into a guard page",
            "non-canonical", "kernel half",
        ];
        Assert.All(classes, c => Assert.True(counts.GetValueOrDefault(c) >= 3, $"{c}: {counts.GetValueOrDefault(c)}"));
        int good = counts["data"] + counts["split data"];
        Assert.True(good * 2 > counts.Values.Sum(), "most operands should be valid");
    }

    /// <summary>Initial flags: TF, RF, NT, AC and ID now and then, DF more often, status flags evenly.</summary>
    [Fact]
    public void EveryFlagAppears()
    {
        ulong[] flags = [.. Cases(new GeneratorOptions(), 10_000).Select(c => c.Registers.Rflags)];
        Assert.All([Flags.TF, Flags.RF, Flags.NT, Flags.AC, Flags.ID, Flags.DF], f => Assert.InRange(flags.Count(v => (v & f) != 0), 50, 2000));
        Assert.All([Flags.CF, Flags.PF, Flags.AF, Flags.ZF, Flags.SF, Flags.OF], f => Assert.InRange(flags.Count(v => (v & f) != 0), 4500, 5500));
    }

    /// <summary>Contents stay small, and both blocks, responses and raw cases appear.</summary>
    [Fact]
    public void CasesAreSmallAndVaried()
    {
        TestCase[] cases = [.. Cases(new GeneratorOptions(), 10_000)];
        Assert.InRange(cases.Average(c => c.Contents.Sum(r => r.Bytes.Length)), 100, 512);
        Assert.InRange(cases.Count(c => c.Code.Address > uint.MaxValue), 4000, 6000);
        Assert.InRange(cases.Count(c => c.Responses.Length > 0), 300, 700);
    }

    /// <summary>Debug registers appear only when asked for.</summary>
    [Fact]
    public void DebugRegistersAreOptional()
    {
        Assert.All(Cases(new GeneratorOptions { DebugPermille = 0 }, 500), c => Assert.Null(c.Registers.Debug));
        Assert.All(Cases(new GeneratorOptions { DebugPermille = 1000 }, 500), c => Assert.NotNull(c.Registers.Debug));
    }

    /// <summary>Few cases read an undefined flag on the straight path: the generator defines it before.</summary>
    [Fact]
    public void UndefinedFlagsAreSeldomRead()
    {
        int consumed = 0;
        int undefined = 0;
        foreach (TestCase testCase in Cases(new GeneratorOptions { RawPercent = 0 }, 5000))
        {
            ImmutableArray<TracedInstruction>.Builder trace = ImmutableArray.CreateBuilder<TracedInstruction>();
            int at = 0;
            foreach (byte length in testCase.Code.Lengths)
            {
                trace.Add(new TracedInstruction(testCase.Code.Address + (ulong)at, testCase.Code.Bytes.Slice(at, length), testCase.Mode, 5));
                at += length;
            }

            UndefinedMask mask = UndefinedBits.After(trace.ToImmutable(), CpuVendor.Amd, lastCompleted: true);
            consumed += mask.Consumed ? 1 : 0;
            undefined += mask.Rflags != 0 ? 1 : 0;
        }

        Assert.InRange(consumed, 1, 500);
        Assert.True(undefined > 1000, "undefined flags should appear");
    }

    /// <summary>The page on the generator lists every family with its weight.</summary>
    [Fact]
    public void TheDocumentListsEveryWeight()
    {
        string document = File.ReadAllText(Checkout.PathOf("docs", "generator.md"));
        foreach (Family family in Enum.GetValues<Family>())
        {
            int forms64 = InstructionForms.Countable(CpuMode.Long64).Count(f => f.Family == family);
            int forms32 = InstructionForms.Countable(CpuMode.Compatibility32).Count(f => f.Family == family);
            Assert.Contains($"| {family} | {GeneratorOptions.DefaultWeights[family]} | {forms64} | {forms32} |", document, StringComparison.Ordinal);
        }
    }

    private static IEnumerable<TestCase> Cases(GeneratorOptions options, int count)
    {
        Generator generator = new(options, Profile);
        for (int i = 0; i < count; i++)
        {
            yield return generator.Generate(5, (ulong)i);
        }
    }

    /// <summary>The instructions of a case by its own lengths; those that do not decode are left out.</summary>
    private static IEnumerable<Instruction> Decode(TestCase testCase)
    {
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            Decoder decoder = Decoder.Create(testCase.Mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader([.. testCase.Code.Bytes.Slice(at, length)]));
            decoder.IP = testCase.Code.Address + (ulong)at;
            Instruction instruction = decoder.Decode();
            at += length;
            if (!instruction.IsInvalid)
            {
                yield return instruction;
            }
        }
    }

    private static void Count(ReadOnlySpan<byte> bytes, Dictionary<string, int> counts)
    {
        int prefixes = 0;
        bool rexBefore = false;
        HashSet<byte> seen = [];
        while (prefixes < bytes.Length && bytes[prefixes] is 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0x66 or 0x67 or 0xf0 or 0xf2 or 0xf3 or (>= 0x40 and <= 0x4f))
        {
            byte prefix = bytes[prefixes++];
            bool rex = prefix is >= 0x40 and <= 0x4f;
            Add(rexBefore && !rex, "rex not last");
            rexBefore = rex;
            Add(!rex && !seen.Add(prefix), "repeated");
        }

        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(bytes.ToArray()));
        decoder.Decode(out Instruction instruction);
        Add(seen.Contains(0x66), "66");
        Add(seen.Contains(0x67), "67");
        Add(seen.Contains(0x64), "fs");
        Add(seen.Contains(0x65), "gs");
        Add(seen.Overlaps([0x26, 0x2e, 0x36, 0x3e]), "ignored segment");
        Add(seen.Contains(0xf0) && !instruction.IsInvalid, "lock legal");
        Add(seen.Contains(0xf0) && instruction.IsInvalid, "lock illegal");
        bool repeated = seen.Contains(0xf2) || seen.Contains(0xf3);
        Add(repeated && instruction.IsStringInstruction, "rep string");
        Add(repeated && !instruction.IsInvalid && !instruction.IsStringInstruction, "rep other");
        Add(bytes.Length == 15, "length 15");
        Add(bytes.Length > 15, "over-long");

        void Add(bool found, string name)
        {
            if (found)
            {
                counts[name] = counts.GetValueOrDefault(name) + 1;
            }
        }
    }

    private static ulong? AddressOf(in Instruction instruction, TestCase testCase)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory && instruction.Mnemonic is not (Mnemonic.Lea or Mnemonic.Nop))
            {
                return instruction.GetVirtualAddress(i, 0, (register, _, _) => register switch
                {
                    Iced.Intel.Register.FS => testCase.Registers.FsBase,
                    Iced.Intel.Register.GS => testCase.Registers.GsBase,
                    _ when register.IsSegmentRegister() => 0,
                    _ => register.GetSize() == 4 ? (uint)testCase.Registers.Gpr[register.GetNumber()] : testCase.Registers.Gpr[register.GetNumber()],
                });
            }
        }

        return null;
    }

    private static string ClassOf(ulong address, int size)
    {
        ulong last = address + (ulong)size - 1;
        if (address >= 0xffff_8000_0000_0000)
        {
            return "kernel half";
        }

        if (address >= 0x0000_8000_0000_0000)
        {
            return "non-canonical";
        }

        PageAccess first = AddressMap.Standard.AccessAt(address);
        PageAccess second = AddressMap.Standard.AccessAt(last);
        if (first == PageAccess.None)
        {
            return "not present";
        }

        if (second == PageAccess.None)
        {
            return "into a guard page";
        }

        return (address & ~0xfffUL, address & 0xf_0000) switch
        {
            (AddressMap.SignEdge or AddressMap.SignEdge + 0x1000, _) => "2 GiB",
            (AddressMap.FourGigabyteEdge or AddressMap.FourGigabyteEdge + 0x1000, _) => "4 GiB",
            (AddressMap.Lowest, _) => "lowest",
            (AddressMap.Highest, _) => "highest",
            (_, AddressMap.Data) => (address & ~0xfffUL) == (last & ~0xfffUL) ? "data" : "split data",
            (_, AddressMap.WritableThenReadOnly) => "writable, then read-only",
            (_, AddressMap.ReadOnlyThenWritable) => "read-only, then writable",
            (_, AddressMap.WritableCode) => "writable code",
            (_, AddressMap.Stack) => "stack",
            _ => "code",
        };
    }
}
