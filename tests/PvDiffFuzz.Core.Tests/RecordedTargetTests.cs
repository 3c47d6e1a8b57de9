namespace PvDiffFuzz.Core.Tests;

public sealed class RecordedTargetTests
{
    [Fact]
    public void EveryRecordedTargetOfAFileAnswersAsItDid()
    {
        RecordedTarget[] targets = [.. RecordedTarget.Of(Samples.Adc)];

        Assert.Equal<string>(["recorded:native", "recorded:model.x86"], [.. targets.Select(t => t.Info.Name)]);
        Assert.Equal<string>(["hardware", "model"], [.. targets.Select(t => t.Info.Lineage)]);
        Assert.All(targets, t => Assert.Equal(TargetKind.Recording, t.Info.Kind));
        Assert.All(targets, t => Assert.Equal(1, t.Count));

        // The question is asked with another instance of the case, as a reader of another file would.
        TestCase asked = CaseFile.Parse(System.Text.Encoding.UTF8.GetBytes(Samples.Adc.Write()), "x").Case;
        for (int i = 0; i < targets.Length; i++)
        {
            Outcome outcome = targets[i].Run(asked);
            Assert.True(outcome.Comparable);
            Assert.Equal(Samples.Adc.Outcomes[i].Outcome, outcome);
        }
    }

    [Fact]
    public void ACaseThatWasNeverStoredIsUnsupported()
    {
        using RecordedTarget target = RecordedTarget.Of(Samples.Adc)[0];

        Outcome outcome = target.Run(Samples.Adc.Case with { Limits = new CaseLimits(1) });

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.Equal("no recorded outcome for this case", outcome.Detail);
    }

    [Fact]
    public void HostsWithDifferentFingerprintsStayApart()
    {
        RecordedOutcome native = Samples.Adc.Outcomes[0];
        CaseFile otherHost = Samples.Adc with { Outcomes = [native with { Fingerprint = new Fingerprint([new("cpu", "GenuineIntel 6.143.8")]) }] };

        Assert.Equal(3, RecordedTarget.Of(Samples.Adc, otherHost).Length);
        Assert.Equal(2, RecordedTarget.Of(Samples.Adc, Samples.Adc with { Id = "copy" }).Length);
    }

    [Fact]
    public void OneCaseWithTwoAnswersIsRefused()
    {
        RecordedOutcome native = Samples.Adc.Outcomes[0];
        CaseFile other = Samples.Adc with { Outcomes = [native with { Outcome = native.Outcome with { Memory = [] } }] };

        ArgumentException refused = Assert.Throws<ArgumentException>(() => RecordedTarget.Of(Samples.Adc, other));

        Assert.Contains("is stored with two different outcomes", refused.Message, StringComparison.Ordinal);
    }
}
