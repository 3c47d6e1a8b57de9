using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Harness.Generate.Xen;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Tests.Generate.Xen;

public sealed class XenGeneratorTests
{
    private static readonly CpuProfile Amd = CpuProfile.DefaultAmd;
    private static readonly CpuProfile Intel = CpuProfile.DefaultIntel;

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
                Xen = options.Xen with { OddFramePercent = 100, OneRootPercent = 50, PendingPercent = 100, ResponsePendingPercent = 100, ResponseHypercallPercent = 100, HazardOneIn = 1 },
            },
            _ => throw new ArgumentOutOfRangeException(nameof(name)),
        };
    }

    /// <summary>Every case is well formed, may run on a live host, and keeps out of the agent's range and of Xen's memory.</summary>
    [Theory]
    [InlineData("default", Abi.XenPv64, 20_000)]
    [InlineData("default", Abi.XenPv32, 8_000)]
    [InlineData("raw", Abi.XenPv64, 5_000)]
    [InlineData("everything", Abi.XenPv64, 8_000)]
    [InlineData("everything", Abi.XenPv32, 4_000)]
    [InlineData("long", Abi.XenPv64, 300)]
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

        bool kernel = testCase.Start == GuestMode.Supervisor;
        if (!ReferenceEquals(testCase.Layout, XenMap.KernelLayout(testCase.Abi)) || (testCase.Code.End & 0xf_ffff) != (kernel ? XenMap.CodeEnd : AddressMap.CodeEnd))
        {
            yield return $"code {testCase.Code.Address:x}..{testCase.Code.End:x}";
        }

        if (!XenExclusions.MayRunLive(testCase, profile))
        {
            yield return "must not run on a live host";
        }

        foreach (MemoryContents run in testCase.Contents)
        {
            if ((testCase.Layout.AccessAt(run.Address) & PageAccess.Execute) != 0 && Exclusions.FindAnywhere(run.Bytes.AsSpan(), testCase.Mode, profile, out _) is { } hidden)
            {
                yield return $"{hidden.Id} in contents at {run.Address:x}";
            }
        }

        ulong narrow = testCase.Abi == Abi.XenPv32 ? XenMap.PrivateFirst32 : ulong.MaxValue;
        foreach ((Register register, ulong value) in testCase.Responses.SelectMany(r => r.Patches).Append(KeyValuePair.Create(Register.Rip, testCase.Registers.Rip)))
        {
            bool agent = value is >= AddressMap.AgentFirst and <= AddressMap.AgentLast;
            if (register == Register.Rip && (agent || value is >= XenMap.PrivateFirst and <= XenMap.PrivateLast || value >= narrow))
            {
                yield return $"RIP {value:x} lies in the agent's range or in Xen's";
            }
        }
    }

    /// <summary>Without hazards every exception has a handler, and every stack that Xen may use has room for a frame.</summary>
    [Theory]
    [InlineData(Abi.XenPv64)]
    [InlineData(Abi.XenPv32)]
    public void AGuestCanTakeItsEvents(Abi abi)
    {
        GeneratorOptions options = GeneratorOptions.DefaultsFor(abi);
        Generator generator = new(options with { Xen = options.Xen with { HazardOneIn = 0 } }, Amd);
        for (ulong i = 0; i < 4_000; i++)
        {
            TestCase testCase = generator.Generate(11, i);
            List<ulong> stacks = [testCase.System[SystemRegister.XenKernelSp]];
            if (testCase.Start == GuestMode.Supervisor)
            {
                stacks.Add(testCase.Registers.Gpr[4]);
            }

            Assert.All(XenEdges.Exceptions.ToArray(), vector => Assert.NotEqual(0UL, testCase.Xen!.Traps[vector].Address));
            Assert.NotNull(testCase.Xen!.CallbackOf(XenCallbackKind.Event));
            Assert.All(stacks, rsp => Assert.True((testCase.Layout.AccessAt(rsp - 8) & testCase.Layout.AccessAt(rsp - 0x90) & PageAccess.Write) != 0, $"case {i}: {rsp:x}"));
        }
    }

    /// <summary>A call of the kernel has its number right before it, and only calls that touch nothing but the virtual CPU are made.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, "b8110000000f05", false)]
    [InlineData(Abi.XenPv64, "48c7c0daffffff0f05", false)]
    [InlineData(Abi.XenPv64, "48b811000000010000000f05", false)]
    [InlineData(Abi.XenPv64, "b811000000480f05", false)]
    [InlineData(Abi.XenPv64, "0f05", true)]
    [InlineData(Abi.XenPv64, "b811000000900f05", true)]
    [InlineData(Abi.XenPv64, "b8010000000f05", true)]
    [InlineData(Abi.XenPv64, "41b8110000000f05", true)]
    [InlineData(Abi.XenPv64, "b8070000000f05", true)]
    [InlineData(Abi.XenPv64, "b8110000000f050f05", true)]
    [InlineData(Abi.XenPv64, "cd82", false)]
    [InlineData(Abi.XenPv32, "b811000000cd82", false)]
    [InlineData(Abi.XenPv32, "cd82", true)]
    public void ACallHasItsNumber(Abi abi, string code, bool loose) => Assert.Equal(loose, XenExclusions.HasLooseCall(Convert.FromHexString(code), abi));

    /// <summary>CPUID is allowed behind the forced emulation prefix only.</summary>
    [Theory]
    [InlineData("0f0b78656e0fa2", null)]
    [InlineData("900f0b78656e0fa290", null)]
    [InlineData("0fa2", "identity")]
    [InlineData("0f0b78656e900fa2", "identity")]
    [InlineData("0f0b78656e0fa20fa2", "identity")]
    [InlineData("0f05", null)]
    [InlineData("0f34", null)]
    [InlineData("0f340f31", "time")]
    public void ForcedEmulationIsAllowedAsAWhole(string code, string? id) =>
        Assert.Equal(id, XenExclusions.FindAnywhere(Convert.FromHexString(code), CpuMode.Compatibility32, Intel, out _)?.Id);

    /// <summary>The same seed and index give the same case on another instance and in another order; others give others. IDT and FRED get the same cases but for the ABI.</summary>
    [Theory]
    [InlineData("default", Abi.XenPv64)]
    [InlineData("everything", Abi.XenPv64)]
    [InlineData("default", Abi.XenPv32)]
    public void GenerateIsAPureFunction(string options, Abi abi)
    {
        const int count = 1_000;
        Generator forward = new(Options(options, abi), Amd);
        TestCase[] cases = [.. Enumerable.Range(0, count).Select(i => forward.Generate(3, (ulong)i))];
        Generator backward = new(Options(options, abi), Amd);
        for (int i = count - 1; i >= 0; i--)
        {
            backward.Generate(99, (ulong)i);
            Assert.Equal(cases[i], backward.Generate(3, (ulong)i));
        }

        Assert.True(cases.Distinct().Count() > count - 5, "cases repeat");
        if (abi == Abi.XenPv64)
        {
            Generator fred = new(Options(options, Abi.XenPv64Fred), Amd);
            Assert.All(Enumerable.Range(0, count), i => Assert.Equal(cases[i] with { Abi = Abi.XenPv64Fred }, fred.Generate(3, (ulong)i)));
        }
    }

    /// <summary>The first thousand cases of seed 1. When this fails on purpose, raise <see cref="XenOptions.Version"/> and put the new sum here.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, "6d1fa56df0b98e435b4800299d3c029b")]
    [InlineData(Abi.XenPv32, "682903687272f28d78fe9fc42b37de77")]
    public void TheFirstThousandCasesAreAsTheyWere(Abi abi, string sum)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi) with { DebugPermille = 50 }, Amd);
        UInt128 digest = 0;
        for (ulong i = 0; i < 1000; i++)
        {
            digest = (digest * 31) + CaseDigest.Of(generator.Generate(1, i));
        }

        Assert.Equal((1, sum), (XenOptions.Version, digest.ToString("x32")));
    }

    /// <summary>Options out of range are refused with a message that names the valid values, and options of other ABIs do not mention Xen.</summary>
    [Fact]
    public void BadOptionsAreRefused()
    {
        GeneratorOptions good = GeneratorOptions.DefaultsFor(Abi.XenPv64);
        Assert.Null(good.Check());
        ImmutableSortedDictionary<XenAction, int> none = XenOptions.DefaultUserWeights.Clear();
        (GeneratorOptions Options, string Message)[] bad =
        [
            (good with { Xen = good.Xen with { PendingPercent = 101 } }, "0 to 100"),
            (good with { Xen = good.Xen with { HazardOneIn = -1 } }, "0 to 1000000"),
            (good with { Xen = good.Xen with { UserWeights = none } }, "SoftwareInterrupt, PrefixedInterrupt"),
            (good with { Xen = good.Xen with { KernelWeights = none.Add((XenAction)99, 1) } }, "SoftwareInterrupt, PrefixedInterrupt"),
            (good with { Xen = good.Xen with { KernelWeights = none.Add(XenAction.Icebp, 10_001) } }, "0 to 10000"),
        ];
        Assert.All(bad, b => Assert.Contains(b.Message, b.Options.Check(), StringComparison.Ordinal));
        Assert.DoesNotContain("xen", new GeneratorOptions().ToString(), StringComparison.Ordinal);
        Assert.Contains("abi=xen-pv64 xen 1 ", good.ToString(), StringComparison.Ordinal);
    }
}
