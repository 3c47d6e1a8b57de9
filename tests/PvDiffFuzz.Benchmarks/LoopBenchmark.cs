using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Benchmarks;

/// <summary>The campaign loop: generate, run on all targets, compare.</summary>
internal static class LoopBenchmark
{
    private const ulong Count = 200_000;

    /// <summary>One job and two, with and without the processor.</summary>
    public static void Run()
    {
        Func<ITarget> model = () => new X86Model(Cases.Profile);
        bool live = NativeTarget.Probe() is null;
        ImmutableArray<Func<ITarget>> targets = live ? [model, () => new NativeTarget()] : [model, () => new X86Model(Cases.Profile)];
        string names = live ? "model.x86,native" : "model.x86 twice";
        double one = Row($"loop, {names}, 1 job", targets, 1);
        double two = Row($"loop, {names}, 2 jobs", targets, 2);
        Measure.Ratio("loop, 2 jobs to 1", two, one);
    }

    private static double Row(string what, ImmutableArray<Func<ITarget>> targets, int jobs)
    {
        double best = 0;
        for (int round = 0; round < 3; round++)
        {
            CampaignParts parts = new()
            {
                Targets = targets,
                Source = () => new Source(),
                Known = Known(),
                Analyst = () => CaseAnalyst.For(new X86Model(Cases.Profile), Cases.Profile.Vendor),
            };
            CampaignSummary summary = new Campaign(new CampaignOptions { Seed = 1, Count = Count, Jobs = jobs }, parts).Run(CancellationToken.None);
            double rate = summary.Cases / summary.Elapsed.TotalSeconds;
            best = Math.Max(best, rate);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{what,-58} {rate,12:N0}/s comparable {100.0 * summary.Comparable / summary.Cases:F1} % new {summary.New} known {summary.Known} masked {summary.Masked}"));
        }

        return best;
    }

    /// <summary>Known divergences cost no triage, so they are read from the checkout that this was built in.</summary>
    private static KnownSet Known() => KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));

    private sealed class Source : ICaseSource
    {
        private readonly Generator _generator = new(new GeneratorOptions(), Cases.Profile);

        public TestCase Generate(ulong index) => _generator.Generate(1, index);
    }
}
