using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>The revision on Linux 6.12, as docs/pvm-612.md has it.</summary>
public sealed class Pvm612Tests
{
    /// <summary>User events: marked vector, PKRU 0, RSP as it was, interrupts off.</summary>
    [Fact]
    public void UserEventsLeaveRsp()
    {
        TestCase testCase = User("CC", (Register.Rcx, 0xc1)).InterruptsOn().With((SystemRegister.PvcsEventErrcode, 0x1234));

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((3, EntryPoint.PvmUser, Payload.UserStack, Payload.KernelGsBase, 2UL), (what.Vector, what.Entry, what.Registers.Gpr[4], what.Registers.GsBase, what.Registers.Rflags));
        Payload.Same(
            [0x103, 0x1234, testCase.Code.End, 0xc1, 0, 0],
            [Field(what, "event-vector"), Field(what, "event-errcode"), Field(what, "rip"), Field(what, "rcx"), Field(what, "pkru"), Field(what, "event-flags")]);
        Assert.Equal(PvmMap.SupervisorRoot, outcome.System[SystemRegister.Cr3]);
    }

    /// <summary>Supervisor events of any vector go by the structure to one entry; nothing is pushed.</summary>
    [Theory]
    [InlineData("CC", 3)]
    [InlineData("CD 04", 4)]
    [InlineData("CD 80", 0x80)]
    public void SupervisorEventsGoByTheStructure(string code, byte vector)
    {
        TestCase testCase = Supervisor(code, (Register.Rsp, 0x10));

        Outcome outcome = testCase.Run();

        Event what = outcome.Only();
        Assert.Equal((vector, EntryPoint.PvmSupervisor, PvmMap.EventEntry + 512, 0x10UL), (what.Vector, what.Entry, what.Registers.Rip, what.Registers.Gpr[4]));
        Assert.Equal((0x100UL | vector, testCase.Code.End, 2UL), (Field(what, "event-vector"), Field(what, "rip"), Field(what, "eflags")));
        Assert.Empty(outcome.Memory);
    }

    /// <summary>While the structure holds an event another one kills the guest, and an NMI is marked there.</summary>
    [Fact]
    public void AnEventInTheStructureMustBeTakenOut()
    {
        Assert.Equal(EndKind.Crash, Supervisor("CC").With((SystemRegister.PvcsEventVector, 0x103)).Run().End);
        Outcome nmi = Supervisor("90").With((SystemRegister.PvcsEventVector, 0x103)).Inject(InjectionKind.Nmi).RunToEnd();
        Assert.Equal(0x303UL, nmi.System[SystemRegister.PvcsEventVector]);
        Assert.Equal(0x200UL, Field(Supervisor("90").Inject(InjectionKind.Nmi).Run().Only(), "event-vector"));
    }

    /// <summary>A response's IRETQ goes back with the structure free, so that a second event can come.</summary>
    [Fact]
    public void ResponsesReturnByIretq()
    {
        TestCase testCase = Supervisor("CC CC 90", (Register.Rcx, 0xc1), (Register.R11, 0x11));

        Outcome outcome = testCase.Answer(Payload.Back(ReturnKind.Iretq), Payload.Back(ReturnKind.Iretq)).RunToEnd();

        Assert.Empty(RegisterState.Differences(testCase.Registers with { Rip = testCase.Code.End }, outcome.Registers!));
    }

    /// <summary>The return to user mode marks the vector and keeps the pending flag; SYSCALL then leaves the vector.</summary>
    [Fact]
    public void TheReturnMarksTheVector()
    {
        Outcome outcome = User("0F 05 90").With((SystemRegister.PvcsEventFlags, 0x100), (SystemRegister.PvcsEventVector, 0x1e)).Run();

        Assert.Equal((0x100UL, 0x100UL), (Field(outcome.Only(), "event-vector"), Field(outcome.Only(), "event-flags")));
    }

    /// <summary>A prefixed SYSCALL that ends at MSR_PVM_RETU_RIP + 2 returns.</summary>
    [Fact]
    public void TheReturnIsFoundByTheNextRip()
    {
        Event what = Supervisor("48 B9 0F 00 4D 00 00 00 00 00 FF E1").With(
            (SystemRegister.PvcsRip, 0x10), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202)).Run().Only();

        Assert.Equal((EntryPoint.PvmUser, 0x10UL), (what.Entry, Field(what, "rip")));
    }

    /// <summary>Supervisor code cannot execute user pages (error code 11h), user code cannot use supervisor pages (5), and there is no choice.</summary>
    [Fact]
    public void TheUserBitIsHonoured()
    {
        Event supervisor = Supervisor("FF E3", (Register.Rbx, AddressMap.LowBlock + AddressMap.WritableCode)).Run().Only();
        Outcome user = User("48 8B 03", (Register.Rbx, Payload.Data)).Run();

        Assert.Equal((14, (uint?)0x11), (supervisor.Vector, supervisor.ErrorCode));
        Assert.Equal((uint?)5, user.Only().ErrorCode);
        Assert.Empty(user.Alternatives);
    }

    /// <summary>MSRs of the first revision are gone; the hypercall says -5; INT n has error code 0; RCX is the return address after PVM's calls and R10 after KVM's.</summary>
    [Fact]
    public void OtherDifferences()
    {
        foreach (uint gone in (uint[])[0x4b56_4df2, 0x4b56_4df3, 0x4b56_4df6, 0x4b56_4df7])
        {
            Assert.Equal(13, Supervisor("0F 32", (Register.Rcx, gone)).Run().Only().Vector);
        }

        Assert.Equal(unchecked((ulong)-5), Supervisor(Payload.Call(Hypercalls.Wrmsr), (Register.Rbx, 0xdead_beef)).RunToEnd().Registers!.Gpr[0]);
        Assert.Equal((uint?)0, Supervisor("CD 20").Run().Only().ErrorCode);
        TestCase flush = Supervisor(Payload.Call(Hypercalls.TlbFlush), (Register.R10, 0x10));
        Assert.Equal(flush.Code.End, flush.RunToEnd().Registers!.Gpr[1]);
        Assert.Equal(0x10UL, Supervisor(Payload.Call(1), (Register.R10, 0x10)).RunToEnd().Registers!.Gpr[1]);
        Assert.Equal(EndKind.Crash, Supervisor("0F 30", (Register.Rcx, 0x4b56_4df4), (Register.Rdx, 0x8000)).Run().End);
    }

    /// <summary>Cases of a revision whose behaviour nobody states are not run, and neither are two roots where there is one CR3.</summary>
    [Fact]
    public void WhatNoTextStatesIsUnsupported()
    {
        using PvmModel model = new();
        TestCase later = Supervisor("90") with { Abi = Abi.PvmAbi1 };

        Assert.Null(later.Check());
        Assert.Equal(EndKind.Unsupported, model.Run(later).End);
        Assert.Equal(EndKind.Unsupported, (Supervisor("90") with { Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout) }).RunAny().End);
        Assert.Equal(EndKind.Unsupported, model.Run(new TestCase { Code = later.Code, Registers = later.Registers, Layout = AddressMap.Standard }).End);
    }

    private static TestCase Supervisor(string code, params (Register, ulong)[] registers) => Payload.Make(Abi.Pvm612, GuestMode.Supervisor, code, registers);

    private static TestCase User(string code, params (Register, ulong)[] registers) => Payload.Make(Abi.Pvm612, GuestMode.User, code, registers);

    private static ulong Field(Event what, string name) => what.Frame(name, Abi.Pvm612);
}
