using System.Text;
using FsCheck;
using FsCheck.Fluent;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Core.Tests;

/// <summary>The format of recordings: what is written is read back, and nothing else is read.</summary>
public sealed class RecordingTests
{
    private const int Mutations = 4_000;

    /// <summary>The two promises of the format over arbitrary recordings: reading what was written gives the same recording, and writing that gives the same bytes.</summary>
    [Fact]
    public void EveryRecordingIsReadBackEqualAndWrittenBackIdentical()
    {
        int cases = 0;
        int targets = 0;
        Prop.ForAll(RecordingGen.Recordings.ToArbitrary(), recording =>
        {
            string text = recording.Write();
            Recording read = Parse(text);
            Assert.Equal(recording, read);
            Assert.Equal(recording.GetHashCode(), read.GetHashCode());
            Assert.Equal(text, read.Write());
            cases += read.Cases.Length;
            targets = Math.Max(targets, read.Targets.Length);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(150));

        Assert.True(cases > 150 && targets > 1, $"{cases} cases and at most {targets} targets: too few to show anything");
    }

    /// <summary>Cut after any byte, a recording is refused, with a line of the file; so a file that was being written is never taken for a whole one.</summary>
    [Fact]
    public void EveryTruncationIsRefused()
    {
        byte[] text = Encoding.UTF8.GetBytes(RecordingGen.Sample.Write());
        for (int length = 0; length < text.Length; length++)
        {
            CaseFileException refused = Assert.Throws<CaseFileException>(() => Recording.Read(new MemoryStream(text, 0, length), "x.rec"));
            Assert.InRange(refused.Line, 1, text.AsSpan(0, length).Count((byte)'\n') + 1);
        }
    }

    /// <summary>A writer that was never finished has written everything but the end, and that is not a recording.</summary>
    [Fact]
    public void AnUnfinishedRecordingIsRefusedAndSaysHowMuchIsThere()
    {
        using MemoryStream stream = new();
        RecordingWriter writer = new(stream, RecordingGen.Sample);
        foreach (CaseFile file in RecordingGen.Sample.Cases)
        {
            Assert.True(writer.Add(file));
        }

        stream.Position = 0;
        CaseFileException refused = Assert.Throws<CaseFileException>(() => Recording.Read(stream, "x.rec"));
        Assert.Contains("the recording is cut off after 2 whole cases; ", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Damaged files in every way: refused with a line of the file, or read for what they are.</summary>
    [Fact]
    public void ADamagedRecordingIsRefusedOrReadForWhatItIs()
    {
        Random random = new(20_261_121);
        byte[][] files = [.. RecordingGen.Recordings.Sample(6, 20).Append(RecordingGen.Sample).Select(r => Encoding.UTF8.GetBytes(r.Write()))];
        List<string> failures = [];
        int accepted = 0;
        for (int i = 0; i < Mutations; i++)
        {
            byte[] text = Damage.Once(random, files);
            try
            {
                Recording read = Recording.Read(new MemoryStream(text), "x.rec");
                accepted++;
                if (!Encoding.UTF8.GetBytes(read.Write()).AsSpan().SequenceEqual(text))
                {
                    failures.Add($"accepted, but written otherwise:\n{Encoding.UTF8.GetString(text)}");
                }
            }
            catch (CaseFileException e) when (e.Line >= 1 && e.Line <= 1 + text.Count(b => b == '\n') && e.Message.Contains("; ", StringComparison.Ordinal))
            {
                // Refused as it should be.
            }
            catch (Exception e)
            {
                failures.Add($"{e.GetType().Name}: {e.Message}\n{e.StackTrace}\n{Encoding.UTF8.GetString(text)}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {Mutations} mutations; the first:\n{failures.FirstOrDefault()}");
        Assert.InRange(accepted, 1, Mutations - 1);
    }

    /// <summary>A piece of the sample, what stands there instead, and the message with the line in the file.</summary>
    [Theory]
    [InlineData("pvdf     recording 1", "pvdf     recording 2", 2, "format version `2` is not a count of this field; use decimal digits, 1 to 1")]
    [InlineData("pvdf     recording 1", "pvdf     case 1", 2, "`pvdf case 1` is not the format line of a recording; after the comment comes `pvdf     recording 1`")]
    [InlineData("# Two answers", "Two answers", 1, "the file does not start with a comment, so it is no recording; make one with `pvdf record`")]
    [InlineData("cpu      amd", "cpu      via", 3, "vendor `via` is not known; use one of: intel, amd")]
    [InlineData("gate     03", "gate     3", 5, "gate `3` is not a byte; use two hexadecimal digits")]
    [InlineData("gate     03 04 80\n", "", 10, "a `cpu` without `gate` and `segment`; a profile has both")]
    [InlineData("target   native kind=hardware", "target   native kind=oracle", 7, "kind `oracle` is not known; use one of: model, hardware")]
    [InlineData("target   native kind=hardware lineage=hardware", "target   Native kind=hardware lineage=hardware", 7, "target or lineage is not a name; use lower-case letters")]
    [InlineData("target   model.x86 kind=model lineage=model\n", "target   native kind=model lineage=model\n", 9, "`native` is named twice; name each target once")]
    [InlineData("target   model.x86 kind=model lineage=model\n", "target\n", 9, "no target; write target kind=... lineage=...")]
    [InlineData("fact     cpu=AuthenticAMD 25.1.1\n", "fact     cpu=AuthenticAMD 25.1.1\nfact     cpu=x\n", 9, "`cpu` is stated twice; state each fact once")]
    [InlineData("fact     cpu=AuthenticAMD 25.1.1", "fact     cpu=[x]", 8, "`cpu=[x]` is not a fact; write name=value on one line")]
    [InlineData("target   native kind=hardware lineage=hardware\n", "fact     a=b\ntarget   native kind=hardware lineage=hardware\n", 7, "`fact` before any target; start one with `target`")]
    [InlineData("cpu      amd", "colour   red\ncpu      amd", 3, "unknown key `colour`; docs/recording-format.md lists the keys")]
    [InlineData("segment  standard", "segment   standard", 6, "not in canonical form; this line should read `segment  standard`")]
    [InlineData("\nend\n\n# ADC", "\nend\n# ADC", 12, "not in canonical form; this line should be empty")]
    [InlineData("\nend\n\n# ADC", "\nend\n\n\n# ADC", 13, "neither a case nor the end; a case starts with a comment, and after the last one comes `cases`")]
    [InlineData("id       adc-carry-wrap", "id       ADC", 17, "`ADC` is not an id; use lower-case")]
    [InlineData("rflags   203", "rflagz   203", 29, "unknown key `rflagz`; docs/case-format.md lists the keys")]
    [InlineData("rflags   203", "rflags   203\nrflags   203", 30, "`rflags` for the second time (first in line 29); say it once")]
    [InlineData("rflags   203", "rflags  203", 29, "not in canonical form; this line should read `rflags   203`")]
    [InlineData("outcome  native kind=hardware lineage=hardware end=reached-end", "outcome  native kind=model lineage=hardware end=reached-end", 34, "this is not the target `native` of the head; outcomes stand in the order")]
    [InlineData("outcome  native kind=hardware lineage=hardware end=reached-end", "outcome  native kind=hardware lineage=hardware end=reached-end\nfact     a=b", 35, "a fact in a case; the head states the facts of a target once for all cases")]
    [InlineData("\ncases    2 of 3\n", "\nverdict  new\ncases    2 of 3\n", 77, "neither a case nor the end")]
    [InlineData("ad00\n\nend\n", "ad00\n\nverdict  new\nend\n", 44, "a verdict in a recording; `pvdf triage` judges")]
    [InlineData("cases    2 of 3", "cases    1 of 3", 77, "1 of 3 cases, but 2 stand above; the recording is damaged")]
    [InlineData("cases    2 of 3", "cases    2 of 1", 77, "2 of 1 cases, but 2 stand above")]
    [InlineData("cases    2 of 3", "cases    2", 77, "`cases    2` does not count the cases; write how many there are")]
    [InlineData("cases    2 of 3", "cases    2 of -3", 77, "cases `-3` is not a count of this field; use decimal digits")]
    [InlineData("cases    2 of 3", "cases    2 of 03", 77, "not in canonical form; this line should read `cases    2 of 3`")]
    [InlineData("cases    2 of 3\nend\n", "cases    2 of 3\nend\n\n", 79, "something after `end`; `end` is the last line")]
    [InlineData("cases    2 of 3\nend\n", "", 76, "the recording is cut off after 2 whole cases; it ends with the number of its cases and `end`")]
    public void ABadRecordingIsRefusedWithItsLineAndACure(string piece, string replacement, int line, string message)
    {
        string text = RecordingGen.Sample.Write();
        int at = text.IndexOf(piece, StringComparison.Ordinal);
        Assert.True(at >= 0, $"the sample has no `{piece}`:\n{text}");

        CaseFileException refused = Assert.Throws<CaseFileException>(() => Parse(string.Concat(text.AsSpan(0, at), replacement, text.AsSpan(at + piece.Length))));

        Assert.StartsWith($"x.rec:{line}: {message}", refused.Message, StringComparison.Ordinal);
        Assert.Contains("; ", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OneInputTwiceIsRefused()
    {
        Recording twice = RecordingGen.Sample;
        using MemoryStream stream = new();
        RecordingWriter writer = new(stream, twice);
        Assert.True(writer.Add(twice.Cases[0]));
        Assert.False(writer.Add(twice.Cases[0] with { Id = "copy" }));
        Assert.Equal(1, writer.Count);

        string text = twice.Write();
        string first = text[text.IndexOf("# ADC", StringComparison.Ordinal)..(text.IndexOf("\n\n# Other", StringComparison.Ordinal) + 1)];
        string doubled = text.Replace("\ncases    2 of 3", $"\n{first}\ncases    3 of 3", StringComparison.Ordinal);
        Assert.StartsWith("x.rec:77: the case of line 13 again; keep one of them", Assert.Throws<CaseFileException>(() => Parse(doubled)).Message, StringComparison.Ordinal);
    }

    /// <summary>100 MB of anything is refused at its first line.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData('#')]
    [InlineData('j')]
    [InlineData('\n')]
    public void JunkOfAnyLengthIsRefusedAtItsStart(int filler)
    {
        string path = Path.GetTempFileName();
        try
        {
            using (FileStream file = File.OpenWrite(path))
            {
                byte[] piece = new byte[1_000_000];
                Array.Fill(piece, (byte)filler);
                for (int i = 0; i < 100; i++)
                {
                    file.Write(piece);
                }
            }

            CaseFileException refused = Assert.Throws<CaseFileException>(() => Recording.Read(path));
            Assert.Equal(1, refused.Line);
            Assert.Contains("recording", refused.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>A good beginning does not help: the first bad piece ends the reading.</summary>
    [Fact]
    public void JunkAfterAGoodCaseIsRefusedWhereItStarts()
    {
        string text = RecordingGen.Sample.Write();
        string start = text[..(text.IndexOf("\ncases", StringComparison.Ordinal) + 1)];
        CaseFileException refused = Assert.Throws<CaseFileException>(() => Parse(start + string.Concat(Enumerable.Repeat("# why\n", 1_000_000))));

        Assert.StartsWith("x.rec:77: no line `end` within 1048576 bytes; ", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/nonexistent/x.rec")]
    [InlineData("/")]
    [InlineData("")]
    [InlineData("a\0b")]
    public void AFileThatCannotBeOpenedIsRefusedInTheSameForm(string path)
    {
        CaseFileException refused = Assert.Throws<CaseFileException>(() => Recording.Read(path));

        Assert.StartsWith($"{path}:1: cannot be read: ", refused.Message, StringComparison.Ordinal);
        Assert.EndsWith("; name a readable recording", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ARecordingThatCouldNotBeReadBackIsNotWritten()
    {
        Recording sample = RecordingGen.Sample;

        Assert.Contains("comment", Refusal(sample with { Comment = "" }), StringComparison.Ordinal);
        Assert.Contains("1 to 16", Refusal(sample with { Targets = [], Cases = [] }), StringComparison.Ordinal);
        Assert.Contains("named twice", Refusal(sample with { Targets = [sample.Targets[0], sample.Targets[0]] }), StringComparison.Ordinal);
        Assert.Contains("not those of the targets", Refusal(sample with { Targets = [sample.Targets[1], sample.Targets[0]] }), StringComparison.Ordinal);
        Assert.Contains("not those of the targets", Refusal(sample with { Targets = [sample.Targets[0]] }), StringComparison.Ordinal);
    }

    [Fact]
    public void ATargetOfARecordingAnswersAsItDid()
    {
        using RecordedTarget native = RecordingGen.Sample.TargetAt(0, "native", []);

        Assert.Equal("recorded:native", native.Info.Name);
        Assert.Equal(("hardware", TargetKind.Recording, 2), (native.Info.Lineage, native.Info.Kind, native.Count));
        Assert.Equal(RecordingGen.Sample.Targets[0].Fingerprint, native.Info.Fingerprint);
        Assert.All(RecordingGen.Sample.Cases, file => Assert.Equal(file.Outcomes[0].Outcome, native.Run(file.Case)));
        Assert.True(native.Holds(RecordingGen.Sample.Cases[0].Case));
        Assert.False(native.Holds(RecordingGen.Sample.Cases[0].Case with { Limits = new CaseLimits(1) }));
    }

    /// <summary>The reference shows what the writer writes.</summary>
    [Fact]
    public void TheExampleOfTheReferenceIsTheStartOfTheSample()
    {
        string text = RecordingGen.Sample.Write();
        string head = text[..(text.IndexOf("\nfound", StringComparison.Ordinal) + 1)];
        string foot = text[text.LastIndexOf("\nend\n\ncases", StringComparison.Ordinal)..];

        Assert.Contains($"```\n{head}...{foot}```\n", File.ReadAllText(Checkout.PathOf("docs", "recording-format.md")), StringComparison.Ordinal);
    }

    private static string Refusal(Recording recording) => Assert.Throws<InvalidOperationException>(recording.Write).Message;

    private static Recording Parse(string text) => Recording.Read(new MemoryStream(Encoding.UTF8.GetBytes(text)), "x.rec");
}
