using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Guided campaigns: what they depend on, and that they find what chance does not.</summary>
public sealed class GuidedCampaignTests
{
    private static readonly CampaignOptions Options = new() { Seed = 0x5eed, Count = 6000, BatchSize = 64, RangeSize = 256 };

    /// <summary>The number of jobs changes nothing: cases, corpus and coverage are those of the seed.</summary>
    [Fact]
    public void JobsDoNotMatter()
    {
        (CampaignSummary Summary, List<TestCase> Kept)[] runs = [.. new[] { 1, 2, 3 }.Select(jobs => Run(Options with { Jobs = jobs }))];

        Assert.Null(runs[0].Summary.Failure);
        Assert.Equal(6000, runs[0].Summary.Cases);
        Assert.True(runs[0].Kept.Count > 20, $"only {runs[0].Kept.Count} cases kept");
        foreach ((CampaignSummary summary, List<TestCase> kept) in runs[1..])
        {
            Assert.Equal(runs[0].Summary.CaseDigest, summary.CaseDigest);
            Assert.Equal(runs[0].Summary.Targets.Select(t => t.Digest), summary.Targets.Select(t => t.Digest));
            Assert.Equal(runs[0].Kept, kept);
            Assert.Equal(runs[0].Summary.Evidence.Progress[^1], summary.Evidence.Progress[^1]);
        }
    }

    /// <summary>Seed, shard and starting corpus are what cases depend on, and without guidance they are the source's.</summary>
    [Fact]
    public void SeedShardAndCorpusMatter()
    {
        ulong digest = Run(Options).Summary.CaseDigest;

        Assert.Equal(digest, Run(Options).Summary.CaseDigest);
        Assert.NotEqual(digest, Run(Options with { Seed = 1 }).Summary.CaseDigest);
        Assert.NotEqual(digest, Run(Options with { Shard = new Shard(1, 2), Count = 12000 }).Summary.CaseDigest);
        Assert.NotEqual(digest, Run(Options, corpus: [Cases.Of("f9", "4811d8")]).Summary.CaseDigest);
        Assert.NotEqual(digest, Unguided().CaseDigest);
        Assert.Equal(Unguided().CaseDigest, Unguided().CaseDigest);
        Assert.Empty(Unguided().Evidence.Progress);
    }

    /// <summary>Nothing is kept that shows nothing new, and every kept case is well formed and was run.</summary>
    [Fact]
    public void KeptCasesAreWellFormedAndDifferent()
    {
        (CampaignSummary summary, List<TestCase> kept) = Run(Options);

        Assert.All(kept, testCase => Assert.Null(testCase.Check()));
        Assert.Equal(kept.Count, kept.Distinct().Count());
        Assert.Equal(kept.Count, summary.Evidence.Progress[^1].Corpus);
        Assert.Equal(summary.Evidence.Progress.OrderBy(p => p.Cases).Select(p => p.Edges), summary.Evidence.Progress.Select(p => p.Edges).Order());
    }

    /// <summary>Cases that may not run are never made.</summary>
    [Fact]
    public void WhatIsNotAllowedIsNotMade()
    {
        bool seen = false;
        CampaignParts parts = Parts([]);
        Func<TestCase, bool> allowed = testCase => !testCase.Code.Bytes.Contains((byte)0xcc);
        parts = parts with
        {
            Allowed = allowed,
            Targets = [() => new FakeTarget("model.fake", testCase =>
            {
                seen |= !allowed(testCase);
                return new FakeMachine().Run(testCase);
            })],
            Guide = parts.Guide! with { Target = null },
        };
        new Campaign(Options, parts).Run(CancellationToken.None);

        Assert.False(seen);
    }

    private static (CampaignSummary Summary, List<TestCase> Kept) Run(CampaignOptions options, params TestCase[] corpus)
    {
        List<TestCase> kept = [];
        CampaignParts parts = Parts(corpus);
        parts = parts with { SaveEvidence = _ => { }, Guide = parts.Guide! with { Save = kept.AddRange } };
        return (new Campaign(options, parts).Run(CancellationToken.None), kept);
    }

    private static CampaignSummary Unguided() => new Campaign(Options, Parts([]) with { Guide = null }).Run(CancellationToken.None);

    private static CampaignParts Parts(TestCase[] corpus) => new()
    {
        Targets = [() => new FakeTarget("model.fake", new FakeMachine().Run), () => new FakeTarget("hardware", new FakeMachine().Run)],
        Source = () => new FakeSource(1, 6, FakeMachine.Repertoire),
        Guide = new GuideParts
        {
            Model = () => new FakeProbedModel(),
            Source = () => new OneSetting(new FakeSource(1, 6, FakeMachine.Repertoire)),
            Target = 0,
            Corpus = [.. corpus],
        },
    };

    private sealed class OneSetting(ICaseSource source) : ISettingsSource
    {
        public int Settings => 1;

        public TestCase Generate(ulong index) => source.Generate(index);

        public TestCase Generate(int setting, ulong index) => source.Generate(index);
    }
}
