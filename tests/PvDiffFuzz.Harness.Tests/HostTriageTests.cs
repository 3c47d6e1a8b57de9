using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Recordings and live targets compared: nobody is right, silence is no agreement, and every case is counted.</summary>
public sealed class HostTriageTests
{
    private static readonly ImmutableArray<CaseFile> Corpus =
    [
        .. new[] { ("add", "4801d8"), ("adc", "4811d8"), ("inc", "48ffc0"), ("unknown", "0f0b") }
            .Select(c => new CaseFile { Comment = "why", Id = c.Item1, Case = Cases.Of(c.Item2).With(Core.Register.Rax, 1) }),
    ];

    [Fact]
    public void SidesThatAnswerAlikeAgreeOnEveryCase()
    {
        HostTriageReport report = Triage([Recorded("native:a", "hardware", "a", Right), Recorded("native:b", "hardware", "b", Right)], Corpus);

        Assert.Equal((4, 4, 4, 0, 0), (report.Cases, report.Compared, report.Agree, report.NotCompared, report.Incomplete));
        Assert.Equal((0, 0, 0), (report.New, report.Known, report.Explained));
        Assert.Empty(report.Groups);
        Assert.All(report.Sides, side => Assert.Equal(4, side.Comparable));
    }

    /// <summary>The same wrong carry in every case with ADC: one group, and with a third voice the one who stands alone is named.</summary>
    [Theory]
    [InlineData(2, null)]
    [InlineData(3, "recorded:native:b")]
    public void ADifferenceIsGroupedBySignatureAndAMajorityNamesTheDissenter(int sides, string? dissenter)
    {
        ImmutableArray<CaseFile> corpus = [.. Corpus, Corpus[1] with { Id = "adc-2", Case = Corpus[1].Case.With(Core.Register.Rbx, 5) }];
        TriageSide[] all = [Recorded("native:a", "hardware", "a", Right, corpus), Recorded("native:b", "hardware", "b", LosesAdc, corpus), Live("model.x86", "model", Right)];
        HostTriageReport report = Triage(all.AsSpan(0, sides), corpus);

        TriageGroup group = Assert.Single(report.Groups);
        Assert.Equal((2, 2, 3), (report.New, group.Count, report.Agree));
        Assert.Equal<string>(["adc", "adc-2"], [.. group.Cases]);
        Assert.Equal(Code.Adc_rm64_r64.ToString(), group.Signature.Form);
        Assert.Equal(dissenter ?? "", string.Join(" ", group.Dissenters));
    }

    /// <summary>Two hosts of one lineage that agree are one voice: they cannot outvote a model.</summary>
    [Fact]
    public void TwoHostsOfOneLineageDoNotMakeAMajority()
    {
        HostTriageReport report = Triage(
            [Recorded("native:a", "hardware", "a", LosesAdc), Recorded("native:b", "hardware", "b", LosesAdc), Live("model.x86", "model", Right)], Corpus);

        Assert.Empty(Assert.Single(report.Groups).Dissenters);
    }

    [Fact]
    public void ACaseThatOnlyOneSideHasIsCountedAndNotCompared()
    {
        HostTriageReport report = Triage([Recorded("a", "x", "a", Right, Corpus[..3]), Recorded("b", "y", "b", Right, Corpus[1..])], Corpus);

        Assert.Equal((4, 2, 2, 2), (report.Cases, report.Agree, report.NotCompared, report.Incomplete));
        Assert.Equal<long>([1, 1], [.. report.Sides.Select(side => side.Missing)]);
        Assert.All(report.Sides, side => Assert.Equal(0, side.Count(EndKind.Unsupported)));
    }

    /// <summary>Two targets that could not run a case agree about nothing; each is counted with its reason.</summary>
    [Fact]
    public void UnsupportedAndHarnessErrorsAreCountedAndNeverAgreement()
    {
        HostTriageReport report = Triage(
            [Recorded("a", "x", "a", _ => Outcome.Unsupported("no such page")), Recorded("b", "y", "b", _ => Outcome.Unsupported("no such page")), Live("c", "z", _ => Outcome.HarnessError("lost"))],
            Corpus);

        Assert.Equal((4, 0, 0, 4, 0), (report.Cases, report.Compared, report.Agree, report.NotCompared, report.Incomplete));
        Assert.Equal<long>([4, 4, 0], [.. report.Sides.Select(side => side.Count(EndKind.Unsupported))]);
        Assert.Equal(4, report.Sides[2].Count(EndKind.HarnessError));
        Assert.Equal(4, report.Sides[0].Reasons["no such page"]);
    }

    [Fact]
    public void AKnownDifferenceIsCountedUnderItsIdAlsoWhenTheRecordingHasANameOfItsOwn()
    {
        KnownEntry entry = new()
        {
            Comment = "why",
            Id = "adc-b",
            Kind = KnownKind.Implementation,
            Clause = "none",
            Reason = "none",
            Targets = [new TargetPattern("native", [new("host", "b")])],
            Forms = ["Adc"],
            Vectors = [],
            Fields = ["event.rflags.CF"],
        };
        TriageSide[] sides = [Recorded("native:a", "hardware", "a", Right), Recorded("native:b", "hardware", "b", LosesAdc)];
        HostTriageReport report = Triage(sides, Corpus, new KnownSet([entry]));

        Assert.Equal((0, 1, 3), (report.New, report.Known, report.Agree));
        Assert.Equal(1, report.KnownMatches["adc-b"]);
        Assert.Equal("known adc-b", Assert.Single(report.Groups).Verdict.ToString());
    }

    /// <summary>A live target that answers otherwise each time is no difference between hosts.</summary>
    [Fact]
    public void ALiveTargetThatChangesItsMindIsExplainedAway()
    {
        ulong calls = 0;
        Outcome Fickle(TestCase testCase) => Cases.Fault(rax: calls++);
        HostTriageReport report = Triage([Recorded("a", "x", "a", _ => Cases.Fault(rax: 1_000_000)), Live("b", "y", Fickle)], Corpus);

        Assert.Equal((0, 4), (report.New, report.Explained));
        Assert.All(report.Groups, g => Assert.Equal(VerdictKind.NonDeterministic, g.Verdict.Kind));
    }

    /// <summary>A wrong event early in a case spoils all later ones; what it is called, and whether it is known, is decided by the first.</summary>
    [Fact]
    public void WhatFollowsFromTheFirstDifferingEventIsNotPartOfTheSignature()
    {
        TestCase testCase = Corpus[0].Case with { Responses = [new Response([]), new Response([])] };
        ImmutableArray<CaseFile> corpus = [Corpus[0] with { Case = testCase }];
        Outcome few = new() { End = EndKind.Event, Events = [At(1, 1), At(13, 2), At(14, 3)], Registers = At(14, 3).Registers, Memory = [new MemoryWord(0x41_0000, 1)] };
        Outcome other = few with { Events = [At(1, 1), At(13, 7), At(6, 9)], Registers = At(6, 9).Registers, Memory = [] };
        HostTriageReport report = Triage([Recorded("a", "x", "a", _ => few, corpus), Recorded("b", "y", "b", _ => other, corpus)], corpus);

        TriageGroup group = Assert.Single(report.Groups);
        Assert.Equal(("#13", "gpr"), (group.Signature.Event, group.Signature.Fields));
        Assert.Equal<string>(["2", "7"], [.. Assert.Single(group.Cut.Comparison.Differences).Values]);
        Assert.Equal(few, group.First.Outcomes[0]);
        Assert.Contains(group.First.Comparison.Differences, d => d.Field.Kind == FieldKind.Memory);
    }

    private static Event At(byte vector, ulong rax) => Cases.Fault(vector, error: null, rax: rax).Events[0];

    [Fact]
    public void ARowOfEitherSidesMaskHidesWhatThatSideCannotShow()
    {
        TargetMask row = new("b.rax", "why", _ => true, Core.Register.Rax, ulong.MaxValue);
        TriageSide a = Recorded("a", "x", "a", _ => Cases.Fault(rax: 1));
        TriageSide b = Recorded("b", "y", "b", _ => Cases.Fault(rax: 2));
        TriageSide masked = b with { Target = new RecordedTarget(b.Target.Info with { Masks = [row] }, Corpus.Select(f => KeyValuePair.Create(f.Case, Cases.Fault(rax: 2)))) };

        Assert.Equal((4, 0), (Triage([a, b], Corpus).New, Triage([a, b], Corpus).Agree));
        Assert.Equal((0, 4, 4), (Triage([a, masked], Corpus).New, Triage([a, masked], Corpus).Agree, Triage([a, masked], Corpus).Masked));
        Assert.Equal(4, Triage([masked, a], Corpus).Agree);
    }

    [Fact]
    public void StoppedTriageSaysSo()
    {
        using CancellationTokenSource cancel = new();
        cancel.Cancel();
        using HostTriage triage = new([Recorded("a", "x", "a", Right), Recorded("b", "y", "b", Right)], CaseAnalyst.Blind, KnownSet.Empty);
        HostTriageReport report = triage.Run(Corpus, cancel.Token);

        Assert.True(report.Cancelled);
        Assert.Equal((0, 0), (report.Cases, report.Compared));
    }

    [Fact]
    public void OneSideIsNotEnough() =>
        Assert.Throws<ArgumentException>(() => new HostTriage([Recorded("a", "x", "a", Right)], CaseAnalyst.Blind, KnownSet.Empty));

    [Fact]
    public void TheUnionHasEachInputOnceUnderItsFirstName()
    {
        CaseFile copy = Corpus[0] with { Id = "copy" };

        Assert.Equal<string>(["add", "adc", "inc", "unknown"], [.. HostTriage.Union([.. Corpus, copy]).Select(f => f.Id)]);
    }

    private static HostTriageReport Triage(ReadOnlySpan<TriageSide> sides, ImmutableArray<CaseFile> cases, KnownSet? known = null)
    {
        using HostTriage triage = new([.. sides], new CaseAnalyst(new FakeMachine(), null, CpuVendor.Intel), known ?? KnownSet.Empty);
        return triage.Run(cases, CancellationToken.None);
    }

    private static Outcome Right(TestCase testCase) => new FakeMachine().Run(testCase);

    private static Outcome LosesAdc(TestCase testCase) => new FakeMachine((mnemonic, state) =>
    {
        if (mnemonic == Mnemonic.Adc)
        {
            state.Flip(1);
        }
    }).Run(testCase);

    private static TriageSide Live(string name, string lineage, Func<TestCase, Outcome> run) => new(new FakeTarget(Cases.Info(name, lineage), run), null);

    private static TriageSide Recorded(string name, string lineage, string host, Func<TestCase, Outcome> run, ImmutableArray<CaseFile>? cases = null)
    {
        TargetInfo info = Cases.Info(name, lineage) with { Fingerprint = new Fingerprint([new("host", host)]) };
        return new TriageSide(new RecordedTarget(info, (cases ?? Corpus).Select(f => KeyValuePair.Create(f.Case, run(f.Case)))), host + ".rec");
    }
}
