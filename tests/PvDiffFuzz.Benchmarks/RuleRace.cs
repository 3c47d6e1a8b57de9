using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Benchmarks;

/// <summary>How many cases it takes to execute every rule that can be reached, with guidance and without. Reachable is what random cases of any seed execute in a million.</summary>
internal static class RuleRace
{
    private const long RandomCases = 1_000_000;
    private const long GuidedCases = 400_000;

    /// <summary>PVM, three seeds.</summary>
    public static void Run() => Race(Abi.PvmRfc1, [1, 2, 3]);

    private static void Race(Abi abi, ulong[] seeds)
    {
        (long[] Random, long[] Guided)[] runs = [.. seeds.Select(seed => (Random(abi, seed), Guided(abi, seed)))];
        using IProbedModel model = ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null);
        int[] reachable = [.. Enumerable.Range(0, model.Rules.Length).Where(rule => runs.Any(run => run.Random[rule] > 0))];
        int[] documents = [.. reachable.Where(rule => model.Rules[rule].Document.Contains("pvm", StringComparison.OrdinalIgnoreCase))];
        for (int i = 0; i < seeds.Length; i++)
        {
            Print($"{abi.Text()} seed {seeds[i]}, all {reachable.Length} reachable rules", runs[i], reachable, model.Rules);
            Print($"{abi.Text()} seed {seeds[i]}, the {documents.Length} of PVM's documents", runs[i], documents, model.Rules);
        }
    }

    private static void Print(string what, (long[] Random, long[] Guided) run, int[] rules, ImmutableArray<RuleName> names)
    {
        int last = rules.MaxBy(rule => run.Guided[rule] == 0 ? long.MaxValue : run.Guided[rule]);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: random {Text(run.Random, RandomCases)}, guided {Text(run.Guided, GuidedCases)} cases; guided last {names[last].Implementation}"));

        string Text(long[] first, long most) =>
            rules.Count(rule => first[rule] == 0) is int missing and > 0 ? $"more than {most:N0} ({missing} missing)" : rules.Max(rule => first[rule]).ToString("N0", CultureInfo.InvariantCulture);
    }

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
        new Campaign(new CampaignOptions { Seed = seed, Count = (ulong)GuidedCases }, parts).Run(CancellationToken.None);
        return used!.First;
    }

    /// <summary>Remembers with which case each rule was first used. Cases that the model cannot run do not count as uses, but as cases.</summary>
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
