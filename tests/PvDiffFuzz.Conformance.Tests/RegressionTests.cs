using System.Collections.Immutable;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>The stored cases: each says why it exists, and comes out as stored.</summary>
public sealed class RegressionTests
{
    public static TheoryData<string> Names => [.. Directory.GetFiles(Checkout.PathOf("corpus", "regressions"), "*.case").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)];

    /// <summary>The model answers as stored and agrees with the processor that was recorded.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void TheModelAgreesWithTheRecordedProcessor(string name) => AssertAgrees(name, [() => new X86Model(Host.Profile)]);

    /// <summary>The processor at hand agrees with the model, and with what was recorded of it or of another one.</summary>
    [NativeTheory]
    [MemberData(nameof(Names))]
    public void TheProcessorAgreesWithTheModel(string name) => AssertAgrees(name, [() => new X86Model(Host.Profile), () => new NativeTarget()]);

    private static void AssertAgrees(string name, ImmutableArray<Func<ITarget>> targets)
    {
        using X86Model tracer = new(Host.Profile);
        using CaseRunner runner = CaseRunner.Create(targets, CaseAnalyst.For(tracer, Host.Profile.Vendor));
        CaseFile file = CaseFile.Read(Path.Combine(Checkout.PathOf("corpus", "regressions"), name));

        ReplayResult result = new Replay(runner, KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"))).Run(name, file);

        Assert.True(result.Status == ReplayStatus.Agree, $"{result.Status}: {result.Message}");
        Assert.Equal(Path.GetFileNameWithoutExtension(name), file.Id);
        Assert.Contains(file.Outcomes, o => o.Kind == TargetKind.Hardware);
    }
}
