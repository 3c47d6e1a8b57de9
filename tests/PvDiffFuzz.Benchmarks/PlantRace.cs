using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Benchmarks;

/// <summary>A fault that shows after four events in one order: how long it takes to find it with guidance, and whether chance does in five times as long.</summary>
internal static class PlantRace
{
    /// <summary>Sequences of vectors, each a plant of its own.</summary>
    private static readonly byte[][] Plants = [[6, 3, 14, 0], [13, 0, 6, 4], [3, 14, 12, 13]];

    /// <summary>A minute guided, and five unguided.</summary>
    public static void Run()
    {
        foreach (byte[] plant in Plants)
        {
            Row(plant, guided: true, TimeSpan.FromMinutes(1));
        }

        foreach (byte[] plant in Plants)
        {
            Row(plant, guided: false, TimeSpan.FromMinutes(5));
        }
    }

    private static void Row(byte[] plant, bool guided, TimeSpan limit)
    {
        using CancellationTokenSource found = new();
        GeneratorOptions options = new();
        CampaignParts parts = new()
        {
            Targets = [() => new X86Model(Cases.Profile), () => new Planted(plant, found)],
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

    /// <summary>The model, but its carry flag is wrong in the fourth of four events.</summary>
    private sealed class Planted(byte[] plant, CancellationTokenSource found) : ITarget
    {
        private readonly X86Model _model = new(Cases.Profile);

        public TargetInfo Info => _model.Info with { Name = "model.planted" };

        public Outcome Run(TestCase testCase)
        {
            Outcome outcome = _model.Run(testCase);
            ImmutableArray<Event> events = outcome.Events;
            for (int i = 0; i + plant.Length <= events.Length; i++)
            {
                if (events.AsSpan().Slice(i, plant.Length).ToArray().Select(e => e.Vector).SequenceEqual(plant))
                {
                    found.Cancel();
                    Event last = events[i + plant.Length - 1];
                    Event spoilt = last with { Registers = last.Registers with { Rflags = last.Registers.Rflags ^ RflagsBits.CF } };
                    return outcome with { Events = events.SetItem(i + plant.Length - 1, spoilt) };
                }
            }

            return outcome;
        }

        public void Dispose() => _model.Dispose();
    }
}
