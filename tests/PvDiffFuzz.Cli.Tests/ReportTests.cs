using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>The page on conformance is what the recordings show.</summary>
[Collection(TerminalCollection.Name)]
public sealed class ReportTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Theory]
    [InlineData("pvm")]
    [InlineData("xen")]
    public void TheCommittedPageIsWhatTheCommandPrints(string system)
    {
        string root = Session.Checkout()!;
        Printed printed = _terminal.Run("report", "conformance", Path.Combine(root, "corpus", "recordings", system));

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Equal(File.ReadAllText(Path.Combine(root, "docs", $"conformance-{system}.md")), printed.Out);
    }

    /// <summary>Without the entries nothing is described, and the page says so.</summary>
    [Fact]
    public void WhatNothingDescribesIsListedAndFails()
    {
        string root = Session.Checkout()!;
        string empty = Directory.CreateDirectory(_terminal.Path("known")).FullName;
        string recording = Path.Combine(root, "corpus", "recordings", "pvm", "rfc-port", "pvm-rfc1-amd-s-int4.case");
        Printed printed = _terminal.Run("report", "conformance", recording, "--known", empty, "--out", _terminal.Path("page.md"));

        Assert.Equal((int)ExitCode.Diverged, printed.Exit);
        Assert.Contains("* unmatched: pvm-rfc1-amd-s-int4: stored as 'spec-ambiguity pvm-rfc-int-4', now 'new'", File.ReadAllText(_terminal.Path("page.md")), StringComparison.Ordinal);
    }

    /// <summary>A departure of PVM names sections that the model has rules for; else the page would not show it beside them.</summary>
    [Fact]
    public void EntriesOfPvmNameClausesOfTheModel()
    {
        KnownSet known = Session.Known(null);
        KnownEntry[] entries = [.. known.Entries.Where(e => e.Abis.Any(abi => abi.IsPvm()))];
        SpecClause[] clauses = [.. Conformance.ClausesOf(Abi.Pvm612)];

        Assert.True(entries.Length >= 40, $"{entries.Length} entries of PVM");
        Assert.All(entries, entry => Assert.All(Conformance.ClausesOf(entry.Clause, ["PVM rfc1", "PVM 612"]), clause => Assert.Contains(clause, clauses)));
        Assert.All(
            entries.Where(e => e.Kind != KnownKind.Host),
            entry => Assert.NotEmpty(Conformance.ClausesOf(entry.Clause, ["PVM rfc1", "PVM 612"])));
    }

    /// <summary>So does a departure of Xen.</summary>
    [Fact]
    public void EntriesOfXenNameClausesOfTheModel()
    {
        KnownSet known = Session.Known(null);
        KnownEntry[] entries = [.. known.Entries.Where(e => e.Abis.Any(abi => abi.IsXen()))];
        SpecClause[] clauses = [.. Conformance.ClausesOf(Abi.XenPv64Fred)];
        string[] documents = [.. Conformance.DocumentsOf(Abi.XenPv64Fred)];

        Assert.True(entries.Length >= 6, $"{entries.Length} entries of Xen");
        Assert.All(entries, entry => Assert.All(Conformance.ClausesOf(entry.Clause, documents), clause => Assert.Contains(clause, clauses)));
        Assert.All(entries.Where(e => e.Kind != KnownKind.Host), entry => Assert.NotEmpty(Conformance.ClausesOf(entry.Clause, documents)));
    }
}
