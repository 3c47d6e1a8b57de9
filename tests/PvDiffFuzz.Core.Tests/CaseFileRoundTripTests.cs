using System.Text;
using FsCheck;
using FsCheck.Fluent;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Core.Tests;

public sealed class CaseFileRoundTripTests
{
    /// <summary>The two promises of the format over arbitrary files: reading what was written gives the same file, and writing that gives the same bytes.</summary>
    [Fact]
    public void EveryFileIsReadBackEqualAndWrittenBackIdentical()
    {
        int outcomes = 0;
        int contents = 0;
        int frames = 0;
        int hypercalls = 0;
        Prop.ForAll(CaseGen.Files.ToArbitrary(), file =>
        {
            string text = file.Write();
            CaseFile read = CaseFile.Parse(Encoding.UTF8.GetBytes(text), "x.case");
            Assert.Equal(file, read);
            Assert.Equal(file.GetHashCode(), read.GetHashCode());
            Assert.Equal(text, read.Write());
            outcomes += read.Outcomes.Length;
            contents += read.Case.Contents.Length;
            frames += read.Outcomes.Sum(o => o.Outcome.Events.Count(e => e.Entry != EntryPoint.Idt && !e.Frame.IsEmpty));
            hypercalls += read.Case.Responses.Sum(r => r.Hypercalls.Length);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(1000));

        Assert.True(outcomes > 0 && contents > 0 && frames > 0 && hypercalls > 0, "the generator made no outcomes, contents, frames or hypercalls, so nothing was shown");
    }

    /// <summary>Generated cases must be well formed, or the other properties speak of too few.</summary>
    [Fact]
    public void EveryGeneratedCaseIsWellFormed() =>
        Prop.ForAll(CaseGen.Cases.ToArbitrary(), testCase => Assert.Null(testCase.Check())).Check(Config.QuickThrowOnFailure.WithMaxTest(500));

    /// <summary>Spacing, order of keys, capital digits, leading zeros and blank lines are a matter of taste: lenient reading takes them, writing normalises them.</summary>
    [Fact]
    public void LenientReadingAcceptsAHandWrittenFileThatStrictReadingRefuses()
    {
        string canonical = Samples.Adc.Write();
        string byHand = canonical
            .Replace("abi      x86\nmap      standard\n", "map standard\n\n\nabi   x86  \n", StringComparison.Ordinal)
            .Replace("rip      401ffa", "rip 00401FFA", StringComparison.Ordinal)
            .Replace("# ADC", "#ADC", StringComparison.Ordinal);
        byte[] bytes = Encoding.UTF8.GetBytes(byHand);

        Assert.NotEqual(canonical, byHand, StringComparer.Ordinal);
        Assert.Equal(canonical, CaseFile.Parse(bytes, "x.case", lenient: true).Write());
        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Parse(bytes, "x.case"));
        Assert.Equal("x.case:1: not in canonical form; this line should read `# ADC drops the carry-out when b + CF wraps to 0.`", refused.Message);
    }

    /// <summary>The same for a system side: its keys may stand anywhere in the case, even before the ABI that they need.</summary>
    [Fact]
    public void LenientReadingAcceptsTheSystemSideInAnyOrder()
    {
        string canonical = Samples.Pvm.Write();
        string byHand = canonical
            .Replace("abi      pvm-rfc1\nstart    user\npvm      pvcs=490000 path=warm\nmap      pvm\n", "sys nmi-masked=0\nmap pvm\n", StringComparison.Ordinal)
            .Replace("cr3=1000 star=23001000000000", "star=0023001000000000 cr3=1000", StringComparison.Ordinal)
            .Replace("limit    ", "pvm pvcs=490000 path=warm\nstart user\nabi pvm-rfc1\nlimit    ", StringComparison.Ordinal)
            .Replace("frame    0000000000000000 0000000003000000", "frame    00000000\nframe 0000 0000 0000000003000000", StringComparison.Ordinal);
        CaseFile expected = Samples.Pvm with { Case = Samples.Pvm.Case with { System = Samples.Pvm.Case.System.With(SystemRegister.NmiMasked, 0) } };

        Assert.Equal(expected, CaseFile.Parse(Encoding.UTF8.GetBytes(byHand), "x.case", lenient: true));
        Assert.Throws<CaseFileException>(() => CaseFile.Parse(Encoding.UTF8.GetBytes(byHand), "x.case"));
    }

    [Fact]
    public void AFileOnDiskIsReadAsItsText()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, Samples.Adc.Write());

            Assert.Equal(Samples.Adc, CaseFile.Read(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void CommentsOfInstructionsAreEmptyUnlessGiven()
    {
        CaseFile file = new() { Comment = "why", Id = "x", Case = Samples.Adc.Case };

        Assert.Equal<string>(["", ""], [.. file.CodeComments]);
        Assert.Equal<string>(["", ""], [.. CaseFile.Parse(Encoding.UTF8.GetBytes(file.Write()), "x").CodeComments]);
    }

    /// <summary>What could not be read back is never written.</summary>
    [Theory]
    [InlineData("", "comment")]
    [InlineData("\nx", "comment")]
    [InlineData("x\r", "comment")]
    [InlineData("tail ", "comment")]
    public void AFileThatCouldNotBeReadBackIsNotWritten(string comment, string key)
    {
        InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => (Samples.Adc with { Comment = comment }).Write());

        Assert.StartsWith($"this case cannot be stored: {key}: ", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFileOverTheLimitIsNotWritten()
    {
        TestCase big = Samples.Adc.Case with
        {
            Contents = [new MemoryContents(0x10_0000, [.. Enumerable.Range(0, 400_000).Select(i => (byte)(i * 7))])],
            Layout = PageLayout.Create([new PageRange(0x10_0000, 128, PageAccess.Read), new PageRange(AddressMap.LowBlock, 2, PageAccess.Read | PageAccess.Execute)]),
        };

        Assert.Null(big.Check());
        InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => (Samples.Adc with { Case = big }).Write());
        Assert.Contains("longer than 1048576 bytes", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>The reference shows what the writer writes.</summary>
    [Fact]
    public void TheExamplesOfTheReferenceAreTheSamples()
    {
        string reference = File.ReadAllText(Checkout.PathOf("docs", "case-format.md"));

        Assert.All([Samples.Adc, Samples.Pvm, Samples.Xen], file => Assert.Contains($"```\n{file.Write()}```\n", reference, StringComparison.Ordinal));
    }

    /// <summary>What a target answers besides is not stored: alternatives are the model's, and a file holds answers.</summary>
    [Fact]
    public void AlternativesAreNotStored()
    {
        Outcome outcome = Samples.Pvm.Outcomes[0].Outcome;
        CaseFile with = Samples.Pvm with { Outcomes = [Samples.Pvm.Outcomes[0] with { Outcome = outcome with { Alternatives = [outcome with { Events = [] }] } }] };

        Assert.Empty(CaseFile.Parse(Encoding.UTF8.GetBytes(with.Write()), "x").Outcomes[0].Outcome.Alternatives);
    }
}
