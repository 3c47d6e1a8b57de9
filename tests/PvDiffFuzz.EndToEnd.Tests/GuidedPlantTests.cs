using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>A fault behind four events in one order is found with guidance, by count of cases and not by time, and chance does not come across it in as many.</summary>
public sealed class GuidedPlantTests
{
    private const ulong Seed = 1;

    /// <summary>Cases of a campaign.</summary>
    private const int Most = 65_536;

    private readonly Composition _composition = new();

    /// <summary>Sequences of vectors.</summary>
    public static TheoryData<string> Plants => ["6,3,14,0", "13,0,6,4"];

    [Theory]
    [MemberData(nameof(Plants))]
    public void OnlyGuidanceFindsAFaultBehindFourEvents(string plant)
    {
        byte[] vectors = [.. plant.Split(',').Select(vector => byte.Parse(vector, CultureInfo.InvariantCulture))];
        (CampaignSummary guided, int shown) = Run(vectors, guided: true);
        (CampaignSummary random, int byChance) = Run(vectors, guided: false);

        Assert.True(shown > 0, "guidance did not come across the fault");
        Assert.Contains(guided.Findings, found => found.Signature.Fields.Contains("rflags", StringComparison.Ordinal));
        Assert.Equal(0, byChance);
        Assert.Empty(random.Findings);
    }

    private (CampaignSummary Summary, int Shown) Run(byte[] vectors, bool guided)
    {
        int shown = 0;
        GeneratorOptions options = new();
        CampaignParts parts = new()
        {
            Targets = [() => new X86Model(_composition.Host), () => new PlantedSequence(new X86Model(_composition.Host), vectors, () => shown++)],
            Source = () => new GeneratedCases(options, _composition.Host, Seed),
            Analyst = () => Session.Analyst(_composition.Host),
            Allowed = testCase => Session.MayRunLive(testCase, _composition.Host),
            Guide = !guided ? null : new GuideParts
            {
                Model = () => ModelsByAbi.Of(Abi.X86)!.Probed(_composition.Host, null),
                Source = () => new Swarm(options, _composition.Host, Seed),
                Target = 0,
            },
        };
        CampaignSummary summary = new Campaign(new CampaignOptions { Seed = Seed, Count = Most }, parts).Run(CancellationToken.None);
        Assert.Null(summary.Failure);
        return (summary, shown);
    }
}
