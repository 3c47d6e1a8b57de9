namespace PvDiffFuzz.Harness.Tests;

public sealed class JournalTests : IDisposable
{
    private static readonly CampaignOptions Options = new() { Seed = 0xabc, Count = 2048, BatchSize = 64, RangeSize = 256 };
    private readonly string _folder = Directory.CreateTempSubdirectory("pvdf-journal").FullName;

    private string JournalPath => Path.Combine(_folder, "j");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void WhatWasRunningWhenEverythingStoppedIsNamed()
    {
        using (Journal journal = new(JournalPath, Options, ["a", "b"]))
        {
            journal.Running(0, new CaseRange(0, 256));
            journal.Running(1, new CaseRange(256, 256));
            journal.Done(256);
            journal.Running(0, new CaseRange(512, 256));
        }

        JournalState state = JournalState.Read(JournalPath);

        Assert.Equal((0xabcUL, 256UL, false), (state.Seed, state.Next, state.Ended));
        Assert.Equal(["a", "b"], state.Targets.ToArray());
        Assert.Equal([new CaseRange(256, 256), new CaseRange(512, 256)], state.Suspects.ToArray());
    }

    [Fact]
    public void ALineThatWasBeingWrittenIsIgnored()
    {
        using (Journal journal = new(JournalPath, Options, ["a"]))
        {
            journal.Running(0, new CaseRange(0, 256));
        }

        File.AppendAllText(JournalPath, "run 0 4");

        Assert.Equal([new CaseRange(0, 256)], JournalState.Read(JournalPath).Suspects.ToArray());
    }

    [Fact]
    public void TheJournalStaysSmallAndKeepsItsMeaning()
    {
        using (Journal journal = new(JournalPath, Options, ["a"]))
        {
            for (ulong i = 0; i < 3000; i++)
            {
                journal.Running(0, new CaseRange(i * 256, 256));
                journal.Done((i + 1) * 256);
            }

            journal.Running(1, new CaseRange(3000 * 256, 256));
        }

        JournalState state = JournalState.Read(JournalPath);

        Assert.InRange(new FileInfo(JournalPath).Length, 1, 40_000);
        Assert.Equal(3000UL * 256, state.Next);
        Assert.Equal([new CaseRange(3000 * 256, 256)], state.Suspects.ToArray());
    }

    /// <summary>The target dies with the process at case 700: nothing below its range is run again, and the range can be left out.</summary>
    [Fact]
    public void AKilledCampaignGoesOnWhereItStopped()
    {
        List<ulong> ran = [];
        CampaignSummary killed = Run(Options, index => index == 700 ? throw new InvalidOperationException("host crash") : true, ran);
        Assert.NotNull(killed.Failure);
        JournalState state = JournalState.Read(JournalPath);

        Assert.False(state.Ended);
        Assert.Equal(512UL, state.Next);
        Assert.Contains(state.Suspects, s => s.Contains(700));

        ran.Clear();
        CampaignSummary rest = Run(state.Continue(Options, skipSuspects: true), _ => true, ran);

        Assert.Null(rest.Failure);
        Assert.Equal(256, rest.Skipped);
        Assert.Equal(Enumerable.Range(768, 2048 - 768).Select(i => (ulong)i), ran.Order());
        Assert.True(JournalState.Read(JournalPath).Ended);
        Assert.Empty(JournalState.Read(JournalPath).Suspects);
    }

    [Fact]
    public void ShardsGoOnWithTheirOwnRanges()
    {
        CampaignOptions second = Options with { Shard = new Shard(1, 3) };
        List<ulong> whole = [];
        Run(second, _ => true, whole);
        List<ulong> parts = [];
        Run(second with { Count = 768 }, _ => true, parts);
        CampaignOptions rest = JournalState.Read(JournalPath).Continue(second, skipSuspects: false);
        Run(rest, _ => true, parts);

        Assert.Equal(whole.Order(), parts.Order());
    }

    [Fact]
    public void AnotherCampaignsJournalIsRefused()
    {
        new Journal(JournalPath, Options, ["a"]).Dispose();
        JournalState state = JournalState.Read(JournalPath);

        Assert.Throws<JournalException>(() => state.Continue(Options with { Seed = 1 }, false));
        Assert.Throws<JournalException>(() => state.Continue(Options with { Shard = new Shard(0, 2) }, false));
    }

    /// <summary>With other generator options the same seed names other cases, so that going on would leave some out.</summary>
    [Fact]
    public void AJournalOfOtherCasesIsRefused()
    {
        CampaignOptions plain = Options with { Source = "generator 1 raw=5" };
        new Journal(JournalPath, plain, ["a"]).Dispose();
        JournalState state = JournalState.Read(JournalPath);

        Assert.Equal(plain.Source, state.Source);
        Assert.Equal(0UL, state.Continue(plain, false).Start);
        Assert.Contains("raw=5", Assert.Throws<JournalException>(() => state.Continue(Options with { Source = "generator 1 raw=6" }, false)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nonsense\n", ":1: 'nonsense' is no journal line")]
    [InlineData("", "no 'journal'")]
    [InlineData("journal 9\n", ":1: version '9'")]
    [InlineData("run 0 1\n", ":1: 'run'")]
    [InlineData("done x\n", ":1: 'x' is no hexadecimal number")]
    public void DamagedJournalsAreNamedWithFileAndLine(string text, string message)
    {
        File.WriteAllText(JournalPath, text);

        Assert.Contains(message, Assert.Throws<JournalException>(() => JournalState.Read(JournalPath)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AJournalThatCannotBeWrittenIsATroubleNotAnEnd()
    {
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");
        CampaignSummary summary = Run(Options, _ => true, [], Path.Combine(file, "below-a-file"));

        Assert.Null(summary.Failure);
        Assert.Equal(2048, summary.Cases);
        Assert.StartsWith("no journal: ", Assert.Single(summary.Troubles), StringComparison.Ordinal);
    }

    private CampaignSummary Run(CampaignOptions options, Func<ulong, bool> each, List<ulong> ran, string? journal = null)
    {
        FakeMachine machine = new();
        CampaignParts parts = new()
        {
            Targets = Fakes.Factories(
                () => new FakeTarget("a", machine.Run),
                () => new FakeTarget("b", c =>
                {
                    each(c.Registers.Gpr[3]);
                    ran.Add(c.Registers.Gpr[3]);
                    return machine.Run(c);
                })),
            Source = () => new FakeSource(1, 2, FakeMachine.Repertoire),
            JournalPath = journal ?? JournalPath,
        };
        return new Campaign(options, parts).Run(CancellationToken.None);
    }
}
