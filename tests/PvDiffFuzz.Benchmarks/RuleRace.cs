using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Benchmarks;

/// <summary>How many cases it takes to execute every rule that can be reached, with guidance and without.</summary>
/// <remarks>
/// Reachable is what some run of any seed executes, of either kind. Rules that the generator's exclusions keep out are named and do not count: what executes them are bytes that happen to spell what
/// is left out on purpose.
/// </remarks>
internal static class RuleRace
{
    private const long RandomCases = 1_500_000;
    private const long GuidedCases = 500_000;

    /// <summary>Rules that are kept out, by exclusion.</summary>
    private static readonly (string Exclusion, string Implementation)[] KeptOut =
    [
        ("identity", "HostReadings.Identify"),
        ("segment-limit", "Segment.SegmentLimit"),
        ("port-io", "Privileged.AccessPort"),
    ];

    /// <summary>Both ABIs.</summary>
    public static void Run()
    {
        Race(Abi.PvmRfc1, [1, 2, 3]);
        Race(Abi.XenPv64, [1, 2, 3]);
    }

    /// <summary>PVM.</summary>
    public static void RunPvm() => Race(Abi.PvmRfc1, [1, 2, 3]);

    /// <summary>Xen.</summary>
    public static void RunXen() => Race(Abi.XenPv64, [1, 2, 3]);

    private static void Race(Abi abi, ulong[] seeds)
    {
        (long[] Random, long[] Guided)[] runs = [.. seeds.Select(seed => (Random(abi, seed), Guided(abi, seed)))];
        using IProbedModel model = ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null);
        int[] executed = [.. Enumerable.Range(0, model.Rules.Length).Where(rule => runs.Any(run => run.Random[rule] > 0 || run.Guided[rule] > 0))];
        int[] keptOut = [.. executed.Where(rule => KeptOut.Any(row => row.Implementation == model.Rules[rule].Implementation))];
        int[] reachable = [.. executed.Except(keptOut)];
        Console.WriteLine($"{abi.Text()}: {reachable.Length} rules of {model.Rules.Length} can be reached; kept out by exclusions but executed by chance: {Names(keptOut)}");
        for (int i = 0; i < seeds.Length; i++)
        {
            long random = Last(runs[i].Random, reachable);
            long guided = Last(runs[i].Guided, reachable);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{abi.Text()} seed {seeds[i]}: random {Text(random, RandomCases)}, guided {Text(guided, GuidedCases)}: {(guided == long.MaxValue ? "not all" : $"1 / {Math.Min(random, RandomCases) / (double)guided:F1}{(random == long.MaxValue ? " or less" : "")}")}"));
            Console.WriteLine($"  random last {LastFew(runs[i].Random)}\n  guided last {LastFew(runs[i].Guided)}");
        }

        string Names(IEnumerable<int> rules) => string.Join(", ", rules.Select(rule => $"{model.Rules[rule].Section} ({model.Rules[rule].Implementation})").DefaultIfEmpty("none"));

        string LastFew(long[] first) => string.Join(", ", reachable.OrderByDescending(rule => First(first, rule)).Take(6).Select(rule =>
            $"{model.Rules[rule].Implementation} {(first[rule] == 0 ? "never" : first[rule].ToString("N0", CultureInfo.InvariantCulture))}"));
    }

    private static string Text(long last, long most) => string.Create(CultureInfo.InvariantCulture, $"{(last == long.MaxValue ? "more than " : "")}{Math.Min(last, most):N0} cases");

    private static long Last(long[] first, int[] rules) => rules.Max(rule => First(first, rule));

    private static long First(long[] first, int rule) => first[rule] == 0 ? long.MaxValue : first[rule];

    private static long[] Random(Abi abi, ulong seed)
    {
        using FirstUse first = new(ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null));
        GeneratedCases cases = new(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd, seed);
        int[] counts = new int[first.Rules.Length];
        for (ulong i = 0; i < RandomCases; i++)
        {
            first.Run(cases.Generate(i));
            first.AddRules(counts);
        }

        return first.First;
    }

    private static long[] Guided(Abi abi, ulong seed)
    {
        FirstUse? used = null;
        GeneratorOptions options = GeneratorOptions.DefaultsFor(abi);
        CampaignParts parts = new()
        {
            Targets = [() => ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null)],
            Source = () => new GeneratedCases(options, CpuProfile.DefaultAmd, seed),
            Allowed = testCase => Session.MayRunLive(testCase, CpuProfile.DefaultAmd),
            Guide = new GuideParts
            {
                Model = () => used = new FirstUse(ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null)),
                Source = () => new Swarm(options, CpuProfile.DefaultAmd, seed),
                Target = 0,
            },
        };
        CampaignSummary summary = new Campaign(new CampaignOptions { Seed = seed, Count = (ulong)GuidedCases }, parts).Run(CancellationToken.None);
        return summary.Failure is Exception failure ? throw new InvalidOperationException("the campaign stopped", failure) : used!.First;
    }

    /// <summary>Remembers with which run each rule was first used. Cases that the model cannot run do not count as uses, but as runs; so do those that guidance runs twice.</summary>
    private sealed class FirstUse(IProbedModel model) : IProbedModel
    {
        private long _runs;
        private bool _comparable;

        public long[] First { get; } = new long[model.Rules.Length];

        public TargetInfo Info => model.Info;

        public ImmutableArray<RuleName> Rules => model.Rules;

        public Span<byte> Edges => model.Edges;

        public Outcome Run(TestCase testCase)
        {
            Outcome outcome = model.Run(testCase);
            _comparable = outcome.Comparable;
            return outcome;
        }

        public void AddRules(Span<int> counts)
        {
            counts.Clear();
            model.AddRules(counts);
            _runs++;
            for (int rule = 0; rule < counts.Length; rule++)
            {
                if (_comparable && counts[rule] > 0 && First[rule] == 0)
                {
                    First[rule] = _runs;
                }
            }
        }

        public void Count(TestCase testCase, int[] counts) => model.Count(testCase, counts);

        public void Dispose() => model.Dispose();
    }
}
