using System.Collections.Immutable;
using System.Text;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Isa;
using Decoder = Iced.Intel.Decoder;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests.Generate.Pvm;

public sealed class PvmGeneratorTests
{
    private static readonly CpuProfile Amd = CpuProfile.DefaultAmd;
    private static readonly CpuProfile Intel = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("PKU") };

    /// <summary>Named option sets that together reach every branch of the generator.</summary>
    private static GeneratorOptions Options(string name, Abi abi)
    {
        GeneratorOptions options = GeneratorOptions.DefaultsFor(abi);
        return name switch
        {
            "default" => options,
            "raw" => options with { RawPercent = 100 },
            "long" => options with { MinimumInstructions = 200, MaximumInstructions = 300, TypicalPercent = 0 },
            "everything" => options with
            {
                CompatibilityPercent = 30,
                DebugPermille = 1000,
                ResponsePercent = 100,
                PrefixPermille = 1000,
                FaultingOperandPermille = 500,
                Pvm = options.Pvm with { OddFramePercent = 100, NoStructurePercent = 30, OneRootPercent = 50, InjectPercent = 100, ResponseInjectPercent = 100, ResponseHypercallPercent = 100 },
            },
            _ => throw new ArgumentOutOfRangeException(nameof(name)),
        };
    }

    /// <summary>Every case is well formed, states only what its revision has, keeps out of the agent's range, and holds nothing excluded at any byte of code and executable contents.</summary>
    [Theory]
    [InlineData("default", Abi.PvmRfc1, 20_000)]
    [InlineData("default", Abi.Pvm612, 10_000)]
    [InlineData("raw", Abi.PvmRfc1, 5_000)]
    [InlineData("everything", Abi.PvmRfc1, 8_000)]
    [InlineData("everything", Abi.Pvm612, 4_000)]
    [InlineData("long", Abi.PvmRfc1, 300)]
    public void EveryCaseIsWellFormed(string options, Abi abi, int count)
    {
        StringBuilder failures = new();
        foreach (CpuProfile profile in (CpuProfile[])[Amd, Intel])
        {
            Generator generator = new(Options(options, abi), profile);
            for (int i = 0; i < count / 2; i++)
            {
                TestCase testCase = generator.Generate(0xfeed, (ulong)i);
                foreach (string trouble in Troubles(testCase, profile))
                {
                    failures.AppendLine($"{profile.Vendor} {i}: {trouble}");
                }
            }
        }

        Assert.True(failures.Length == 0, failures.ToString());
    }

    private static IEnumerable<string> Troubles(TestCase testCase, CpuProfile profile)
    {
        if (testCase.Check() is { } problem)
        {
            yield return problem.ToString();
        }

        bool supervisor = testCase.Start == GuestMode.Supervisor;
        if (!ReferenceEquals(testCase.Layout, PvmMap.SupervisorLayout) || (testCase.Code.End & 0xf_ffff) != (supervisor ? PvmMap.CodeEnd : AddressMap.CodeEnd))
        {
            yield return $"code {testCase.Code.Address:x}..{testCase.Code.End:x}";
        }

        if (PvmExclusions.FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, profile, out int offset) is { } row)
        {
            yield return $"{row.Id} at {offset}";
        }

        foreach (MemoryContents run in testCase.Contents)
        {
            if ((testCase.Layout.AccessAt(run.Address) & PageAccess.Execute) != 0 && Exclusions.FindAnywhere(run.Bytes.AsSpan(), CpuMode.Long64, profile, out _) is { } hidden)
            {
                yield return $"{hidden.Id} in contents at {run.Address:x}";
            }
        }

        foreach (KeyValuePair<SystemRegister, ulong> state in testCase.System.Values)
        {
            bool entry = state.Key is SystemRegister.PvmEventEntry or SystemRegister.Lstar or SystemRegister.Cstar;
            if (!entry && IsAgent(state.Value))
            {
                yield return $"{state.Key} = {state.Value:x} lies in the agent's range";
            }

            bool later = state.Key is SystemRegister.PvmSupervisorRsp or SystemRegister.PvmSupervisorRedzone or SystemRegister.PvmRetsRip or SystemRegister.PvmSwitchCr3 or SystemRegister.PvcsRsp;
            if (later && testCase.Abi != Abi.PvmRfc1)
            {
                yield return $"{state.Key} is none of {testCase.Abi}'s";
            }
        }

        foreach ((Register register, ulong value) in testCase.Responses.SelectMany(r => r.Patches).Append(KeyValuePair.Create(Register.Rip, testCase.Registers.Rip)))
        {
            if (register == Register.Rip && IsAgent(value))
            {
                yield return $"RIP {value:x} lies in the agent's range";
            }
        }
    }

    private static bool IsAgent(ulong address) => address is >= AddressMap.AgentFirst and <= AddressMap.AgentLast;

    /// <summary>Supervisor code never reaches a port on purpose, and MSRs are known ones, or known to be none.</summary>
    [Fact]
    public void SupervisorCodeLeavesPortsAlone()
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(Abi.PvmRfc1) with { RawPercent = 0 }, Amd);
        int supervisors = 0;
        for (ulong i = 0; i < 5_000; i++)
        {
            TestCase testCase = generator.Generate(7, i);
            if (testCase.Start == GuestMode.User)
            {
                continue;
            }

            supervisors++;
            Assert.All(Decode(testCase), instruction => Assert.False(
                instruction.Mnemonic is Mnemonic.In or Mnemonic.Out or Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd or Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd,
                $"case {i}: {instruction}"));
        }

        Assert.True(supervisors > 1000);
    }

    /// <summary>The synthetic CPUID is allowed as a whole only: not behind a prefix that makes its INVLPG another one, not by its second half.</summary>
    [Theory]
    [InlineData("0F013C2550564DFF0FA2", null)]
    [InlineData("900F013C2550564DFF0FA290", null)]
    [InlineData("0FA2", "identity")]
    [InlineData("0F013C2550564DFE0FA2", "identity")]
    [InlineData("0F013C2550564DFF900FA2", "identity")]
    [InlineData("0F013C2550564DFF0FA20FA2", "identity")]
    [InlineData("0F34", null)]
    [InlineData("0F340F31", "time")]
    public void TheSyntheticCpuidIsAllowedAsAWhole(string bytes, string? id) =>
        Assert.Equal(id, PvmExclusions.FindAnywhere(Convert.FromHexString(bytes), CpuMode.Long64, CpuProfile.DefaultIntel, out _)?.Id);

    /// <summary>SYSCALL of compatibility mode has INT 80h behind it, SGDT, SIDT and SMSW have UMIP; SLDT and STR are never there.</summary>
    [Theory]
    [InlineData("0F05CD80", true, null)]
    [InlineData("0F05CD8090", false, null)]
    [InlineData("0F05CD81", true, "syscall-compatibility")]
    [InlineData("0F0590CD80", true, "syscall-compatibility")]
    [InlineData("0F0100", true, null)]
    [InlineData("0F010D00000000", true, null)]
    [InlineData("0F01E0", true, null)]
    [InlineData("0F0100", false, "descriptor-tables")]
    [InlineData("0F01E0", false, "machine-status")]
    [InlineData("0F00C0", true, "descriptor-tables")]
    public void WhatTheHypervisorAnswersIsAllowed(string bytes, bool umip, string? id)
    {
        CpuProfile profile = umip ? Amd : Amd with { Features = Amd.Features.Remove("UMIP") };

        Assert.Equal(id, PvmExclusions.FindAnywhere(Convert.FromHexString(bytes), CpuMode.Compatibility32, profile, out _)?.Id);
    }

    /// <summary>The same seed and index give the same case on another instance, in another order and on another thread; others give others.</summary>
    [Theory]
    [InlineData("default", Abi.PvmRfc1)]
    [InlineData("everything", Abi.PvmRfc1)]
    [InlineData("default", Abi.Pvm612)]
    public void GenerateIsAPureFunction(string options, Abi abi)
    {
        const int count = 2_000;
        Generator forward = new(Options(options, abi), Amd);
        TestCase[] cases = [.. Enumerable.Range(0, count).Select(i => forward.Generate(3, (ulong)i))];
        TestCase[] backward = new TestCase[count];
        Thread thread = new(() =>
        {
            Generator generator = new(Options(options, abi), Amd);
            for (int i = count - 1; i >= 0; i--)
            {
                generator.Generate(99, (ulong)i);
                backward[i] = generator.Generate(3, (ulong)i);
            }
        });
        thread.Start();
        thread.Join();
        Assert.Equal(cases, backward);
        Assert.NotEqual(cases[0], forward.Generate(4, 0));
        Assert.True(cases.Distinct().Count() > count - 5, "cases repeat");
    }

    /// <summary>The first thousand cases of seed 1. When this fails on purpose, raise <see cref="PvmOptions.Version"/> and put the new sum here.</summary>
    [Theory]
    [InlineData(Abi.PvmRfc1, "56374cae3bbdd611440e7f30d02fdcf9")]
    [InlineData(Abi.Pvm612, "6424adc48bba39584f3793c937659526")]
    public void TheFirstThousandCasesAreAsTheyWere(Abi abi, string sum)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi) with { DebugPermille = 50 }, Amd);
        UInt128 digest = 0;
        for (ulong i = 0; i < 1000; i++)
        {
            digest = (digest * 31) + CaseDigest.Of(generator.Generate(1, i));
        }

        Assert.Equal((2, sum), (PvmOptions.Version, digest.ToString("x32")));
    }

    /// <summary>Options out of range are refused with a message that names the valid values, and options of other ABIs do not mention PVM.</summary>
    [Fact]
    public void BadOptionsAreRefused()
    {
        GeneratorOptions good = GeneratorOptions.DefaultsFor(Abi.PvmRfc1);
        Assert.Null(good.Check());
        ImmutableSortedDictionary<PvmAction, int> none = PvmOptions.DefaultUserWeights.Clear();
        (GeneratorOptions Options, string Message)[] bad =
        [
            (new GeneratorOptions { Abi = Abi.PvmAbi1 }, "x86, pvm-rfc1, pvm-612, xen-pv64, xen-pv64-fred, xen-pv32"),
            (good with { Pvm = good.Pvm with { InjectPercent = 101 } }, "0 to 100"),
            (good with { Pvm = good.Pvm with { OneRootPercent = -1 } }, "0 to 100"),
            (good with { Pvm = good.Pvm with { UserWeights = none } }, "InterruptFlag, Halt"),
            (good with { Pvm = good.Pvm with { SupervisorWeights = none.Add((PvmAction)99, 1) } }, "InterruptFlag, Halt"),
            (good with { Pvm = good.Pvm with { SupervisorWeights = none.Add(PvmAction.Halt, 10_001) } }, "0 to 10000"),
        ];
        Assert.All(bad, b => Assert.Contains(b.Message, b.Options.Check(), StringComparison.Ordinal));
        Assert.DoesNotContain("pvm", new GeneratorOptions().ToString(), StringComparison.Ordinal);
        Assert.Contains("abi=pvm-rfc1 pvm 2 ", good.ToString(), StringComparison.Ordinal);
    }

    private static IEnumerable<Instruction> Decode(TestCase testCase)
    {
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader([.. testCase.Code.Bytes.Slice(at, length)]));
            decoder.IP = testCase.Code.Address + (ulong)at;
            at += length;
            yield return decoder.Decode();
        }
    }
}
