using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Benchmarks;

/// <summary>A fault that shows after four events in one order: how long it takes to find it with guidance, and whether chance does in five times as long.</summary>
internal static class PlantRace
{
    private const int Plants = 3;
    private const int Steps = 4;

    /// <summary>The most common vectors, which plants leave out.</summary>
    private const int Common = 3;

    /// <summary>Seed of the plants. That of the campaigns is another.</summary>
    private const ulong Seed = 0x706c_616e_7473;

    private static readonly TimeSpan Guided = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan Random = TimeSpan.FromMinutes(5);

    /// <summary>A minute guided for each plant and for all sequences at once; five minutes at random, watched for all of them.</summary>
    public static void Run()
    {
        byte[] alphabet = Alphabet();
        Console.WriteLine($"vectors that generated cases raise, the most common ones first: {string.Join(", ", alphabet.Select(v => $"#{v}"))}");
        byte[][] all = [.. Sequences(alphabet)];
        byte[][] rare = [.. Sequences(alphabet[Common..]).Where(AllDiffer)];
        byte[][] plants = [.. Drawn(rare)];
        foreach (byte[] plant in plants)
        {
            Find(plant);
        }

        Watch(all, rare, plants, guided: true, Guided);
        Watch(all, rare, plants, guided: false, Random);
    }

    /// <summary>Every vector that some of many generated cases raise, the most common first.</summary>
    private static byte[] Alphabet()
    {
        using X86Model model = new(Cases.Profile);
        return [.. Cases.Generated(new GeneratorOptions(), 20_000).SelectMany(testCase => model.Run(testCase).Events).CountBy(e => e.Vector).OrderByDescending(v => v.Value).Select(v => v.Key)];
    }

    /// <summary>Every sequence of four vectors.</summary>
    private static IEnumerable<byte[]> Sequences(byte[] alphabet) =>
        from first in alphabet
        from second in alphabet
        from third in alphabet
        from fourth in alphabet
        select new[] { first, second, third, fourth };

    private static bool AllDiffer(byte[] sequence) => sequence.Distinct().Count() == Steps;

    /// <summary>The plants: four different vectors, none of the most common, for chance comes across those in any order soon enough.</summary>
    private static IEnumerable<byte[]> Drawn(byte[][] rare)
    {
        for (ulong plant = 0; plant < Plants; plant++)
        {
            CounterRandom random = new(Seed, plant);
            yield return random.Pick<byte[]>(rare);
        }
    }

    private static void Find(byte[] plant)
    {
        using CancellationTokenSource found = new();
        CampaignSummary summary = Campaign(() => new PlantedSequence(new X86Model(Cases.Profile), plant, found.Cancel), guided: true, Guided, found.Token);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"plant behind {Text(plant)}, guided: {(found.IsCancellationRequested ? "found" : "not found")} in {summary.Elapsed.TotalSeconds:F0} s, {summary.Cases:N0} cases, {summary.Findings.Count()} findings"));
    }

    private static void Watch(byte[][] all, byte[][] rare, byte[][] plants, bool guided, TimeSpan limit)
    {
        SeenSequences seen = new();
        CampaignSummary summary = Campaign(() => new SequenceWatch(new X86Model(Cases.Profile), seen), guided, limit, CancellationToken.None);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{(guided ? "guided" : "random")}, {summary.Elapsed.TotalSeconds:F0} s, {summary.Cases:N0} cases: {Share(all)} sequences of four vectors, {Share(rare)} of four different ones without the {Common} most common; of the plants {string.Join(" and ", plants.Where(p => seen.Contains(p)).Select(Text).DefaultIfEmpty("none"))}"));

        string Share(IEnumerable<byte[]> some) => string.Create(CultureInfo.InvariantCulture, $"{some.Count(s => seen.Contains(s)):N0} of {some.Count():N0}");
    }

    private static CampaignSummary Campaign(Func<ITarget> watched, bool guided, TimeSpan limit, CancellationToken cancel)
    {
        GeneratorOptions options = new();
        CampaignParts parts = new()
        {
            Targets = [() => new X86Model(Cases.Profile), watched],
            Source = () => new GeneratedCases(options, Cases.Profile, 1),
            Analyst = () => Session.Analyst(Cases.Profile),
            Allowed = testCase => Session.MayRunLive(testCase, Cases.Profile),
            Guide = !guided ? null : new GuideParts
            {
                Model = () => ModelsByAbi.Of(Abi.X86)!.Probed(Cases.Profile, null),
                Source = () => new Swarm(options, Cases.Profile, 1),
                Target = 0,
            },
        };
        return new Campaign(new CampaignOptions { Seed = 1, Jobs = Environment.ProcessorCount, Duration = limit }, parts).Run(cancel);
    }

    private static string Text(byte[] plant) => string.Join(", ", plant.Select(v => $"#{v}"));
}
