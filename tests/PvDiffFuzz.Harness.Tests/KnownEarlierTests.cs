using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>A target stops at an instruction over which the machine that traces goes: entries are held against that instruction, too.</summary>
public sealed class KnownEarlierTests
{
    private const string Lea = """
        # A LEA is refused.
        id       refused-lea
        kind     host
        clause   SDM vol.2A LEA
        reason   refused
        targets  one
        forms    Lea_r64_m
        vectors  any
        fields   event.kind event.vector event.error event.cr2 event.rip gpr rip
        where    this.event.vector = 14
        where    this.event.rip = address

        """;

    // LEA RAX, [RAX]; STC; UD2.
    private static readonly TestCase Case = Cases.Of("48 8d 00", "f9", "0f 0b");

    /// <summary>The fault of one target is at the LEA, the other's at the UD2, to which the machine goes.</summary>
    [Fact]
    public void TheInstructionThatFaultedOnATargetCountsAsWell()
    {
        Assert.Equal([0], Found(Lea, Stop(14, 0)));
        Assert.Empty(Found(Lea.Replace("Lea_r64_m", "Stc", StringComparison.Ordinal), Stop(14, 0)));
        Assert.Equal([0], Found(Lea.Replace("Lea_r64_m", "Stc", StringComparison.Ordinal), Stop(14, 3)));
    }

    /// <summary>What runs behind the LEA has not run when it faults.</summary>
    [Fact]
    public void WhatRanEndsThere()
    {
        Assert.Equal([0], Found(Lea + "executed Lea_r64_m\n", Stop(14, 0)));
        Assert.Empty(Found(Lea + "executed Stc\n", Stop(14, 0)));
        Assert.Empty(Found(Lea + "ever Stc\n", Stop(14, 0)));
    }

    /// <summary>A trap is behind its instruction, and an address that nothing ran at, or the last did, names none before it.</summary>
    [Fact]
    public void OnlyFaultsBeforeTheLastInstructionTell()
    {
        Assert.Empty(Found(Lea, Stop(14, 0, EventKind.Trap)));
        Assert.Empty(Found(Lea, Stop(14, 1)));
        Assert.Empty(Found(Lea, Stop(14, 4)));
        Assert.Equal([0], Found(Lea.Replace("Lea_r64_m", "Ud2", StringComparison.Ordinal), Stop(14, 4)));
    }

    private static int[] Found(string entry, Outcome one)
    {
        FakeTarget left = new(Cases.Info("one", "one"), _ => one);
        FakeTarget right = new("other", _ => Stop(6, 4));
        CaseAnalyst analyst = new(new FakeMachine(), null, CpuVendor.Amd);
        using CaseRunner runner = new([left, right], analyst);
        return [.. new KnownSet([KnownReader.Parse(Encoding.UTF8.GetBytes(entry), "x.known")]).Find(Fakes.Divergence(runner, Case), analyst)];
    }

    private static Outcome Stop(byte vector, ulong offset, EventKind kind = EventKind.Fault)
    {
        Outcome outcome = Cases.Fault(vector, Case.Code.Address + offset, 0x202, vector == 14 ? 0u : null, vector == 14 ? 0UL : null);
        return outcome with { Events = [outcome.Events[0] with { Kind = kind }] };
    }
}
