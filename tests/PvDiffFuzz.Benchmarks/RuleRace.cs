using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Benchmarks;

/// <summary>How many cases it takes to execute every rule that can be reached, with guidance and without.</summary>
internal static class RuleRace
{
    private const long MostCases = 150_000;

    /// <summary>PVM, three seeds.</summary>
    public static void Run()
    {
        Race(Abi.PvmRfc1, [1, 2]);
    }

    private static void Race(Abi abi, ReadOnlySpan<ulong> seeds)
    {
        List<(ulong Seed, long[] Random, long[] Guided)> runs = [];
        ImmutableArray<RuleName> rules = [];
        foreach (ulong seed in seeds)
        {
            long[] guided = Guided(abi, seed, out rules);
            long[] random = Random(abi, seed);
            runs.Add((seed, random, guided));
        }

        bool[] reachable = [.. rules.Select((_, rule) => runs.Any(run => run.Random[rule] > 0 || run.Guided[rule] > 0))];
        foreach ((ulong seed, long[] random, long[] guided) in runs)
        {
            Console.WriteLine("pvm guided last: " + string.Join("; ", rules.Select((rule, i) => (rule, guided[i], random[i])).Where(x => x.rule.Document.Contains("pvm", StringComparison.OrdinalIgnoreCase) && reachable[rules.IndexOf(x.rule)]).OrderByDescending(x => x.Item2 == 0 ? long.MaxValue : x.Item2).Take(8).Select(x => $"{x.Item2} ({x.Item3}) {x.rule.Implementation}")));
            foreach (string documents in (string[])["", "pvm"])
            {
                long r = Last(random, documents);
                long g = Last(guided, documents);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{abi.Text()} seed {seed} rules of '{documents}': random {r:N0}, guided {g:N0}, ratio {(double)g / r:F3}"));
            }

            Console.WriteLine("guided last: " + string.Join("; ", rules.Select((rule, i) => (rule, guided[i], random[i])).Where(x => reachable[rules.IndexOf(x.rule)]).OrderByDescending(x => x.Item2 == 0 ? long.MaxValue : x.Item2).Take(8).Select(x => $"{x.Item2} ({x.Item3}) {x.rule.Implementation}")));
            Console.WriteLine("random last: " + string.Join("; ", rules.Select((rule, i) => (rule, guided[i], random[i])).Where(x => reachable[rules.IndexOf(x.rule)]).OrderByDescending(x => x.Item3 == 0 ? long.MaxValue : x.Item3).Take(8).Select(x => $"{x.Item3} ({x.Item2}) {x.rule.Implementation}")));
        }

        long Last(long[] first, string documents) =>
            rules.Select((rule, i) => !reachable[i] || !rule.Document.Contains(documents, StringComparison.OrdinalIgnoreCase) ? 0 : first[i] == 0 ? MostCases : first[i]).Max();
    }

    private static long[] Random(Abi abi, ulong seed)
    {
        using IProbedModel model = ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null);
        FirstUse first = new(model);
        Generator generator = new(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd);
        for (ulong i = 0; i < MostCases; i++)
        {
            first.Run(generator.Generate(seed, i));
            first.AddRules(new int[first.Rules.Length]);
        }

        return first.First;
    }

    private static long[] Guided(Abi abi, ulong seed, out ImmutableArray<RuleName> rules)
    {
        FirstUse? last = null;
        CampaignParts parts = new()
        {
            Targets = [() => ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null)],
            Source = () => new GeneratedCases(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd, seed),
            Allowed = testCase => Session.MayRunLive(testCase, CpuProfile.DefaultAmd),
            Guide = new GuideParts { Model = () => last = new FirstUse(ModelsByAbi.Of(abi)!.Probed(CpuProfile.DefaultAmd, null)), Target = 0, Source = () => new Swarm(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd, seed) },
        };
        long start = Stopwatch.GetTimestamp();
        CampaignSummary summary = new Campaign(new CampaignOptions { Seed = seed, Count = (ulong)MostCases, RangeSize = 1024 }, parts).Run(CancellationToken.None);
        if (summary.Failure is not null) { Console.WriteLine(summary.Failure); }
        Console.WriteLine($"guided seed {seed}: {summary.Cases / Stopwatch.GetElapsedTime(start).TotalSeconds:F0}/s, runs {last!.Runs}, unsupported {summary.Unsupported}, budget {summary.BudgetSpent}; {string.Join(" ", summary.Evidence.Progress.Where((_, i) => i % 6 == 0).Select(p => $"{p.Cases}:{p.Edges}/{p.Rules}/{p.Corpus}"))}");
        rules = last!.Rules;
        return last.First;
    }

    /// <summary>Remembers with which run each rule was first used.</summary>
    private sealed class FirstUse(IProbedModel model) : IProbedModel
    {
        private bool _comparable;

        public long[] First { get; } = new long[model.Rules.Length];

        public long Runs { get; private set; }

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
            model.AddRules(counts);
            Runs++;
            for (int rule = 0; rule < counts.Length; rule++)
            {
                if (_comparable && counts[rule] > 0 && First[rule] == 0)
                {
                    First[rule] = Runs;
                }
            }
        }

        public void Count(TestCase testCase, int[] counts) => model.Count(testCase, counts);

        public void Dispose() => model.Dispose();
    }
}
