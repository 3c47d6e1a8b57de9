using System.Text.Json;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Guided campaigns, corpora and other fuzzers on the command line.</summary>
[Collection(TerminalCollection.Name)]
public sealed class GuideTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    /// <summary>The same seed gives the same cases with one job and two, for each ABI, with the instrumented model in the place of the plain one.</summary>
    [Theory]
    [InlineData("x86", "model.x86," + Terminal.Twin)]
    [InlineData("pvm-rfc1", "model.pvm")]
    [InlineData("pvm-612", "model.pvm")]
    public void GuidedCasesDoNotDependOnJobs(string abi, string targets)
    {
        JsonElement one = Fuzz("one", abi, targets, "--jobs", "1");
        JsonElement two = Fuzz("two", abi, targets, "--jobs", "2");
        JsonElement unguided = Fuzz("none", abi, targets, "--jobs", "2", "--guide", "none");

        Assert.Equal(one.GetProperty("caseDigest").GetString(), two.GetProperty("caseDigest").GetString());
        Assert.Equal(Digests(one), Digests(two));
        Assert.NotEqual(one.GetProperty("caseDigest").GetString(), unguided.GetProperty("caseDigest").GetString());
        Assert.Equal(one.GetProperty("guide").ToString(), two.GetProperty("guide").ToString());
        Assert.True(one.GetProperty("guide").GetProperty("corpus").GetInt32() > 100);
        Assert.Equal(JsonValueKind.Null, unguided.GetProperty("guide").ValueKind);
        Assert.Equal(0, one.GetProperty("divergences").GetProperty("new").GetInt32());
    }

    /// <summary>What a campaign kept is a corpus: it can be distilled, begun with, exported and imported, and coverage shows how it grew.</summary>
    [Fact]
    public void ACorpusGoesRound()
    {
        Fuzz("out", "x86", "model.x86," + Terminal.Twin);
        string kept = Assert.Single(Directory.GetDirectories(_terminal.Path("out"), "*.corpus"));
        JsonElement merged = Assert.Single(_terminal.Run("merge", kept, "--out", _terminal.Path("small"), "--json").Json.GetProperty("merged").EnumerateArray());
        JsonElement again = Assert.Single(_terminal.Run("merge", _terminal.Path("small"), "--out", _terminal.Path("smaller"), "--json").Json.GetProperty("merged").EnumerateArray());

        Assert.Equal(Directory.GetFiles(kept).Length, merged.GetProperty("cases").GetInt32());
        Assert.InRange(merged.GetProperty("kept").GetInt32(), 10, merged.GetProperty("cases").GetInt32() / 2);
        Assert.Equal((merged.GetProperty("edges").GetInt32(), merged.GetProperty("rules").GetInt32()), (again.GetProperty("edges").GetInt32(), again.GetProperty("rules").GetInt32()));
        Assert.Equal((int)ExitCode.Usage, _terminal.Run("merge", kept, "--out", _terminal.Path("small")).Exit);

        JsonElement begun = Fuzz("begun", "x86", "model.x86," + Terminal.Twin, "--corpus", _terminal.Path("small"));
        Assert.True(begun.GetProperty("guide").GetProperty("rules").GetInt32() >= merged.GetProperty("rules").GetInt32());

        foreach (string format in (string[])["afl", "libfuzzer"])
        {
            string inputs = _terminal.Path(format);
            Assert.Equal(merged.GetProperty("kept").GetInt32(), _terminal.Run("export", _terminal.Path("small"), "--format", format, "--out", inputs, "--json").Json.GetProperty("exported").GetInt32());
            File.WriteAllText(Path.Combine(inputs, "id:999999"), "no case");
            JsonElement imported = _terminal.Run("import", format, inputs, "--out", _terminal.Path("from-" + format), "--json").Json;
            Assert.Equal(merged.GetProperty("kept").GetInt32(), imported.GetProperty("imported").GetInt32());
            Assert.Equal(
                Directory.GetFiles(_terminal.Path("small")).Select(file => CaseDigest.Of(CaseFile.Read(file).Case)).Order(),
                Directory.GetFiles(_terminal.Path("from-" + format)).Select(file => CaseDigest.Of(CaseFile.Read(file).Case)).Order());
        }

        JsonElement[] progress = [.. _terminal.Run("coverage", _terminal.Path("out"), "--json").Json.GetProperty("progress").EnumerateArray()];
        Assert.True(progress.Length > 1);
        Assert.Equal(12288, progress[^1].GetProperty("cases").GetInt32());
        Assert.True(progress[0].GetProperty("edges").GetInt32() < progress[^1].GetProperty("edges").GetInt32());
        Assert.Contains("edges,", _terminal.Run("coverage", _terminal.Path("out")).Out, StringComparison.Ordinal);
    }

    /// <summary>The predecoder's inputs are bare code; the code survives, the rest of a case does not.</summary>
    [Fact]
    public void CodeGoesRoundAsBareBytes()
    {
        string stored = _terminal.WriteCase();
        Assert.Equal((int)ExitCode.Ok, _terminal.Run("export", stored, "--format", "afl", "--code", "--out", _terminal.Path("code")).Exit);
        Assert.Equal((int)ExitCode.Ok, _terminal.Run("import", "afl", _terminal.Path("code"), "--code", "--out", _terminal.Path("cases")).Exit);

        Assert.Equal(CaseFile.Read(stored).Case.Code, CaseFile.Read(Assert.Single(Directory.GetFiles(_terminal.Path("cases")))).Case.Code);
    }

    [Theory]
    [InlineData("--guide", "everything", "coverage, rules")]
    [InlineData("--guide", "none,rules", "coverage, rules")]
    [InlineData("--corpus", "nowhere", "no such")]
    public void WrongOptionsAreRefused(string option, string value, string said)
    {
        Printed printed = _terminal.Run("fuzz", "--count", "64", "--out", _terminal.Path("out"), option, value);

        Assert.Equal((int)ExitCode.Usage, printed.Exit);
        Assert.Contains(said, printed.Error, StringComparison.Ordinal);
    }

    /// <summary>Hypervisors by any of their names take no guided cases.</summary>
    [Theory]
    [InlineData("pvm-rfc1", "pvm")]
    [InlineData("pvm-rfc1", "pvm:host")]
    [InlineData("xen-pv64", "xen")]
    public void GuidedCasesAreNotForHypervisors(string abi, string target)
    {
        string image = _terminal.Path("image");
        File.WriteAllText(image, "no kernel");
        Printed printed = _terminal.Run("fuzz", "--abi", abi, "--count", "64", "--targets", target, "--pvm-image", $"host={image}", "--guide", "rules", "--out", _terminal.Path("out"));

        Assert.Equal((int)ExitCode.Usage, printed.Exit);
        Assert.Contains("--guide rules: guided cases may hold values", printed.Error, StringComparison.Ordinal);
    }

    private static string[] Digests(JsonElement summary) => [.. summary.GetProperty("targets").EnumerateArray().Select(target => target.GetProperty("outcomeDigest").GetString()!)];

    private JsonElement Fuzz(string folder, string abi, string targets, params string[] more) =>
        _terminal.Run(["fuzz", "--abi", abi, "--seed", "5eed", "--count", "12288", "--seconds", "0", "--targets", targets, "--json", "--out", _terminal.Path(folder), .. more]).Json;
}
