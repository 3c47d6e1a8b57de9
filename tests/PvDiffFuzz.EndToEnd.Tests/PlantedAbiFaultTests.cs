using System.Collections.Immutable;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>As <see cref="PlantedFaultTests"/>, for the rules of paravirtual ABIs: each broken one is found, cut to little, named by its fields, saved, and comes back from its file.</summary>
public sealed class PlantedAbiFaultTests : IDisposable
{
    /// <summary>Cases of a campaign.</summary>
    private const int Cases = 4_096;

    /// <summary>Instructions of a finding that is cut to little: one that raises the event, and one that sets it up.</summary>
    private const int Few = 2;

    private const ulong Seed = 0x5eed;

    private static readonly CpuProfile Processor = CpuProfile.DefaultAmd;

    private readonly Composition _composition = new();
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pvdf-e2e-");

    /// <summary>A row for each broken rule.</summary>
    public static TheoryData<string> Plants => [.. AbiPlant.All.Select(plant => plant.ToString())];

    /// <summary>The ABIs that have plants.</summary>
    public static TheoryData<string> Abis => [.. AbiPlant.All.Select(plant => plant.Abi.Text()).Distinct()];

    /// <inheritdoc/>
    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [MemberData(nameof(Plants))]
    public void ABrokenRuleIsFound(string name)
    {
        AbiPlant plant = AbiPlant.All.Single(p => p.ToString() == name);
        CampaignSummary summary = Run(plant.Abi, plant);

        Assert.Null(summary.Failure);
        Assert.Empty(summary.Troubles);
        ImmutableArray<TriagedSignature> found = [.. summary.Findings];
        Assert.NotEmpty(found);
        Assert.All(found, f => Assert.Equal(plant.Fields, f.Signature.Fields));
        Assert.Contains(found, f => f.Finding!.Instructions <= Few);
        Assert.All(found, f => Assert.Equal($"{PlantedFault.Name}/{ModelsByAbi.Of(plant.Abi)!.Name}", f.Signature.Camps));
        Assert.All(found, f => ComesBack(f, plant));
    }

    /// <summary>Without a plant the same cases show nothing.</summary>
    [Theory]
    [MemberData(nameof(Abis))]
    public void TheModelAgreesWithItself(string abi)
    {
        CampaignSummary summary = Run(AbiPlant.All.First(plant => plant.Abi.Text() == abi).Abi, plant: null);

        Assert.Null(summary.Failure);
        Assert.Equal(Cases, summary.Cases);
        Assert.True(summary.Comparable > Cases * 9 / 10, $"only {summary.Comparable} of {summary.Cases} cases were comparable");
        Assert.Empty(summary.Signatures);
        Assert.Empty(_folder.GetFiles());
    }

    private void ComesBack(TriagedSignature found, AbiPlant plant)
    {
        CaseFile file = CaseFile.Read(found.Path!);
        Assert.Equal(File.ReadAllText(found.Path!), file.Write());
        Assert.Equal("new", file.Verdict);
        using CaseRunner runner = CaseRunner.Create(Targets(plant.Abi, plant), Session.Analyst(Processor));
        Examination again = runner.Examine(file.Case);
        Assert.True(again.Diverges, $"{found.Signature} does not come back from its file");
        Assert.Equal(found.Signature, Divergence.Of(again, runner).Signature);
        Assert.Equal(ReplayStatus.Open, new Replay(runner, KnownSet.Empty).Run(found.Path!, file).Status);
    }

    private CampaignSummary Run(Abi abi, AbiPlant? plant)
    {
        CampaignParts parts = new()
        {
            Targets = Targets(abi, plant),
            Source = () => new GeneratedCases(GeneratorOptions.DefaultsFor(abi), Processor, Seed),
            Analyst = () => Session.Analyst(Processor),
            Known = Session.Known(null),
            Store = new FolderStore(_folder.FullName, finding => FindingText.Of(finding, Processor)),
            Allowed = testCase => Session.MayRunLive(testCase, Processor),
        };
        return new Campaign(new CampaignOptions { Seed = Seed, Count = Cases, Jobs = 2 }, parts).Run(CancellationToken.None);
    }

    private ImmutableArray<Func<ITarget>> Targets(Abi abi, AbiPlant? plant)
    {
        string model = ModelsByAbi.Of(abi)!.Name;
        return [() => _composition.Create(model, Processor), () => new PlantedAbiFault(_composition.Create(model, Processor), plant)];
    }
}
