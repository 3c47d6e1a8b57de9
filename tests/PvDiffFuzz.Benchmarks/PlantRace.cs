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

    /// <summary>Seed of the plants. That of the campaigns is another.</summary>
    private const ulong Seed = 0x706c_616e_7473;

    /// <summary>A minute guided, and five unguided.</summary>
    public static void Run()
    {
        byte[] alphabet = Alphabet();
        Console.WriteLine($"vectors that generated cases raise: {string.Join(", ", alphabet.Select(v => $"#{v}"))}");
        byte[][] plants = [.. Enumerable.Range(0, Plants).Select(plant => Draw((ulong)plant, alphabet))];
        foreach (byte[] plant in plants)
        {
            Row(plant, guided: true, TimeSpan.FromMinutes(1));
        }

        foreach (byte[] plant in plants)
        {
            Row(plant, guided: false, TimeSpan.FromMinutes(5));
        }
    }

    /// <summary>Every vector that some of many generated cases raise.</summary>
    private static byte[] Alphabet()
    {
        using X86Model model = new(Cases.Profile);
        SortedSet<byte> vectors = [];
        foreach (TestCase testCase in Cases.Generated(new GeneratorOptions(), 20_000))
        {
            vectors.UnionWith(model.Run(testCase).Events.Select(e => e.Vector));
        }

        return [.. vectors];
    }

    private static byte[] Draw(ulong number, byte[] alphabet)
    {
        CounterRandom random = new(Seed, number);
        byte[] plant = new byte[Steps];
        for (int i = 0; i < plant.Length; i++)
        {
            plant[i] = random.Pick<byte>(alphabet);
        }

        return plant;
    }

    private static void Row(byte[] plant, bool guided, TimeSpan limit)
    {
        using CancellationTokenSource found = new();
        GeneratorOptions options = new();
        CampaignParts parts = new()
        {
            Targets = [() => new X86Model(Cases.Profile), () => new PlantedSequence(new X86Model(Cases.Profile), plant, found.Cancel)],
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
        CampaignSummary summary = new Campaign(new CampaignOptions { Seed = 1, Jobs = Environment.ProcessorCount, Duration = limit }, parts).Run(found.Token);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"plant behind {string.Join(", ", plant.Select(v => $"#{v}"))}, {(guided ? "guided" : "random")}: {(found.IsCancellationRequested ? "found" : "not found")} in {summary.Elapsed.TotalSeconds:F0} s, {summary.Cases:N0} cases, {summary.Findings.Count()} findings"));
    }
}
