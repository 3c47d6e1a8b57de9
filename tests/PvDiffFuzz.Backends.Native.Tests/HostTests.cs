using System.Runtime.Intrinsics.X86;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>What the target says about itself and its host.</summary>
public sealed class HostTests : NativeTests
{
    /// <summary>Name, kind and lineage are fixed; what Linux changes is listed with reasons.</summary>
    [NativeFact]
    public void TheTargetSaysWhatItIs()
    {
        TargetInfo info = Target.Info;

        Assert.Equal(("native", TargetKind.Hardware, "hardware"), (info.Name, info.Kind, info.Lineage));
        Assert.True((info.Capabilities & Capabilities.CompatibilityMode) != 0);
        Assert.All(info.Masks, m => Assert.True(m.Id.StartsWith("native.", StringComparison.Ordinal) && m.Reason.Length > 40, m.Id));
        Assert.Equal(info.Masks.Length, info.Masks.Select(m => m.Id).Distinct(StringComparer.Ordinal).Count());
    }

    /// <summary>The fingerprint names what the issue asks for, in values that a case file can hold.</summary>
    [NativeFact]
    public void TheFingerprintIdentifiesTheHost()
    {
        Fingerprint fingerprint = Target.Info.Fingerprint;

        Assert.Equal("cpu model microcode kernel hypervisor gates descriptors umip icebp", string.Join(' ', fingerprint.Facts.Select(f => f.Key)));
        Assert.All(fingerprint.Facts, f => Assert.True(f.Value.Length > 0 && f.Value.IndexOfAny([';', '[', ']', '\n']) < 0, $"{f.Key}={f.Value}"));
        using NativeTarget again = new();
        Assert.Equal(fingerprint, again.Info.Fingerprint);
    }

    /// <summary>The profile agrees with what the runtime knows of the processor, and with what payloads see.</summary>
    [NativeFact]
    public void TheProfileAgreesWithTheProcessor()
    {
        CpuProfile profile = HostProfile.Probe();

        Assert.Same(profile, HostProfile.Probe());
        Assert.Equal(
            (Bmi1.IsSupported, Bmi2.IsSupported, Lzcnt.IsSupported, Popcnt.IsSupported, Avx2.IsSupported),
            (profile.Has("BMI1"), profile.Has("BMI2"), profile.Has("LZCNT"), profile.Has("POPCNT"), profile.Has("AVX2")));
        Assert.Contains((byte)3, profile.UserGates);
        Assert.Contains((byte)4, profile.UserGates);
        Assert.All(CpuProfile.DefaultDescriptors, d => Assert.Contains(d, profile.Descriptors));
        Assert.Equal(profile.Descriptors.Select(d => d.Index).Order(), profile.Descriptors.Select(d => d.Index));
    }

    /// <summary>A feature in the profile executes, one that is missing is #UD.</summary>
    [NativeTheory]
    [InlineData("BMI1", "c4 e2 78 f2 c3")]
    [InlineData("BMI2", "c4 e2 63 f5 c0")]
    [InlineData("ADX", "66 0f 38 f6 c3")]
    [InlineData("POPCNT", "f3 0f b8 c3")]
    [InlineData("CMPXCHG16B", "48 0f c7 0f")]
    [InlineData("MOVBE", "0f 38 f0 07")]
    [InlineData("FSGSBASE", "f3 0f ae c0")]
    [InlineData("RDTSCP", "0f 01 f9")]
    [InlineData("RDPID", "f3 0f c7 f8")]
    [InlineData("RDRAND", "0f c7 f0")]
    [InlineData("PKU", "0f 01 ee")]
    [InlineData("WAITPKG", "f3 0f ae f3")]
    [InlineData("SERIALIZE", "0f 01 e8")]
    [InlineData("CLFLUSHOPT", "66 0f ae 3f")]
    [InlineData("CLWB", "66 0f ae 37")]
    [InlineData("SHA", "0f 38 c9 c0")]
    [InlineData("AVX", "c5 fc 57 c0")]
    [InlineData("AVX2", "c5 fd ef c0")]
    [InlineData("AVX512F", "62 f1 7c 48 57 c0")]
    [InlineData("SSE4A", "f2 0f 79 c0")]
    [InlineData("XSAVE", "0f 01 d0")]
    public void FeaturesExecuteIffTheProfileHasThem(string feature, string code)
    {
        Event e = Only(Case(code, (Register.Rdi, Data)), feature);

        Assert.Equal(HostProfile.Probe().Has(feature), e.Vector != 6);
    }

    /// <summary>A case about another processor is not run on this one.</summary>
    [NativeFact]
    public void CasesAboutAnotherProcessorAreUnsupported()
    {
        CpuProfile profile = HostProfile.Probe();

        Assert.True(Target.Run(Case("90") with { Profile = profile with { Family = profile.Family } }).Comparable);
        Assert.Equal(EndKind.Unsupported, Target.Run(Case("90") with { Profile = profile with { Family = 4 } }).End);
    }

    /// <summary>Registers that a Linux process cannot have make a case unsupported.</summary>
    [NativeTheory]
    [InlineData(Register.Ss, 0UL)]
    [InlineData(Register.Ss, 0x23UL)]
    [InlineData(Register.Ds, 1UL)]
    [InlineData(Register.Es, 0x18UL)]
    [InlineData(Register.Fs, 0x3fUL)]
    [InlineData(Register.Pkru, 0UL)]
    [InlineData(Register.GsBase, 0x8000_0000_0000UL)]
    [InlineData(Register.Rip, 0x8000_0000_0000UL)]
    public void ImpossibleRegistersAreUnsupported(Register register, ulong value)
    {
        TestCase testCase = Case("90");

        Outcome outcome = Target.Run(testCase with { Registers = testCase.Registers.With(register, value) });

        Assert.True(outcome.End == EndKind.Unsupported, Describe(outcome));
        Assert.False(string.IsNullOrEmpty(outcome.Detail));
    }

    /// <summary>Where Linux or a hypervisor answers in the processor's place, the outcome is not compared.</summary>
    [NativeFact]
    public void WhatLinuxEmulatesIsUnsupported()
    {
        Assert.NotEqual(EndKind.HarnessError, Target.Run(Case32("0f 05")).End);
        Assert.False(Target.Run(Case32("0f 05")).Comparable && HostProfile.Probe().Vendor == CpuVendor.Amd);
    }

    /// <summary>ICEBP is reported as the host shows it, and the fingerprint says which way that is.</summary>
    [NativeFact]
    public void IcebpShowsTheRipThatTheFingerprintNames()
    {
        string shown = Target.Info.Fingerprint.Facts.Single(f => f.Key == "icebp").Value;
        Event only = Assert.Single(Target.Run(Case("f1 90")).Events);

        Assert.Equal((byte)1, only.Vector);
        Assert.Equal(shown == "at" ? End - 2 : End - 1, only.Registers.Rip);
    }
}
