using Iced.Intel;
using PvDiffFuzz.Core;
using Flag = PvDiffFuzz.Core.RflagsBits;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests;

public sealed class CampaignTests
{
    private static readonly CampaignOptions Small = new() { Seed = 0x5eed, Count = 3000, BatchSize = 64, RangeSize = 256 };

    [Fact]
    public void APlantedBugIsFoundOnceMinimisedAndCounted()
    {
        CampaignSummary summary = Run(Small, Parts(AdcLosesCarry));

        TriagedSignature found = Assert.Single(summary.Findings);
        Assert.Equal("x86 Adc_rm64_r64 end event.rflags.CF hardware/model.fake", found.Signature.ToString());
        Assert.Equal(1, found.Finding?.Instructions);
        Assert.Equal(found.Count, summary.New);
        Assert.True(found.Count > 100, $"only {found.Count} cases showed it");
        Assert.Equal(3000, summary.Cases);
        Assert.Equal(3000, summary.Comparable);
        Assert.Null(summary.Failure);
    }

    [Fact]
    public void TargetsThatAgreeGiveNoFinding()
    {
        CampaignSummary summary = Run(Small, Parts((_, _) => { }));

        Assert.Equal(3000, summary.Comparable);
        Assert.Empty(summary.Signatures);
        Assert.Equal((0, 0, 0), (summary.New, summary.Known, summary.Explained));
    }

    [Fact]
    public void UnsupportedCasesAreCountedAndAreNoAgreement()
    {
        FakeMachine machine = new();
        CampaignParts parts = Parts(machine.Run, c => c.Registers.Gpr[3] % 4 == 0 ? Outcome.Unsupported("every fourth") : machine.Run(c));

        CampaignSummary summary = Run(Small, parts);

        Assert.Equal(3000 - 750, summary.Comparable);
        Assert.Equal(750, summary.Unsupported);
        Assert.Equal(750, summary.Targets[1].Ends[EndKind.Unsupported]);
        Assert.Equal("Unsupported: every fourth", Assert.Single(summary.Targets[1].Reasons).Key);
        Assert.Empty(summary.Signatures);
    }

    [Fact]
    public void HarnessTroubleNamesItsCase()
    {
        FakeMachine machine = new();
        CampaignParts parts = Parts(machine.Run, c => c.Registers.Gpr[3] == 7 ? Outcome.HarnessError("gone") : machine.Run(c));

        CampaignSummary summary = Run(Small, parts);

        Assert.Equal(1, summary.HarnessErrors);
        Assert.Equal("HarnessError of case 7: gone", Assert.Single(summary.Targets[1].Reasons).Key);
    }

    /// <summary>A target that answers a batch otherwise, and its cases as usual when they are asked again, has been another one for a while: the range is run again and counted once. A few such answers are examined.</summary>
    [Theory]
    [InlineData(64, 1)]
    [InlineData(8, 0)]
    public void ARangeWhoseDifferencesDoNotComeBackIsRunAgain(int wrong, int again)
    {
        FakeMachine machine = new();
        int answered = 0;
        CampaignParts parts = Parts(machine.Run, c => ++answered > 512 && answered <= 512 + wrong ? machine.Run(c) with { End = EndKind.Halt } : machine.Run(c));

        CampaignSummary summary = Run(Small, parts);

        Assert.Equal((again, 3000L, 0L), (summary.RanAgain, summary.Cases, summary.New));
        Assert.Equal(again == 1, summary.Signatures.IsEmpty);
        Assert.Equal(Run(Small, Parts(machine.Run, machine.Run)).CaseDigest, summary.CaseDigest);
    }

    /// <summary>A target that answers nearly everything otherwise from some case on, however often it is asked, is made again; one that does so from the first case on is itself, and its findings count.</summary>
    [Theory]
    [InlineData(1024, false)]
    [InlineData(0, true)]
    public void ATargetThatHasBecomeAnotherIsMadeAgain(int good, bool finds)
    {
        FakeMachine machine = new();
        int targets = 0;
        CampaignParts parts = Parts(machine.Run, machine.Run) with { Targets = Fakes.Factories(() => new FakeTarget("a", machine.Run), Spoiled) };

        CampaignSummary summary = Run(Small, parts);

        Assert.Equal((finds, 3000L), (summary.New > 0, summary.Cases));
        Assert.InRange(summary.RanAgain, 1, 2);

        FakeTarget Spoiled()
        {
            // The second one, and those of triage, stay good.
            int answered = targets++ == 0 || good == 0 ? 0 : int.MinValue;
            return new FakeTarget("b", c => ++answered > good ? machine.Run(c) with { End = EndKind.Halt } : machine.Run(c));
        }
    }

    [Fact]
    public void OneJobAndTwoGiveTheSameByteForByte()
    {
        CampaignSummary[] runs = [.. new[] { 1, 2, 3 }.Select(jobs => Run(Small with { Jobs = jobs }, Parts(SeveralBugs)))];

        Assert.True(runs[0].Findings.Count() >= 3, "too few findings to show anything");
        foreach (CampaignSummary run in runs[1..])
        {
            Assert.Equal(runs[0].CaseDigest, run.CaseDigest);
            Assert.Equal(runs[0].Targets.Select(t => t.Digest), run.Targets.Select(t => t.Digest));
            Assert.Equal(runs[0].Signatures.Select(Text), run.Signatures.Select(Text));
            Assert.Equal(runs[0].Signatures.Select(s => s.Finding?.Divergence.Case), run.Signatures.Select(s => s.Finding?.Divergence.Case));
        }

        static string Text(TriagedSignature s) => $"{s.Signature} {s.Index} {s.Count} {s.Verdict} {s.Finding?.Index}";
    }

    [Fact]
    public void ShardsTogetherRunEveryCaseOnce()
    {
        CampaignSummary whole = Run(Small, Parts(AdcLosesCarry));
        CampaignSummary[] shards = [.. Enumerable.Range(0, 3).Select(i => Run(Small with { Shard = new Shard(i, 3) }, Parts(AdcLosesCarry)))];

        Assert.Equal(whole.Cases, shards.Sum(s => s.Cases));
        Assert.Equal(whole.CaseDigest, shards.Aggregate(0UL, (sum, s) => unchecked(sum + s.CaseDigest)));
        Assert.Equal(whole.New, shards.Sum(s => s.New));
    }

    [Fact]
    public void ADigestShowsASingleChangedBit()
    {
        CampaignSummary plain = Run(Small, Parts((_, _) => { }));
        CampaignSummary changed = Run(Small, Parts(new FakeMachine().Run, c => c.Registers.Gpr[3] == 1234 ? Cases.Fault() : new FakeMachine().Run(c)));

        Assert.Equal(plain.CaseDigest, changed.CaseDigest);
        Assert.Equal(plain.Targets[0].Digest, changed.Targets[0].Digest);
        Assert.NotEqual(plain.Targets[1].Digest, changed.Targets[1].Digest);
    }

    /// <summary>A target that answers wrongly once in a while, whatever the case.</summary>
    [Fact]
    public void AFlakyTargetGivesNoFinding()
    {
        FakeMachine machine = new();
        int run = 0;
        CampaignSummary summary = Run(Small, Parts(machine.Run, c => ++run % 501 == 0 ? Cases.Fault(rax: 1) : machine.Run(c)));

        Assert.Empty(summary.Findings);
        Assert.True(summary.Explained >= 3);
        // By chance the wrong answer may come while the order of cases is being tried.
        Assert.All(summary.Signatures, s => Assert.Contains(s.Verdict.Kind, new[] { VerdictKind.NonDeterministic, VerdictKind.StateLeak }));
    }

    /// <summary>
    /// MOV after ADC is wrong, and so is ADC where RBX is 0. The minimiser makes RBX 0, so that another cause shows first in what it leaves: when that one is described, so is the finding.
    /// </summary>
    [Fact]
    public void AFindingThatMinimisesToAnotherCauseIsHeldAgainstThatOne()
    {
        static Outcome Wrong(TestCase testCase)
        {
            bool added = false;
            return new FakeMachine((mnemonic, state) =>
            {
                bool first = mnemonic == Mnemonic.Adc && state.Registers[Register.Rbx] == 0;
                state.Registers = first || (mnemonic == Mnemonic.Mov && added) ? state.Registers.With(Register.Rdx, 7) : state.Registers;
                added |= mnemonic == Mnemonic.Adc;
            }).Run(testCase);
        }

        CampaignParts parts = Parts(new FakeMachine().Run, Wrong) with { Source = () => new OneCase(Cases.Of("4811d8", "48c7c105000000").With(Register.Rbx, 5)) };
        CampaignParts described = parts with { Known = new KnownSet([KnownReader.Parse(System.Text.Encoding.UTF8.GetBytes(AdcEntry), "x.known")]) };

        Assert.Equal(1, Run(Small with { Count = 1 }, parts).New);
        Assert.Equal("adc", Assert.Single(Run(Small with { Count = 1 }, described).Signatures).Verdict.Why);
    }

    /// <summary>ADC leaves RDX wrong, MOV puts it right, and INC behind it leaves RSI wrong. What is described is the first of it, at which no search by halves arrives.</summary>
    [Fact]
    public void TheFirstDivergenceCountsWhereItGoesAwayAndAnotherOneComes()
    {
        static Outcome Wrong(TestCase testCase)
        {
            bool added = false;
            return new FakeMachine((mnemonic, state) =>
            {
                state.Registers = mnemonic == Mnemonic.Adc ? state.Registers.With(Register.Rdx, 7) : mnemonic == Mnemonic.Inc && added ? state.Registers.With(Register.Rsi, 9) : state.Registers;
                added |= mnemonic == Mnemonic.Adc;
            }).Run(testCase);
        }

        CampaignParts parts = Parts(new FakeMachine().Run, Wrong) with
        {
            Source = () => new OneCase(Cases.Of("4811d8", "48c7c205000000", "90", "90", "48ffc3")),
            Known = new KnownSet([KnownReader.Parse(System.Text.Encoding.UTF8.GetBytes(AdcEntry), "x.known")]),
        };

        CampaignSummary summary = Run(Small with { Count = 3 }, parts);

        Assert.Equal((3, 0), (summary.KnownMatches["adc"], summary.Signatures.Length));
    }

    /// <summary>More entries than any other count has names: each has its own.</summary>
    [Fact]
    public void EveryKnownEntryIsCountedUnderItsName()
    {
        KnownEntry adc = KnownReader.Parse(System.Text.Encoding.UTF8.GetBytes(AdcEntry.Replace("gpr.rdx", "event.rflags.CF", StringComparison.Ordinal)), "x.known");
        KnownSet many = new([.. Enumerable.Range(0, BoundedCounts.Capacity + 10).Select(i => adc with { Id = $"a{i}", Targets = [new TargetPattern("nobody", [])] }), adc]);

        CampaignSummary summary = Run(Small, Parts(AdcLosesCarry) with { Known = many });

        Assert.Equal(BoundedCounts.Capacity + 11, summary.KnownMatches.Count);
        Assert.Equal(summary.Known, summary.KnownMatches["adc"]);
        Assert.True(summary.Known > 100, $"only {summary.Known} cases showed it");
    }

    /// <summary>Doubts take runs and fresh targets; what an entry describes needs none. What did not come back is doubted first.</summary>
    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 1)]
    public void WhatAnEntryDescribesIsNotDoubted(bool cameBack, int doubted)
    {
        CountingDoubt doubt = new();
        CampaignParts parts = Parts((mnemonic, state) => state.Registers = mnemonic == Mnemonic.Adc ? state.Registers.With(Register.Rdx, 7) : state.Registers) with
        {
            Known = new KnownSet([KnownReader.Parse(System.Text.Encoding.UTF8.GetBytes(AdcEntry), "x.known")]),
            Doubts = [doubt],
        };
        using CaseRunner runner = CaseRunner.Create(parts.Targets, parts.Analyst());
        using TriageDesk desk = new(Small, parts, CancellationToken.None);

        desk.Take(new Suspicion(0, Divergence.Of(runner.Examine(Cases.Of("48ffc0", "4811d8", "48ffc3")), runner), cameBack));

        Assert.Equal((1L, 0L), (desk.Known.ToImmutable()["adc"], desk.New));
        Assert.Equal(doubted, doubt.Asked);
    }

    private sealed class CountingDoubt : IDoubt
    {
        public int Asked { get; private set; }

        public string Name => "counting";

        public DoubtResult Examine(Suspect suspect)
        {
            Asked++;
            return DoubtResult.Survived;
        }
    }

    private const string AdcEntry = """
        # ADC of RBX.
        id       adc
        kind     host
        clause   SDM vol.2A ADC
        reason   seven in RDX
        targets  hardware
        forms    Adc
        vectors  any
        fields   gpr.rdx

        """;

    /// <summary>Each instance shows RBX of the case that it ran before.</summary>
    [Fact]
    public void ALeakyTargetGivesNoFinding()
    {
        FakeMachine machine = new();
        CampaignParts parts = Parts(machine.Run, machine.Run) with
        {
            Targets = Fakes.Factories(() => new FakeTarget("model.fake", machine.Run), () => new FakeTarget("hardware", Leaky())),
        };

        CampaignSummary summary = Run(Small with { Count = 500 }, parts);

        Assert.Empty(summary.Findings);
        Assert.NotEmpty(summary.Signatures);
        Assert.All(summary.Signatures, s => Assert.Contains(s.Verdict.Kind, new[] { VerdictKind.StateLeak, VerdictKind.NonDeterministic }));

        Func<TestCase, Outcome> Leaky()
        {
            ulong left = 0;
            return c =>
            {
                ulong leaked = left;
                left = c.Registers.Gpr[3];
                Outcome outcome = machine.Run(c);
                return leaked % 16 == 3 ? outcome with { Memory = [new MemoryWord(0x410000, leaked)] } : outcome;
            };
        }
    }

    [Fact]
    public void CancellationEndsCleanlyAndKeepsWhatWasFound()
    {
        using CancellationTokenSource cancel = new();
        FakeMachine right = new();
        FakeMachine wrong = new(AdcLosesCarry);
        MemoryStore store = new();
        CampaignParts parts = Parts(
            right.Run,
            c =>
            {
                if (c.Registers.Gpr[3] == 700)
                {
                    cancel.Cancel();
                }

                return wrong.Run(c);
            }) with
        { Store = store };

        CampaignSummary summary = Run(Small with { Count = null, Jobs = 2 }, parts, cancel.Token);

        Assert.True(summary.Cancelled);
        Assert.Null(summary.Failure);
        Assert.InRange(summary.Cases, 256, 100_000);
        Assert.Equal(summary.Findings.Select(f => f.Signature), store.Saved.Select(f => f.Signature));
        Assert.NotEmpty(store.Saved);
    }

    [Fact]
    public void ABrokenTargetStopsTheCampaignAndKeepsWhatWasFound()
    {
        FakeMachine right = new();
        FakeMachine wrong = new(AdcLosesCarry);
        CampaignParts parts = Parts(right.Run, c => c.Registers.Gpr[3] == 2000 ? throw new InvalidOperationException("invariant") : wrong.Run(c));

        CampaignSummary summary = Run(Small with { Jobs = 2 }, parts);

        Assert.Equal("invariant", summary.Failure?.Message);
        Assert.NotEmpty(summary.Findings);
        Assert.InRange(summary.Cases, 1, 2999);
    }

    [Fact]
    public void AnUnavailableTargetIsAFailureWithItsCure()
    {
        CampaignParts parts = Parts((_, _) => { }) with { Targets = [() => throw new TargetUnavailableException("seccomp is forbidden", "allow it")] };

        CampaignSummary summary = Run(Small with { Jobs = 2 }, parts);

        Assert.Equal("allow it", Assert.IsType<TargetUnavailableException>(summary.Failure).Cure);
        Assert.Equal(0, summary.Cases);
    }

    [Fact]
    public void TheDurationEndsACampaignWithoutCount()
    {
        StepClock clock = new();
        CampaignParts parts = Parts((_, _) => { }) with { Clock = clock };

        CampaignSummary summary = Run(Small with { Count = null, Duration = TimeSpan.FromSeconds(20) }, parts);

        Assert.False(summary.Cancelled);
        Assert.True(summary.Cases > 0);
    }

    [Fact]
    public void TroubleWithTheStoreIsReportedAndLosesNothing()
    {
        MemoryStore store = new() { FailFirst = 1000 };
        CampaignSummary lost = Run(Small, Parts(AdcLosesCarry) with { Store = store });

        Assert.Contains("disk full", Assert.Single(lost.Troubles), StringComparison.Ordinal);
        Assert.NotNull(Assert.Single(lost.Findings).Finding);

        MemoryStore later = new() { FailFirst = 1 };
        CampaignSummary saved = Run(Small, Parts(AdcLosesCarry) with { Store = later });

        Assert.Empty(saved.Troubles);
        Assert.Equal("memory", Assert.Single(saved.Findings).Path);
        Assert.Single(later.Saved);
    }

    [Fact]
    public void KnownDivergencesAreCountedNotReported()
    {
        KnownEntry entry = KnownReader.Parse(
            """
            # The fake hardware loses the carry of ADC.
            id adc-carry
            kind implementation
            clause SDM vol.2A ADC
            reason planted
            targets hardware
            forms Adc
            vectors any
            fields event.rflags.CF
            """u8,
            "test");
        KnownEntry unused = entry with { Id = "unused", Forms = ["Sbb"] };
        CampaignSummary summary = Run(Small, Parts(AdcLosesCarry) with { Known = new KnownSet([entry, unused]) });

        Assert.Empty(summary.Findings);
        Assert.True(summary.Known > 100);
        Assert.Equal(summary.Known, summary.KnownMatches["adc-carry"]);
        Assert.Equal(0, summary.KnownMatches["unused"]);
    }

    [Fact]
    public void ManyDivergencesOfOneCauseCostLittle()
    {
        long runs = 0;
        FakeMachine right = new();
        FakeMachine wrong = new((mnemonic, state) => state.Set(mnemonic == Mnemonic.Inc ? Flag.SF : 0));
        CampaignParts parts = Parts(right.Run, c =>
        {
            Interlocked.Increment(ref runs);
            return wrong.Run(c);
        });

        CampaignSummary summary = Run(Small, parts);

        Assert.True(summary.New > 2000);
        Assert.InRange(summary.Findings.Count(), 1, 2);
        Assert.True(runs < 3000 + (summary.New * 12) + 10_000, $"{runs} runs");
    }

    [Fact]
    public void BadOptionsAreRefusedWithTheCure()
    {
        foreach (CampaignOptions bad in (CampaignOptions[])[Small with { Jobs = 0 }, Small with { RangeSize = 100 }, Small with { Shard = new Shard(3, 3) }, Small with { BatchSize = 0 }])
        {
            Assert.Throws<ArgumentException>(() => new Campaign(bad, Parts((_, _) => { })));
        }
    }

    private static void AdcLosesCarry(Mnemonic mnemonic, FakeMachine.State state)
    {
        if (mnemonic == Mnemonic.Adc)
        {
            state.Registers = state.Registers with { Rflags = state.Registers.Rflags & ~Flag.CF };
        }
    }

    private static void SeveralBugs(Mnemonic mnemonic, FakeMachine.State state)
    {
        AdcLosesCarry(mnemonic, state);
        state.Set(mnemonic == Mnemonic.Clc ? Flag.PF : 0);
        if (mnemonic == Mnemonic.Mov)
        {
            state.Registers = state.Registers.With(Register.Rcx, 4);
        }
    }

    private static CampaignParts Parts(Action<Mnemonic, FakeMachine.State> bug) => Parts(new FakeMachine().Run, new FakeMachine(bug).Run);

    private static CampaignParts Parts(Func<TestCase, Outcome> first, Func<TestCase, Outcome> second) => new()
    {
        Targets = Fakes.Factories(() => new FakeTarget("model.fake", first), () => new FakeTarget("hardware", second)),
        Source = () => new FakeSource(1, 6, FakeMachine.Repertoire),
        Analyst = () => new CaseAnalyst(new FakeMachine(), null, CpuVendor.Intel),
    };

    private static CampaignSummary Run(CampaignOptions options, CampaignParts parts, CancellationToken cancel = default) => new Campaign(options, parts).Run(cancel);

    private sealed class OneCase(TestCase testCase) : ICaseSource
    {
        public TestCase Generate(ulong index) => testCase;
    }

    private sealed class MemoryStore : IFindingStore
    {
        public int FailFirst { get; set; }

        public List<Finding> Saved { get; } = [];

        public StoreResult Save(Finding finding)
        {
            if (FailFirst-- > 0)
            {
                return new StoreResult(null, "disk full");
            }

            Saved.RemoveAll(f => f.Name == finding.Name);
            Saved.Add(finding);
            return new StoreResult("memory", null);
        }
    }

    /// <summary>A clock on which a second passes whenever it is read.</summary>
    private sealed class StepClock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => Interlocked.Increment(ref _now);
    }
}
