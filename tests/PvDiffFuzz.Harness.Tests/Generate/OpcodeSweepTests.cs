using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Tests.Generate;

/// <summary>The sweep: which cases it has, and that they are cases like any other.</summary>
public sealed class OpcodeSweepTests
{
    private static readonly CpuProfile Profile = CpuProfile.DefaultAmd;

    /// <summary>
    /// 244 opcodes of one byte, 8 of them of the x87 with all ModR/M bytes; 256 of two, 4 of them with all; two maps of three with 4 each. With nine prefixes, in one mode or two, each with bytes behind and without.
    /// </summary>
    [Theory]
    [InlineData(Abi.X86, 0, 1)]
    [InlineData(Abi.X86, 20, 2)]
    [InlineData(Abi.XenPv64, 15, 2)]
    [InlineData(Abi.PvmRfc1, 15, 2)]
    public void APassHasEveryEncoding(Abi abi, int compatibility, int modes)
    {
        const int encodings = (236 * 64) + (8 * 256) + (252 * 64) + (4 * 256) + (2 * 256 * 4);

        Assert.Equal((ulong)(encodings * 9 * modes * 2), Sweep(abi, compatibility).Count);
    }

    /// <summary>Well formed, nothing in them that is never generated, and the same from another instance and in another order.</summary>
    [Theory]
    [InlineData(Abi.X86)]
    [InlineData(Abi.XenPv64)]
    [InlineData(Abi.PvmRfc1)]
    public void ItsCasesAreCasesLikeAnyOther(Abi abi)
    {
        OpcodeSweep one = Sweep(abi, 15);
        OpcodeSweep other = Sweep(abi, 15);
        HashSet<CpuMode> modes = [];
        for (ulong index = one.Count - 1; index > 997; index -= 997)
        {
            TestCase testCase = one.Generate(index);

            Assert.Null(testCase.Check());
            Assert.True(abi == Abi.X86 ? Exclusions.FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, Profile, out _) is null : MayRunLive(testCase));
            Assert.Equal(testCase, other.Generate(index));
            Assert.Equal((GuestMode.User, AddressMap.LowBlock + AddressMap.CodeEnd), (testCase.Start, testCase.Code.End));
            modes.Add(testCase.Mode);
        }

        Assert.Equal(2, modes.Count);
    }

    /// <summary>EMMS with 66 and a ModR/M byte that is none, MOV to TR's number, UD0, an x87 instruction: each with eight bytes behind it and with none. CPUID is never generated, and a NOP stands there.</summary>
    [Fact]
    public void APassHasTheseInstructions()
    {
        OpcodeSweep sweep = Sweep(Abi.X86, 0);
        HashSet<string> codes = [];
        for (ulong index = 0; index < sweep.Count; index++)
        {
            codes.Add(Convert.ToHexStringLower(sweep.Generate(index).Code.Bytes.AsSpan()));
        }

        foreach (string code in (string[])["660f7700", "8ef8", "0fff00", "d9fe", "660f38f0c1"])
        {
            Assert.Contains(code, codes);
            Assert.Contains(code + "9090909090909090", codes);
        }

        Assert.DoesNotContain("0fa200", codes);
        Assert.Contains("90", codes);
    }

    /// <summary>An index beyond a pass begins the next, which is the same.</summary>
    [Fact]
    public void AfterAPassItBeginsAnew()
    {
        OpcodeSweep sweep = Sweep(Abi.X86, 0);

        Assert.Equal(sweep.Generate(12_345), sweep.Generate(sweep.Count + 12_345));
    }

    private static bool MayRunLive(TestCase testCase) => testCase.Abi.IsXen() ? XenExclusions.MayRunLive(testCase, Profile) : PvmExclusions.MayRunLive(testCase, Profile);

    private static OpcodeSweep Sweep(Abi abi, int compatibility) => new(GeneratorOptions.DefaultsFor(abi) with { CompatibilityPercent = compatibility }, Profile, 1);
}
