using System.Collections.Immutable;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>A rule is broken on purpose; the whole pipeline must find, explain, minimise and save it. Bounded by cases, never by time.</summary>
public sealed class PlantedFaultTests : IDisposable
{
    private readonly Laboratory _laboratory = new();

    /// <summary>A row for each broken rule.</summary>
    public static TheoryData<string> Plants => [.. Plant.All.Select(plant => plant.Name)];

    /// <inheritdoc/>
    public void Dispose() => _laboratory.Dispose();

    [Theory]
    [MemberData(nameof(Plants))]
    public void ABrokenRuleIsFoundAgainstTheModel(string name) => Prove(name, "model.x86");

    [NativeTheory]
    [MemberData(nameof(Plants))]
    public void ABrokenRuleIsFoundAgainstTheProcessor(string name) => Prove(name, "native");

    /// <summary>Without a plant the same cases on the same targets show nothing.</summary>
    [Fact]
    public void TheModelAgreesWithItself()
    {
        CampaignSummary summary = _laboratory.Run("model.x86", jobs: 2);

        Assert.Null(summary.Failure);
        Assert.Equal(Laboratory.Cases, summary.Cases);
        Assert.True(summary.Comparable > Laboratory.Cases * 9 / 10, $"only {summary.Comparable} of {summary.Cases} cases were comparable");
        Assert.Empty(summary.Signatures);
        Assert.Equal((0, 0, 0, 0), (summary.New, summary.Known, summary.Explained, summary.Masked));
        Assert.Equal(summary.Targets[0].Digest, summary.Targets[1].Digest);
        Assert.Empty(_laboratory.Folder.GetFiles());
    }

    /// <summary>Without a plant the same cases on the processor have no finding that a plant would be blamed for.</summary>
    [NativeFact]
    public void TheProcessorShowsNoPlant()
    {
        CampaignSummary summary = _laboratory.Run("native", jobs: 2);

        Assert.Null(summary.Failure);
        Assert.Equal(Laboratory.Cases, summary.Cases);
        Assert.True(summary.Comparable > Laboratory.Cases * 9 / 10, $"only {summary.Comparable} of {summary.Cases} cases were comparable");
        Assert.DoesNotContain(summary.Findings, f => Plant.All.Any(plant => Laboratory.Shows(plant, f)));
    }

    /// <summary>Several rules broken at once, so that there is much to find: the number of threads changes no byte.</summary>
    [Fact]
    public void OneJobAndTwoSaveTheSameFiles()
    {
        ImmutableArray<Plant> plants = Plant.All[..5];
        using Laboratory second = new();
        CampaignSummary one = _laboratory.Run("model.x86", jobs: 1, plants);
        CampaignSummary two = second.Run("model.x86", jobs: 2, plants);

        Assert.Equal(one.CaseDigest, two.CaseDigest);
        Assert.Equal(one.Targets.Select(t => t.Digest), two.Targets.Select(t => t.Digest));
        Assert.NotEqual(one.Targets[0].Digest, one.Targets[1].Digest);
        Assert.All(plants, plant => Assert.Contains(one.Findings, f => Laboratory.Shows(plant, f)));
        FileInfo[] files = [.. _laboratory.Folder.GetFiles().OrderBy(f => f.Name, StringComparer.Ordinal)];
        Assert.Equal(one.Findings.Count(), files.Length);
        Assert.Equal(files.Select(f => f.Name), second.Folder.GetFiles().Select(f => f.Name).Order(StringComparer.Ordinal));
        Assert.All(files, f => Assert.Equal(File.ReadAllBytes(f.FullName), File.ReadAllBytes(Path.Combine(second.Folder.FullName, f.Name))));
    }

    private void Prove(string name, string other)
    {
        Plant plant = Plant.All.Single(p => p.Name == name);
        CampaignSummary summary = _laboratory.Run(other, jobs: 2, plant);

        Assert.Null(summary.Failure);
        Assert.Empty(summary.Troubles);
        Assert.Equal(Laboratory.Cases, summary.Cases);
        Assert.True(summary.Comparable > Laboratory.Cases * 9 / 10, $"only {summary.Comparable} of {summary.Cases} cases were comparable");
        ImmutableArray<TriagedSignature> found = [.. summary.Findings.Where(f => Laboratory.Shows(plant, f))];
        Assert.True(found.Length > 0, $"not found; there was: {string.Join("; ", summary.Findings.Select(f => f.Signature))}");
        Assert.Contains(found, f => f.Signature.Event == plant.Event);
        List<string> problems = [];
        foreach (TriagedSignature finding in found)
        {
            problems.AddRange(_laboratory.Judge(finding, other, plant).Select(problem => $"{finding.Signature}: {problem}"));
        }

        // Against the model nothing but the plant can differ; the processor may have findings of its own, which other tests count.
        problems.AddRange(other == "native" ? [] : summary.Signatures.Where(f => f.Signature.Fields != plant.Fields).Select(f => $"{f.Signature} ({f.Verdict}) does not belong to the plant"));
        Assert.True(problems.Count == 0, string.Join('\n', problems));
    }
}
