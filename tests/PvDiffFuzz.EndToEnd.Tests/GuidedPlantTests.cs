using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>A fault behind four events in one order is found with guidance, by count of cases and not by time, and chance does not come across it in as many. The processor is fixed, so that every host makes the same cases.</summary>
public sealed class GuidedPlantTests
{
    private const ulong Seed = 1;

    /// <summary>Cases of a campaign.</summary>
    private const int Most = 65_536;

    /// <summary>Sequences of vectors.</summary>
    public static TheoryData<string> Plants => ["14,13,4,13", "6,12,6,13"];

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

    private static (CampaignSummary Summary, int Shown) Run(byte[] vectors, bool guided)
    {
        int shown = 0;
        GeneratorOptions options = new();
        CampaignParts parts = new()
        {
            Targets = [() => new X86Model(CpuProfile.DefaultAmd), () => new PlantedSequence(new X86Model(CpuProfile.DefaultAmd), vectors, () => shown++)],
            Source = () => new GeneratedCases(options, CpuProfile.DefaultAmd, Seed),
            Analyst = () => Session.Analyst(CpuProfile.DefaultAmd),
            Allowed = testCase => Session.MayRunLive(testCase, CpuProfile.DefaultAmd),
            Guide = !guided ? null : new GuideParts
            {
                Model = () => ModelsByAbi.Of(Abi.X86)!.Probed(CpuProfile.DefaultAmd, null),
                Source = () => new Swarm(options, CpuProfile.DefaultAmd, Seed),
                Target = 0,
            },
        };
        CampaignSummary summary = new Campaign(new CampaignOptions { Seed = Seed, Count = Most }, parts).Run(CancellationToken.None);
        Assert.Null(summary.Failure);
        return (summary, shown);
    }
}
