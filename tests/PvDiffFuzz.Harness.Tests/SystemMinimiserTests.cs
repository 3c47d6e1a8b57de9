using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Reductions and code edits of cases with a system side.</summary>
public sealed class SystemMinimiserTests
{
    private static readonly Hypercall Flush = new(0x17088205, [0x461ff0, 5]);
    private static readonly Injection Nmi = new(InjectionKind.Nmi, 2);

    /// <summary>A case full of things of which the divergence needs one: the rest goes, or becomes what generated cases have.</summary>
    [Theory]
    [InlineData("hypercall")]
    [InlineData("injection")]
    [InlineData("register")]
    [InlineData("path")]
    [InlineData("nothing")]
    public void WhatADivergenceDoesNotNeedGoes(string needed)
    {
        bool Needed(TestCase c) => needed switch
        {
            "hypercall" => c.Responses.Any(r => r.Hypercalls.Any(h => h.Number == Flush.Number)),
            "injection" => c.Inject == Nmi,
            "register" => c.System[SystemRegister.PvmSupervisorRedzone] == 128,
            "path" => c.Pvm!.Path == HostPath.Warm,
            _ => true,
        };
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", _ => PvmCases.Ends(PvmCases.Fault())),
            new FakeTarget("b", c => PvmCases.Ends(PvmCases.Fault(rflags: Needed(c) ? 3UL : 2UL))));
        TestCase big = Full();
        Assert.Null(big.Check());

        TestCase smallest = new Minimiser(Reductions.All, new MinimiserLimits()).Minimise(Fakes.Divergence(runner, big), runner, CancellationToken.None).Divergence.Case;

        Assert.Null(smallest.Check());
        Assert.True(Needed(smallest));
        Assert.True(CaseSize.Compare(smallest, big) < 0);
        Assert.Equal(GuestMode.Supervisor, smallest.Start);
        Assert.Equal(PvmMap.SupervisorLayout, smallest.Layout);
        Assert.Equal(new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout, needed == "path" ? HostPath.Warm : HostPath.Cold), smallest.Pvm);
        Assert.Equal(needed == "injection" ? Nmi : null, smallest.Inject);
        Assert.Equal(RflagsBits.Fixed1, smallest.Registers.Rflags);
        SystemState plain = PvmCases.System;
        Assert.Equal(needed == "register" ? plain.With(SystemRegister.PvmSupervisorRedzone, 128) : plain, smallest.System);
        if (needed == "hypercall")
        {
            Response answer = Assert.Single(smallest.Responses);
            Assert.Equal([0UL, 0UL], Assert.Single(answer.Hypercalls).Arguments.ToArray());
            Assert.Null(answer.Inject);
            Assert.Equal(ReturnKind.Erets, answer.Return);
        }
        else
        {
            Assert.Empty(smallest.Responses);
        }
    }

    [Fact]
    public void WhatIsProposedForAWellFormedCaseIsMostlyWellFormed()
    {
        List<string> wrong = [];
        foreach (IReduction reduction in (IReduction[])[new DropHypercalls(), new DropInjections(), new DefaultSystem(), new DefaultSurroundings(), new DropResponses()])
        {
            TestCase[] proposals = [.. reduction.Propose(Full(), new ReductionContext(CpuVendor.Amd))];
            int good = proposals.Count(p => p.Check() is null);
            if (good == 0 || (reduction is DropHypercalls or DropInjections && good != proposals.Length))
            {
                wrong.Add($"{reduction.Name}: {good} of {proposals.Length}");
            }
        }

        Assert.True(wrong.Count == 0, string.Join(", ", wrong));
    }

    /// <summary>Fewer patches leave the rest of an answer as it was.</summary>
    [Fact]
    public void AnAnswerKeepsItsReturnAndItsCallsWhenAPatchGoes() => Assert.All(
        new DropResponses().Propose(Full(), new ReductionContext(CpuVendor.Amd)).SelectMany(c => c.Responses),
        response => Assert.Equal((ReturnKind.Erets, 1, Nmi), (response.Return, response.Hypercalls.Length, response.Inject)));

    /// <summary>Code moves up when an instruction goes; its end, and the room behind it, stay. What points into it goes along.</summary>
    [Fact]
    public void AddressesInTheSystemSideMoveWithTheCode()
    {
        TestCase before = PvmCases.Supervisor("48ffc0", "f9", "f8");
        ulong stc = before.Code.Address + 3;
        before = before with
        {
            System = before.System.With(SystemRegister.PvcsRip, stc).With(SystemRegister.Lstar, stc).With(SystemRegister.PvmSupervisorRedzone, stc),
            Responses = [new Response([new(Register.Rip, stc)]) { Return = ReturnKind.Erets, Hypercalls = [new Hypercall(stc, [stc])], Inject = Nmi }],
        };
        ImmutableArray<byte>[] pieces = new ImmutableArray<byte>[3];
        pieces[2] = [];

        TestCase after = CodeEdit.Replace(before, pieces, CpuVendor.Amd)!;

        Assert.Null(before.Check());
        Assert.Null(after.Check());
        Assert.Equal(before.Code.End, after.Code.End);
        Assert.Equal(stc + 1, after.System[SystemRegister.PvcsRip]);
        Assert.Equal(stc + 1, after.System[SystemRegister.Lstar]);
        Assert.Equal(stc, after.System[SystemRegister.PvmSupervisorRedzone]); // No address.
        Response answer = Assert.Single(after.Responses);
        Assert.Equal([stc + 1], Assert.Single(answer.Hypercalls).Arguments.ToArray());
        Assert.Equal(stc, answer.Hypercalls[0].Number);
        Assert.Equal(stc + 1, Assert.Single(answer.Patches).Value);
        Assert.Equal((ReturnKind.Erets, Nmi), (answer.Return, answer.Inject));
    }

    private static TestCase Full()
    {
        TestCase testCase = PvmCases.Supervisor("48ffc0", "90");
        PageLayout more = PageLayout.Create([.. PvmMap.UserLayout.Ranges, new PageRange(0x60_0000, 1, PageAccess.Read)]);
        return testCase with
        {
            Registers = testCase.Registers with { Rflags = RflagsBits.Fixed1 | RflagsBits.IF | RflagsBits.CF },
            Inject = Nmi,
            Pvm = new PvmState(0x60_1000, more, HostPath.Warm),
            System = testCase.System.With(SystemRegister.PvcsEventFlags, 0x200).With(SystemRegister.PvmSupervisorRedzone, 128).With(SystemRegister.Lstar, 0x5000).With(SystemRegister.PvcsRip, 0x1234),
            Responses = [.. Enumerable.Repeat(new Response([new(Register.Rax, 5)]) { Return = ReturnKind.Erets, Hypercalls = [Flush], Inject = Nmi }, 3)],
        };
    }
}
