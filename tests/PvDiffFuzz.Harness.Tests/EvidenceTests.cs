using System.Collections.Immutable;
using PvDiffFuzz.Core;
using Code = Iced.Intel.Code;
using Mnemonic = Iced.Intel.Mnemonic;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>What campaigns tell about rules and masks.</summary>
public sealed class EvidenceTests : IDisposable
{
    private static readonly CampaignOptions Small = new() { Seed = 0x5eed, Count = 3200, BatchSize = 64, RangeSize = 256 };

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pvdf-evidence-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void ATargetOfAnotherLineageConfirmsTheRulesThatItAgreesOn()
    {
        CampaignEvidence evidence = Run("hardware", (_, _) => { });
        RuleEvidence add = Rule(evidence, Mnemonic.Add);

        Assert.Equal((3200, 100), (evidence.Cases, evidence.Sampled));
        Assert.InRange(add.Executed, 10, 100);
        Assert.Equal(add.Executed, add.Confirmed["hardware"]);
        Assert.All(evidence.Rules, rule => Assert.Empty(rule.Contradicted));
    }

    /// <summary>What repeats the model's mistakes confirms nothing.</summary>
    [Fact]
    public void ATargetOfTheModelsLineageConfirmsNothing()
    {
        CampaignEvidence evidence = Run("model.fake", (_, _) => { });

        Assert.InRange(Rule(evidence, Mnemonic.Add).Executed, 10, 100);
        Assert.All(evidence.Rules, rule => Assert.Empty(rule.Confirmed));
    }

    [Fact]
    public void ARuleThatNothingExecutedIsListed()
    {
        RuleEvidence jump = Rule(Run("hardware", (_, _) => { }), Mnemonic.Jmp);

        Assert.Equal(0, jump.Executed);
        Assert.Empty(jump.Confirmed);
    }

    /// <summary>Only the instruction at which a divergence shows is to blame, not the others of its case.</summary>
    [Fact]
    public void ADivergenceContradictsTheRulesOfItsInstructionAlone()
    {
        CampaignEvidence evidence = Run("hardware", (mnemonic, state) =>
        {
            if (mnemonic == Mnemonic.Adc)
            {
                state.Flip(RflagsBits.CF);
            }
        });

        Assert.InRange(Rule(evidence, Mnemonic.Adc).Contradicted["hardware"], 100, 3200);
        Assert.Equal([nameof(Mnemonic.Adc)], evidence.Rules.Where(r => !r.Contradicted.IsEmpty).Select(r => r.Rule.Implementation));
        Assert.InRange(Rule(evidence, Mnemonic.Adc).Confirmed["hardware"], 1, Rule(evidence, Mnemonic.Adc).Executed - 1); // CLC and STC repair it.
        Assert.InRange(Rule(evidence, Mnemonic.Add).Confirmed["hardware"], 1, Rule(evidence, Mnemonic.Add).Executed - 1);
    }

    [Fact]
    public void EvidenceDoesNotDependOnTheNumberOfJobs() =>
        Assert.Equal(Text(Run("hardware", SpoilAf)), Text(Run("hardware", SpoilAf, jobs: 3)));

    /// <summary>The bit that differs counts for its row and form; the row is counted where it masks as well.</summary>
    [Fact]
    public void AMaskedBitThatDiffersIsCountedForItsRow()
    {
        CampaignEvidence differing = Run("hardware", SpoilAf);
        CampaignEvidence same = Run("hardware", (_, _) => { });
        MaskedBit af = new("logic-af", nameof(Code.And_rm64_r64), "AF");

        Assert.InRange(Mask(differing, af).Hid, 100, 3200);
        Assert.InRange(Mask(differing, af).Masked, 1, 100);
        Assert.Equal((Mask(differing, af).Masked, 0), (Mask(same, af).Masked, Mask(same, af).Hid));
    }

    [Fact]
    public void TheSumOfTwoCampaignsHasTheirCounts()
    {
        CampaignEvidence one = Run("hardware", SpoilAf);
        CampaignEvidence sum = CampaignEvidence.None.Add(one).Add(one);

        Assert.Equal((2, 6400, 200), (sum.Campaigns, sum.Cases, sum.Sampled));
        Assert.Equal(2 * Rule(one, Mnemonic.Add).Confirmed["hardware"], Rule(sum, Mnemonic.Add).Confirmed["hardware"]);
        Assert.Equal(2 * one.Masks.Sum(m => m.Hid), sum.Masks.Sum(m => m.Hid));
        Assert.Equal(one.Rules.Length, sum.Rules.Length);
    }

    [Fact]
    public void StoredEvidenceReadsAsItWasWritten()
    {
        CampaignEvidence evidence = Run("hardware", SpoilAf);
        EvidenceFile.Write(Path.Combine(_folder.FullName, "1" + EvidenceFile.Extension), evidence);

        Assert.Equal(Text(evidence), Text(EvidenceFile.ReadFolder(_folder.FullName)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("{\"format\": 1}")]
    [InlineData("{\"format\": 2, \"evidence\": {}}")]
    [InlineData("{\"format\": 1, \"evidence\": {\"rules\": 5}}")]
    [InlineData("{\"format\": 1, \"evidence\": {\"rules\": null}}")]
    public void DamagedEvidenceIsRefusedByName(string text)
    {
        string path = Path.Combine(_folder.FullName, "1" + EvidenceFile.Extension);
        File.WriteAllText(path, text);

        Assert.StartsWith(path, Assert.Throws<EvidenceFileException>(() => EvidenceFile.ReadFolder(_folder.FullName)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderWithoutEvidenceIsRefusedByName() =>
        Assert.StartsWith(_folder.FullName, Assert.Throws<EvidenceFileException>(() => EvidenceFile.ReadFolder(_folder.FullName)).Message, StringComparison.Ordinal);

    [Fact]
    public void EvidenceThatCannotBeSavedIsATroubleAndNoFailure()
    {
        CampaignSummary summary = new Campaign(Small, Parts("hardware", (_, _) => { }) with { SaveEvidence = _ => throw new IOException("disk full") }).Run(CancellationToken.None);

        Assert.Null(summary.Failure);
        Assert.Contains("disk full", Assert.Single(summary.Troubles), StringComparison.Ordinal);
    }

    private static void SpoilAf(Mnemonic mnemonic, FakeMachine.State state)
    {
        if (mnemonic == Mnemonic.And)
        {
            state.Flip(RflagsBits.AF);
        }
    }

    private static string Text(CampaignEvidence evidence) => string.Join('\n', (string[])
    [
        $"{evidence.Campaigns} {evidence.Cases} {evidence.Comparable} {evidence.Sampled} {string.Join(' ', evidence.Targets)} {string.Join(' ', evidence.Forms)}",
        .. evidence.Rules.Select(r => $"{r.Rule} {r.Executed} {string.Join(' ', r.Confirmed)} {string.Join(' ', r.Contradicted)}"),
        .. evidence.Masks.Select(m => m.ToString()),
    ]);

    private static RuleEvidence Rule(CampaignEvidence evidence, Mnemonic mnemonic) => Assert.Single(evidence.Rules, r => r.Rule.Implementation == mnemonic.ToString());

    private static MaskEvidence Mask(CampaignEvidence evidence, MaskedBit bit) => Assert.Single(evidence.Masks, m => m.Bit == bit);

    private static CampaignEvidence Run(string other, Action<Mnemonic, FakeMachine.State> bug, int jobs = 1)
    {
        CampaignSummary summary = new Campaign(Small with { Jobs = jobs }, Parts(other, bug)).Run(CancellationToken.None);
        Assert.Null(summary.Failure);
        return summary.Evidence;
    }

    private static CampaignParts Parts(string other, Action<Mnemonic, FakeMachine.State> bug) => new()
    {
        Targets =
        [
            () => new FakeTarget(Cases.Info("model.one", "model"), new FakeMachine().Run),
            () => new FakeTarget(Cases.Info(other, other.StartsWith("model", StringComparison.Ordinal) ? "model" : "hardware"), new FakeMachine(bug).Run),
        ],
        Source = () => new FakeSource(0x5eed, 3, [.. FakeMachine.Repertoire, "4821d8", "4821d8"]),
        Analyst = () => CaseAnalyst.For(new FakeMachine(), CpuVendor.Amd),
        Rules = () => new FakeRules(),
    };

    /// <summary>One rule for each mnemonic.</summary>
    private sealed class FakeRules : IRuleCounter
    {
        private static readonly ImmutableArray<Mnemonic> Mnemonics = [Mnemonic.Add, Mnemonic.Adc, Mnemonic.And, Mnemonic.Inc, Mnemonic.Jmp];

        public ImmutableArray<RuleName> Rules { get; } = [.. Mnemonics.Select(m => new RuleName("SDM", $"vol.2 {m}", m.ToString()))];

        public void Count(TestCase testCase, int[] counts)
        {
            new FakeMachine((mnemonic, _) =>
            {
                int rule = Mnemonics.IndexOf(mnemonic);
                if (rule >= 0)
                {
                    counts[rule]++;
                }
            }).Run(testCase);
        }

        public void Dispose()
        {
            // Nothing is held.
        }
    }
}
