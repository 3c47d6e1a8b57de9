using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Backends.Xen;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests.Contract;

/// <summary>The contract of <see cref="ITarget"/>, held by every target: a new one adds a method here.</summary>
public sealed class ContractTests
{
    public static TheoryData<string> Names => [.. ContractRules.All.Select(rule => rule.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void TheModelKeeps(string rule)
    {
        using X86Model model = new(Host.Profile);
        Keep(model, rule);
    }

    [NativeTheory]
    [MemberData(nameof(Names))]
    public void TheProcessorKeeps(string rule)
    {
        using NativeTarget native = new();
        Keep(native, rule);
    }

    /// <summary>The rules whose cases every kind of host runs. The others use NT, compatibility mode or INT n, which one kind lacks; tests of the target itself cover them.</summary>
    [KvmTheory]
    [InlineData("The order of cases does not matter")]
    [InlineData("A batch gives what single runs give")]
    [InlineData("Responses are applied")]
    [InlineData("A case about another processor is unsupported or runs as that one")]
    [InlineData("A page that cannot be mapped is unsupported")]
    public void AGuestKeeps(string rule)
    {
        using KvmTarget kvm = new(Host.Profile);
        Keep(kvm, rule);
    }

    /// <summary>The rules that are about targets and not about x86 cases, with cases of the revision that the host has.</summary>
    [PvmTheory]
    [InlineData("The order of cases does not matter")]
    [InlineData("A batch gives what single runs give")]
    public void APvmHostKeeps(string rule)
    {
        using PvmTarget pvm = PvmHosts.Start(Host.Profile);
        Generator generator = new(GeneratorOptions.DefaultsFor(pvm.Info.Abis[0]), pvm.Info.Processor ?? Host.Profile);
        Find(rule).Check(pvm, [.. Enumerable.Range(0, 100).Select(i => generator.Generate(20261128, (ulong)i))]);
    }

    /// <summary>The rules that are about targets and not about x86 cases, with cases of a 64-bit Xen guest whose state differs from each to the next.</summary>
    [XenTheory]
    [InlineData("The order of cases does not matter")]
    [InlineData("A batch gives what single runs give")]
    public void AXenKeeps(string rule)
    {
        using XenTarget xen = new("xen", Xen.Installation);
        Find(rule).Check(xen, XenCases.All);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void ARecordingKeeps(string rule)
    {
        using X86Model model = new(Host.Profile);
        using RecordedTarget recorded = new(model.Info, Find(rule).Cases.Distinct().Select(c => KeyValuePair.Create(c, model.Run(c))));
        Keep(recorded, rule);
    }

    /// <summary>What was never recorded has no answer, and that is no trouble.</summary>
    [Fact]
    public void ACaseThatWasNotRecordedIsUnsupportedWithAReason()
    {
        using RecordedTarget recorded = new(new TargetInfo("model.x86", TargetKind.Model, "model", Capabilities.None, Fingerprint.Empty), []);

        Outcome outcome = recorded.Run(Payload.Case("90"));

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.False(string.IsNullOrWhiteSpace(outcome.Detail));
    }

    private static void Keep(ITarget target, string rule)
    {
        ContractRule found = Find(rule);
        Assert.NotEmpty(found.Cases);
        found.Check(target, found.Cases);
    }

    private static ContractRule Find(string name) => ContractRules.All.Single(rule => rule.Name == name);
}
