using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Mistakes: each gets its exit code and a message that says what would be right, on stderr only.</summary>
[Collection(TerminalCollection.Name)]
public sealed class UsageTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Theory]
    [InlineData("fuzz --targets kvm2", "'kvm2'", "model.x86", "native")]
    [InlineData("fuzz --targets model.x86,model.x86", "twice")]
    [InlineData("fuzz --targets ,", "no target", "model.x86")]
    [InlineData("fuzz --seed xyz", "--seed xyz", "hexadecimal")]
    [InlineData("fuzz --seed 11112222333344445", "--seed 11112222333344445", "1 to 16")]
    [InlineData("fuzz --families arithmetic,cooking", "--families cooking", "arithmetic", "stack", "string")]
    [InlineData("fuzz --families stack=x", "--families stack=x", "0 to 10000")]
    [InlineData("fuzz --families stack=0", "weight 0", "1 to 10000")]
    [InlineData("fuzz --abi pvm", "--abi pvm", "x86", "pvm-rfc1", "pvm-612")]
    [InlineData("fuzz --abi pvm-abi1", "--abi pvm-abi1", "x86", "pvm-rfc1", "pvm-612")]
    [InlineData("fuzz --abi pvm-rfc1 --min-length 20", "20..14", "1..400")]
    [InlineData("fuzz --jobs 0", "--jobs 0", "1 to 256")]
    [InlineData("fuzz --jobs 257", "--jobs 257", "1 to 256")]
    [InlineData("fuzz --raw-percent 101", "--raw-percent 101", "0 to 100")]
    [InlineData("fuzz --count -1", "--count -1", "0 to 9223372036854775807")]
    [InlineData("fuzz --jobs many", "--jobs many", "1 to 256")]
    [InlineData("fuzz --jobs 1e2", "--jobs 1e2", "1 to 256")]
    [InlineData("fuzz --count 99999999999999999999", "--count 99999999999999999999", "0 to 9223372036854775807")]
    [InlineData("fuzz --min-length 9 --max-length 8", "9..8", "1..400")]
    [InlineData("fuzz --shard 3/3", "--shard 3/3", "n/m")]
    [InlineData("fuzz --known no/such/folder", "no/such/folder", "no such folder")]
    [InlineData("fuzz --colour", "--colour", "--help")]
    [InlineData("cook", "cook", "--help")]
    [InlineData("run", "run", "--help")]
    [InlineData("replay no/such/path", "no/such/path", "no such file or folder")]
    [InlineData("record --out no.rec", "nothing to record", "--seed")]
    [InlineData("record --out no.rec --count 5", "--count without --seed", "hexadecimal")]
    [InlineData("record --out no.rec --count 5 --seed x", "--seed x", "1 to 16")]
    [InlineData("record --out no.rec --count 1000001", "--count 1000001", "0 to 1000000")]
    [InlineData("record --out no.rec --count 5 --seed 1 --cpu via", "--cpu via", "host, amd and intel")]
    [InlineData("record --out no.rec --count 5 --seed 1 --targets kvm2", "'kvm2'", "model.x86", "native")]
    [InlineData("record --count 5 --seed 1", "--out", "--help")]
    [InlineData("record no/such/path --out no.rec", "no/such/path", "no such file or folder")]
    [InlineData("triage", "triage", "--help")]
    [InlineData("triage model.x86", "one side", "two recordings")]
    [InlineData("triage model.x86 model.x86", "model.x86", "twice")]
    [InlineData("triage model.x86 no.rec", "no.rec", "no such recording", "model.x86", "native")]
    [InlineData("triage model.x86 model.twin", "no cases", "--corpus")]
    [InlineData("triage model.x86 model.twin --known no/such/folder", "no/such/folder", "no such folder")]
    [InlineData("doctor --require qemu", "'qemu'", "model.x86", "native")]
    public void AMistakeIsNamedWithWhatWouldBeRight(string line, params string[] parts)
    {
        string[] args = line.Split(' ');
        Printed printed = _terminal.Run(args[0] == "fuzz" ? [.. args, "--out", _terminal.Path("out")] : args);

        Assert.Equal((int)ExitCode.Usage, printed.Exit);
        Assert.Empty(printed.Out);
        Assert.All(parts, part => Assert.Contains(part, printed.Error, StringComparison.Ordinal));
        Assert.False(Directory.Exists(_terminal.Path("out")), "a folder was made");
    }

    [Theory]
    [InlineData("run")]
    [InlineData("show")]
    [InlineData("minimise")]
    public void AMissingCaseFileIsNamed(string command)
    {
        string path = _terminal.Path("absent.case");
        Printed printed = _terminal.Run(command, path);

        Assert.Equal((int)ExitCode.Usage, printed.Exit);
        Assert.Contains($"pvdf: {path}:1: ", printed.Error, StringComparison.Ordinal);
        Assert.Empty(printed.Out);
    }

    [Theory]
    [InlineData("run")]
    [InlineData("show")]
    [InlineData("minimise")]
    public void AMalformedCaseFileIsNamedWithItsLine(string command)
    {
        string good = File.ReadAllText(_terminal.WriteCase());
        int line = good.Split('\n').ToList().FindIndex(l => l.StartsWith("id ", StringComparison.Ordinal)) + 1;
        string path = _terminal.Write("bad.case", good.Replace("\nid ", "\nidd ", StringComparison.Ordinal));
        Printed printed = _terminal.Run(command, path);

        Assert.Equal((int)ExitCode.Usage, printed.Exit);
        Assert.Contains($"pvdf: {path}:{line}: ", printed.Error, StringComparison.Ordinal);
        Assert.Empty(printed.Out);
    }

    /// <summary>Whatever is no recording, a case file too, is named with its line.</summary>
    [Theory]
    [InlineData("", 1, "does not start with a comment")]
    [InlineData("# why\npvdf     case 1\nend\n", 2, "`pvdf case 1` is not the format line of a recording")]
    [InlineData("# why\npvdf     recording 1\ntarget   a kind=model lineage=b\nend\n", 4, "cut off after 0 whole cases")]
    public void WhatIsNoRecordingIsNamedWithItsLine(string text, int line, string message)
    {
        string path = _terminal.Write("bad.rec", text);
        Printed triaged = _terminal.Run("triage", path, "model.x86");
        Printed recorded = _terminal.Run("record", path, "--targets", "model.x86", "--out", _terminal.Path("out.rec"));

        foreach (Printed printed in new[] { triaged, recorded })
        {
            Assert.Equal((int)ExitCode.Usage, printed.Exit);
            Assert.StartsWith($"pvdf: {path}:{line}: ", printed.Error, StringComparison.Ordinal);
            Assert.Contains(message, printed.Error, StringComparison.Ordinal);
            Assert.Empty(printed.Out);
        }

        Assert.False(File.Exists(_terminal.Path("out.rec")), "something was recorded");
    }

    [Fact]
    public void AFolderThatCannotBeMadeIsHostTrouble()
    {
        string path = Path.Combine(_terminal.Write("file", "in the way"), "out");
        Printed printed = _terminal.Run("fuzz", "--count", "100", "--seed", "1", "--targets", $"model.x86,{Terminal.Twin}", "--json", "--out", path);

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Contains(_terminal.Path("file"), printed.Error, StringComparison.Ordinal);
        Assert.Empty(printed.Out);
    }

    [Theory]
    [InlineData("fuzz")]
    [InlineData("run")]
    public void ATargetThatDoesNotWorkHereIsHostTroubleWithItsCure(string command)
    {
        _terminal.Composition.Register("broken", _ => throw new TargetUnavailableException("no such device", "plug it in"));
        string[] args = command == "fuzz" ? ["--count", "100", "--out", _terminal.Path("out")] : [_terminal.WriteCase()];
        Printed printed = _terminal.Run([command, .. args, "--targets", "model.x86,broken"]);

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Contains("no such device", printed.Error, StringComparison.Ordinal);
        Assert.Contains("cure: plug it in", printed.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void OurOwnTroubleWithACaseIsNoDivergence()
    {
        _terminal.Composition.Register("broken", profile => new Wrapped("broken", new Models.X86.X86Model(profile), _ => Outcome.HarnessError("lost the child")));
        Printed printed = _terminal.Run("run", _terminal.WriteCase(), "--targets", "model.x86,broken");

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Contains("lost the child", printed.Out, StringComparison.Ordinal);
    }
}
