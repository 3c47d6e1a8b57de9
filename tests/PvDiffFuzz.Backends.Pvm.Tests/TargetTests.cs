using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The target on a host that has the ABI, and why it does not run elsewhere.</summary>
public sealed class TargetTests
{
    /// <summary>Whatever this host is, the answer is a target or a reason with a cure.</summary>
    [Fact]
    public void AHostWithoutTheAbiIsToldWhy()
    {
        if (PvmTarget.Probe(CpuProfile.DefaultAmd) is TargetUnavailableException e)
        {
            Assert.NotEqual("", e.Message);
            Assert.NotEqual("", e.Cure);
        }
        else
        {
            using PvmTarget target = new(CpuProfile.DefaultAmd);
            Assert.Equal(Outcome.Unsupported($"this host speaks {target.Info.Abis[0].Text()}, not x86"), target.Run(Cases.Of(GuestMode.User, 0xcc) with { Abi = Abi.X86 }));
        }
    }

    [PvmFact]
    public void SupervisorCodeRunsToItsEnd()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        // mov eax, 42
        Outcome outcome = target.Run(Cases.Of(GuestMode.Supervisor, 0xb8, 0x42, 0, 0, 0));

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Equal(0x42UL, outcome.Registers!.Gpr[0]);
        Assert.Equal(AddressMap.LowBlock + PvmMap.CodeEnd, outcome.Registers.Rip);
        Assert.Empty(outcome.Events);
    }

    /// <summary>
    /// The first HLT is answered; then the code goes to compatibility mode by itself, and HLT is refused there, too. A host of the first revision dies of that, with what came before still told; one
    /// that does not tells of a second #GP. The next case runs on a new host.
    /// </summary>
    [PvmFact]
    public void ADeadHostIsAnOutcome()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        // hlt; push 0x2b; push rsp; push 0x202; push 0x23; lea r11, [rip + 4]; push r11; iretq; hlt
        TestCase testCase = Cases.Of(GuestMode.User, Convert.FromHexString("f4 6a2b 54 6802020000 6a23 4c8d1d04000000 4153 48cf f4".Replace(" ", "", StringComparison.Ordinal)));
        ulong behind = testCase.Code.Address + 1;
        Outcome outcome = target.Run(testCase with { Responses = [new Response([KeyValuePair.Create(Register.Rip, behind)]) { Return = ReturnKind.Eretu }] });

        Assert.Contains(outcome.End, new[] { EndKind.HypervisorCrash, EndKind.Event });
        Assert.Equal(13, outcome.Events[0].Vector);
        Assert.Equal(outcome.End == EndKind.Event, outcome.Events is [_, { Vector: 13 }]);
        Assert.Equal(outcome.End == EndKind.HypervisorCrash, outcome.Detail?.StartsWith("the host itself has crashed: ", StringComparison.Ordinal) ?? false);
        Assert.Equal(EndKind.Event, target.Run(Cases.Of(GuestMode.User, 0xcc)).End);
    }

    /// <summary>An emulator carries out an IRETD with VM in its frame, and the host keeps VIF and VIP of it, or dies. Neither is told of the cases behind it.</summary>
    [PvmFact]
    public void FlagsOfAnEmulatedHostDoNotStay()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        // sub rsp, 64; mov dword [rsp + 4], 3; mov dword [rsp + 8], VIP | VIF | VM | 2; iretd. With a CS that looks like user mode's the host lives on.
        TestCase testCase = Cases.Of(GuestMode.User, Convert.FromHexString("4883ec40 c744240403000000 c744240802001a00 cf".Replace(" ", "", StringComparison.Ordinal)));
        TestCase next = Cases.Of(GuestMode.User, 0xcc);
        Outcome[] outcomes = new Outcome[5];
        target.Run([next, testCase, next, next, next], outcomes);

        Assert.Contains(outcomes[1].End, new[] { EndKind.HypervisorCrash, EndKind.Unsupported, EndKind.Event });
        Assert.All([outcomes[0], .. outcomes[2..]], outcome => Assert.Equal(0UL, Assert.Single(outcome.Events).Registers.Rflags & (RflagsBits.VIF | RflagsBits.VIP)));
    }

    [PvmFact]
    public void ABreakpointOfUserCodeComesToTheEventEntry()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        Outcome outcome = target.Run(Cases.Of(GuestMode.User, 0xcc));

        Event e = Assert.Single(outcome.Events);
        Assert.Equal((EndKind.Event, (byte)3, EntryPoint.PvmUser, PvmMap.EventEntry), (outcome.End, e.Vector, e.Entry, e.Registers.Rip));
        Assert.Equal(AddressMap.LowBlock + AddressMap.CodeEnd, EventReader.Field(Abi.PvmRfc1, SystemRegister.PvcsRip, e.Frame.AsSpan()));
    }

    [PvmFact]
    public void AHaltIsAnEnd()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        Assert.Equal(EndKind.Halt, target.Run(Cases.Of(GuestMode.Supervisor, 0xf4)).End);
    }

    /// <summary>WRMSR has KVM write the time of day, once or again and again, over the user's top page table. That is nothing to compare, and the next case has its pages.</summary>
    [PvmTheory]
    [InlineData("b9004d564bb80020000031d20f30")] // mov ecx, 4b564d00; mov eax, 2000; xor edx, edx; wrmsr
    [InlineData("b9014d564bb80120000031d20f30")] // mov ecx, 4b564d01; mov eax, 2001; xor edx, edx; wrmsr
    public void WhatTheHypervisorWritesOverThePageTablesDoesNotStay(string code)
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);

        Outcome outcome = target.Run(Cases.Of(GuestMode.Supervisor, Convert.FromHexString(code)));

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.Contains("page tables", outcome.Detail, StringComparison.Ordinal);
        Assert.Equal(EndKind.Event, target.Run(Cases.Of(GuestMode.User, 0xcc)).End);
    }

    /// <summary>A pad for a user event needs the structure. A delivery brings the processor back, so no virtual machine is thrown away.</summary>
    [PvmFact]
    public void AGuestWithoutAStructureDiesAndTheNextOneLives()
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);
        TestCase testCase = Cases.Of(GuestMode.User, 0xcc);

        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(EndKind.Crash, target.Run(testCase with { System = testCase.System.With(SystemRegister.PvmVcpuStruct, 0) }).End);
        }

        Assert.Equal(0, target.Replaced);
        Assert.Equal(EndKind.Event, target.Run(testCase).End);
    }
}
