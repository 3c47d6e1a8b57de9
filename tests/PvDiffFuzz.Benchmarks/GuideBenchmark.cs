using System.Collections.Immutable;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Benchmarks;

/// <summary>What guidance costs, always beside what the same cases cost without it.</summary>
internal static class GuideBenchmark
{
    private const int Count = 20_000;

    /// <summary>Cases of a guided campaign: several ranges, so that most of them are made when its corpus is there.</summary>
    private const int LoopCount = 60_000;

    /// <summary>The models with probes and without, and the whole loop.</summary>
    public static void Run()
    {
        Pair("model.x86", Abi.X86, new X86Model(Cases.Profile), InstrumentedModel.Load(typeof(X86Model)), typeof(X86Model));
        Pair("model.pvm", Abi.PvmRfc1, new PvmModel(Cases.Profile), InstrumentedModel.Load(typeof(PvmModel), typeof(X86Model)), typeof(PvmModel));
        Pair("model.xen", Abi.XenPv64, new XenModel(Cases.Profile), InstrumentedModel.Load(typeof(XenModel), typeof(X86Model)), typeof(XenModel), (object?)null);
        Loop("model.x86", Abi.X86, () => new X86Model(Cases.Profile));
        Loop("model.pvm", Abi.PvmRfc1, () => new PvmModel(Cases.Profile));
        Loop("model.xen", Abi.XenPv64, () => new XenModel(Cases.Profile));
    }

    private static void Pair(string what, Abi abi, ITarget plain, InstrumentedModel copy, Type model, params ReadOnlySpan<object?> more)
    {
        TestCase[] cases = Cases.Generated(GeneratorOptions.DefaultsFor(abi), Count);
        ITarget probed = copy.Create<ITarget>(model, [Cases.Profile, null, .. more]);
        double[] rates = Measure.Rates(
            new Row($"{what}, plain", Count, () => Array.ForEach(cases, one => plain.Run(one))),
            new Row($"{what}, instrumented", Count, () => Array.ForEach(cases, one =>
            {
                copy.Restart();
                probed.Run(one);
                copy.Edges.AsSpan().Clear();
            })));
        Measure.Ratio($"{what}, instrumented to plain", rates[1], rates[0]);
    }

    /// <summary>The whole loop in process, on the model and the model again, since to compare takes two: generated cases with guidance and without; and a guided campaign against its cases from memory, which nobody has to make.</summary>
    private static void Loop(string what, Abi abi, Func<ITarget> plain)
    {
        GeneratorOptions options = GeneratorOptions.DefaultsFor(abi);
        GuideParts guide = new()
        {
            Model = () => ModelsByAbi.Of(abi)!.Probed(Cases.Profile, null),
            Source = () => new Swarm(options, Cases.Profile, 1),
        };
        GuideParts observe = guide with { Options = new GuideOptions { FreshPercent = 100, LadderPercent = 0, UsualPercent = 100 } };
        List<TestCase> mutants = [];
        Campaign([() => new Recorder(plain(), mutants)], new GeneratedCases(options, Cases.Profile, 1), guide);
        ICaseSource generated = new GeneratedCases(options, Cases.Profile, 1);
        double[] rates = Measure.Rates(
            new Row($"loop, {what}, generated, unguided", LoopCount, () => Campaign([plain, plain], generated, null)),
            new Row($"loop, {what}, the same, guided", LoopCount, () => Campaign([plain, plain], generated, observe with { Target = 0 })),
            new Row($"loop, {what}, guided campaign", LoopCount, () => Campaign([plain, plain], generated, guide with { Target = 0 })),
            new Row($"loop, {what}, its cases, unguided", LoopCount, () => Campaign([plain, plain], new Replayed(mutants), null)));
        Measure.Ratio($"loop, {what}, generated cases, guided to unguided", rates[1], rates[0]);
        Measure.Ratio($"loop, {what}, cases of a guided campaign, to unguided", rates[2], rates[3]);
    }

    private static void Campaign(ImmutableArray<Func<ITarget>> targets, ICaseSource source, GuideParts? guide)
    {
        CampaignParts parts = new()
        {
            Targets = targets,
            Source = () => source,
            Analyst = () => Session.Analyst(Cases.Profile),
            Allowed = testCase => Session.MayRunLive(testCase, Cases.Profile),
            Guide = guide,
        };
        if (new Campaign(new CampaignOptions { Seed = 1, Count = LoopCount }, parts).Run(CancellationToken.None).Failure is Exception failure)
        {
            throw new InvalidOperationException("the campaign stopped", failure);
        }
    }

    /// <summary>Cases from memory.</summary>
    private sealed class Replayed(List<TestCase> cases) : ICaseSource
    {
        public TestCase Generate(ulong index) => cases[(int)index];
    }

    /// <summary>Keeps the cases that it runs.</summary>
    private sealed class Recorder(ITarget target, List<TestCase> cases) : ITarget
    {
        public TargetInfo Info => target.Info;

        public Outcome Run(TestCase testCase)
        {
            cases.Add(testCase);
            return target.Run(testCase);
        }

        public void Dispose() => target.Dispose();
    }
}
