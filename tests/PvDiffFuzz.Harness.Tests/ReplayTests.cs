using System.Xml.Linq;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

public sealed class ReplayTests
{
    private static readonly TestCase Case = Cases.Of("90");

    [Fact]
    public void AStoredOutcomeOfAnAbsentTargetIsComparedWithTheOneAtHand()
    {
        Assert.Equal(ReplayStatus.Agree, Replayed(null, Cases.Fault(), Stored("native", Cases.Fault())).Status);

        ReplayResult changed = Replayed(null, Cases.Fault(), Stored("native", Cases.Fault(rax: 1)));
        Assert.Equal(ReplayStatus.Changed, changed.Status);
        Assert.Equal(["gpr.rax"], changed.Fields.ToArray());
        Assert.Equal("stored as 'agree', now 'new'", changed.Message);
    }

    [Fact]
    public void OneOutcomeIsUnsupportedNotAgreement()
    {
        Assert.Equal(ReplayStatus.Unsupported, Replayed(null, Cases.Fault()).Status);
        Assert.Equal(ReplayStatus.Unsupported, Replayed(null, Outcome.Unsupported("no"), Stored("native", Cases.Fault())).Status);
        Assert.Equal(ReplayStatus.Unsupported, Replayed(null, Cases.Fault(), Stored("model.x86", Cases.Fault())).Status);
    }

    [Fact]
    public void ATargetMustAnswerAsStored()
    {
        ReplayResult result = Replayed(null, Cases.Fault(rax: 1), Stored("model.x86", Cases.Fault(rax: 2)), Stored("native", Cases.Fault(rax: 1)));

        Assert.Equal(ReplayStatus.Changed, result.Status);
        Assert.Contains("model.x86 no longer answers as stored: gpr.rax", result.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("known some-id", 1UL, ReplayStatus.Known)]
    [InlineData("known other-id", 1UL, ReplayStatus.Changed)] // Described by another entry now.
    [InlineData("new", 1UL, ReplayStatus.Changed)] // Known now.
    [InlineData("known some-id", 0UL, ReplayStatus.Changed)] // Fixed: it must not stay listed.
    [InlineData("new", 0UL, ReplayStatus.Changed)]
    [InlineData("new", 2UL, ReplayStatus.Open)]
    [InlineData(null, 1UL, ReplayStatus.Changed)]
    public void AVerdictThatChangesInEitherDirectionFails(string? stored, ulong rax, ReplayStatus expected)
    {
        KnownSet known = new(
        [
            KnownReader.Parse(
                """
                # RAX is 1.
                id some-id
                kind implementation
                clause none
                reason test
                targets native
                forms any
                vectors any
                fields gpr.rax
                where this.gpr.rax = 1
                """u8,
                "x"),
        ]);

        Assert.Equal(expected, Replayed(stored, Cases.Fault(), known, Stored("native", Cases.Fault(rax: rax))).Status);
    }

    [Fact]
    public void MasksOfAbsentTargetsApply()
    {
        TargetMask row = new("native.rax", "test", _ => true, Register.Rax, ulong.MaxValue);
        using CaseRunner live = Fakes.Runner(new FakeTarget("model.x86", _ => Cases.Fault()));
        Replay replay = new(live, KnownSet.Empty, name => name == "native" ? [row] : []);

        Assert.Equal(ReplayStatus.Agree, replay.Run("x", File(null, Stored("native", Cases.Fault(rax: 1)))).Status);
        Assert.Equal(ReplayStatus.Changed, replay.Run("x", File(null, Stored("kvm", Cases.Fault(rax: 1)))).Status);
    }

    /// <summary>A case is run on the targets of its ABI alone; the others are neither asked nor counted.</summary>
    [Fact]
    public void TargetsOfAnotherAbiTakeNoPart()
    {
        List<string> asked = [];
        Outcome answer = PvmCases.Ends(PvmCases.Fault());
        FakeTarget Target(string name, Abi abi) => new(Cases.Info(name) with { Abis = [abi] }, c =>
        {
            asked.Add($"{name} {c.Abi.Text()}");
            return c.Abi == abi ? answer : Outcome.HarnessError("asked");
        });
        using CaseRunner live = Fakes.Runner(Target("model.x86", Abi.X86), Target("model.pvm", Abi.PvmRfc1), Target("model.pvm2", Abi.Pvm612));
        Replay replay = new(live, KnownSet.Empty);
        CaseFile file = File(null, Stored("pvm", answer)) with { Case = PvmCases.Supervisor("90") };

        Assert.Equal(ReplayStatus.Agree, replay.Run("x", file).Status);
        Assert.Equal(ReplayStatus.Agree, replay.Run("y", File(null, Stored("native", answer))).Status);
        Assert.Equal(["model.pvm pvm-rfc1", "model.x86 x86"], asked);
        Assert.StartsWith("0 comparable outcomes of 0 targets", replay.Run("z", File(null) with { Case = file.Case with { Abi = Abi.PvmAbi1 } }).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OurTroubleIsAFailureAndSoIsADamagedFile()
    {
        Assert.Equal(ReplayStatus.Failed, Replayed(null, Outcome.HarnessError("child died"), Stored("native", Cases.Fault())).Status);

        string path = Path.GetTempFileName();
        using CaseRunner live = Fakes.Runner(new FakeTarget("a", _ => Cases.Fault()));
        System.IO.File.WriteAllText(path, "junk");
        ReplayResult result = Assert.Single(new Replay(live, KnownSet.Empty).Run([path]));

        Assert.Equal(ReplayStatus.Failed, result.Status);
        Assert.StartsWith(path + ":", result.Message, StringComparison.Ordinal);
        System.IO.File.Delete(path);
    }

    [Fact]
    public void AWrittenCaseFileReplaysAsItWasStored()
    {
        string path = Path.Combine(Path.GetTempPath(), $"pvdf-replay-{Environment.ProcessId}.case");
        AtomicFile.Write(path, File(null, Stored("native", Cases.Fault(14, cr2: 0))).Write());
        using CaseRunner live = Fakes.Runner(new FakeTarget("model.x86", _ => Cases.Fault(14, cr2: 0)));

        Assert.Equal(ReplayStatus.Agree, Assert.Single(new Replay(live, KnownSet.Empty).Run([path])).Status);
        System.IO.File.Delete(path);
    }

    [Fact]
    public void TheReportCountsEveryStatusOnce()
    {
        ReplayResult[] results = [.. Enum.GetValues<ReplayStatus>().Select(s => new ReplayResult($"dir/{s}.case", s, $"<{s}> \u0001", ["gpr.rax"], 0.25))];

        ReplayReport report = ReplayReport.Of(results, KnownSet.Empty);

        Assert.Equal((6, 1, 1, 1, 1, 1, 1), (report.Cases, report.Agree, report.Known, report.Open, report.Changed, report.Unsupported, report.Failed));
        Assert.Equal(["dir/Changed.case", "dir/Failed.case"], report.Failures.Select(f => f.Case));
    }

    [Fact]
    public void JUnitIsWellFormedAndTellsFailuresFromErrorsAndSkips()
    {
        ReplayResult[] results = [.. Enum.GetValues<ReplayStatus>().Select(s => new ReplayResult($"dir/{s}.case", s, $"<{s}> & \u0001", [], 0.25))];
        using StringWriter text = new();

        JUnit.Write(text, "corpus", results);

        XElement suite = XDocument.Parse(text.ToString()).Root!;
        Assert.Equal("6 1 1 1", string.Join(' ', new[] { "tests", "failures", "errors", "skipped" }.Select(a => suite.Attribute(a)?.Value)));
        Assert.Equal("<Changed> & ?", suite.Descendants("failure").Single().Attribute("message")?.Value);
        Assert.Equal("Failed", suite.Descendants("error").Single().Parent?.Attribute("name")?.Value);
        Assert.Equal("Unsupported", suite.Descendants("skipped").Single().Parent?.Attribute("name")?.Value);
    }

    private static RecordedOutcome Stored(string target, Outcome outcome) => new(target, TargetKind.Hardware, target, Fingerprint.Empty, outcome);

    private static CaseFile File(string? verdict, params RecordedOutcome[] outcomes) => new() { Comment = "A test.", Id = "test", Case = Case, Outcomes = [.. outcomes], Verdict = verdict };

    private static ReplayResult Replayed(string? verdict, Outcome answer, params RecordedOutcome[] stored) => Replayed(verdict, answer, KnownSet.Empty, stored);

    private static ReplayResult Replayed(string? verdict, Outcome answer, KnownSet known, params RecordedOutcome[] stored)
    {
        using CaseRunner live = Fakes.Runner(new FakeTarget("model.x86", _ => answer));
        return new Replay(live, known).Run("x", File(verdict, stored));
    }
}
