using System.Collections.Immutable;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.FuzzTargets.Targets;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.FuzzTargets.Tests;

/// <summary>What fuzz targets take without a word, and that they report a promise that is broken.</summary>
public sealed class TargetTests
{
    private const int MostSeeds = 60;

    /// <summary>Files that a fuzzer begins with, spread over the whole corpus.</summary>
    private static readonly byte[][] Seeds = ReadSeeds();

    /// <summary>Targets that need nothing of the host.</summary>
    public static TheoryData<string> Names => [.. FuzzTarget.All.Keys.Where(name => name != "native")];

    /// <summary>The targets have no objection to the regressions, to nothing, or to garbage.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void SeedsBreakNoPromise(string name)
    {
        using FuzzTarget target = FuzzTarget.All[name]();
        foreach (byte[] seed in (byte[][])[[], [0], [0xff, 0xfe, 0, 10], [0, 0x48, 0x01, 0xd8, 0x0f, 0x0b], [3, 0x66, 0xf3, 0xa5], .. Seeds])
        {
            target.Run(seed);
        }
    }

    /// <summary>The model and the processor agree about the regressions that are about no other processor.</summary>
    [SkippableOnHost]
    public void TheProcessorAgreesAboutSeeds()
    {
        using FuzzTarget target = FuzzTarget.All["native"]();
        Array.ForEach(Seeds, target.Run);
    }

    /// <summary>A model whose answer depends on how often it was asked.</summary>
    [Fact]
    public void AnAnswerThatDependsOnOrderIsReported()
    {
        int runs = 0;
        using OrderTarget target = new(new Spoilt(outcome => ++runs > 1 ? Flipped(outcome) : outcome));

        Assert.Contains("answers otherwise", Assert.Throws<BrokenPromiseException>(() => target.Run(AnyCase())).Message, StringComparison.Ordinal);
    }

    /// <summary>A model that takes the first instruction for one byte longer than it is.</summary>
    [Fact]
    public void AnInstructionOfAnotherLengthIsReported()
    {
        using PredecoderTarget target = new(new X86Model(), new Longer());

        // inc eax; nop; nop
        Assert.Contains("bytes long", Assert.Throws<BrokenPromiseException>(() => target.Run([0, 0xff, 0xc0, 0x90, 0x90])).Message, StringComparison.Ordinal);
    }

    /// <summary>A comparer that believes the first target, whatever the others say.</summary>
    [Fact]
    public void CampsThatDependOnOrderAreReported()
    {
        using ComparerTarget target = new((infos, testCase, outcomes) => new Comparer(infos, CaseAnalyst.Blind).Compare(testCase, [.. outcomes.Select((outcome, i) => i == 0 ? Flipped(outcome) : outcome)]));

        Assert.Throws<BrokenPromiseException>(() => Array.ForEach(Seeds, target.Run));
    }

    /// <summary>A writer that changes a flag.</summary>
    [Fact]
    public void AFileThatIsWrittenOtherwiseIsReported()
    {
        using CaseReaderTarget target = new(file => (file with { Case = file.Case with { Registers = file.Case.Registers with { Rflags = file.Case.Registers.Rflags ^ RflagsBits.CF } } }).Write());

        Assert.Throws<BrokenPromiseException>(() => Array.ForEach(Seeds, target.Run));
    }

    /// <summary>A processor whose carry flag is wrong at the end.</summary>
    [Fact]
    public void AProcessorThatDisagreesIsReported()
    {
        using NativeAgreementTarget target = new(CpuProfile.DefaultAmd, new Spoilt(Flipped));

        Assert.Contains("differ", Assert.Throws<BrokenPromiseException>(() => Array.ForEach(Seeds, target.Run)).Message, StringComparison.Ordinal);
    }

    private static Outcome Flipped(Outcome outcome)
    {
        if (outcome.Events.IsEmpty)
        {
            return outcome;
        }

        Event last = outcome.Events[^1];
        return outcome with { Events = outcome.Events.SetItem(outcome.Events.Length - 1, last with { Registers = last.Registers with { Rflags = last.Registers.Rflags ^ RflagsBits.CF } }) };
    }

    private static byte[] AnyCase() => Seeds.First(seed => CaseFile.Parse(seed, "seed", lenient: true).Case.Abi == Abi.X86);

    private static byte[][] ReadSeeds()
    {
        string[] files = [.. Directory.EnumerateFiles(Checkout.PathOf("corpus", "regressions"), "*.case", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        int step = Math.Max(1, files.Length / MostSeeds);
        return [.. files.Where((_, i) => i % step == 0).Select(File.ReadAllBytes)];
    }

    /// <summary>The model of the processor, but what it answers is changed.</summary>
    private sealed class Spoilt(Func<Outcome, Outcome> spoil) : ITarget
    {
        private readonly X86Model _model = new();

        public TargetInfo Info => _model.Info with { Name = "spoilt", Lineage = "spoilt" };

        public Outcome Run(TestCase testCase) => spoil(_model.Run(testCase));

        public void Dispose() => _model.Dispose();
    }

    /// <summary>Traces in which the first instruction has one byte more.</summary>
    private sealed class Longer : ITracer
    {
        public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
        {
            using X86Model model = new();
            ImmutableArray<TracedInstruction> trace = model.Trace(testCase, maximum);
            return trace.Length < 2 ? trace : [trace[0] with { Bytes = [.. trace[0].Bytes, 0x90] }, trace[1] with { Address = trace[1].Address + 1 }];
        }
    }
}

/// <summary>A fact about the processor: skipped, with the reason, where the native target cannot run.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class SkippableOnHostAttribute : FactAttribute
{
    public SkippableOnHostAttribute() => Skip = NativeTarget.Probe() is TargetUnavailableException trouble ? $"{trouble.Message}; {trouble.Cure}" : null;
}
