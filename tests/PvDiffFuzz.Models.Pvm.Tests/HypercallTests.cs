using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Hypercalls, made by payloads and by responses.</summary>
public sealed class HypercallTests
{
    /// <summary>RCX gets the value of R10, R11 is RFLAGS, RAX stays where a call returns nothing.</summary>
    [Theory]
    [InlineData(Hypercalls.TlbFlush)]
    [InlineData(Hypercalls.TlbFlushCurrent)]
    [InlineData(Hypercalls.TlbInvlpg)]
    [InlineData(Hypercalls.IrqWin)]
    public void ACallTakesR10ForRcx(ulong number)
    {
        RegisterState registers = Payload.Supervisor(Payload.Call(number), (Register.R10, 0x10), (Register.Rbx, 0x400000)).RunToEnd().Registers!;

        Payload.Same([number, 0x10, 0x10, 0x202], [registers.Gpr[0], registers.Gpr[1], registers.Gpr[10], registers.Gpr[11]]);
    }

    /// <summary>RDMSR returns a value in RAX, WRMSR 0; MSR_LSTAR is written by the latter.</summary>
    [Fact]
    public void MsrsAreReadAndWritten()
    {
        Assert.Equal(PvmMap.Lstar, Payload.Supervisor(Payload.Call(Hypercalls.Rdmsr), (Register.Rbx, 0xc000_0082)).RunToEnd().Registers!.Gpr[0]);
        Outcome written = Payload.Supervisor(Payload.Call(Hypercalls.Wrmsr), (Register.Rbx, 0xc000_0082), (Register.R10, 0x1234)).RunToEnd();
        Assert.Equal((0UL, 0x1234UL), (written.Registers!.Gpr[0], written.System[SystemRegister.Lstar]));
    }

    /// <summary>An MSR that there is not reads 0; writing it, or an address that is not canonical, returns -EINVAL (-22).</summary>
    [Fact]
    public void RefusedMsrAccessHasValues()
    {
        Assert.Equal(0UL, Payload.Supervisor(Payload.Call(Hypercalls.Rdmsr), (Register.Rbx, 0xdead_beef)).RunToEnd().Registers!.Gpr[0]);
        Assert.Equal(unchecked((ulong)-22), Payload.Supervisor(Payload.Call(Hypercalls.Wrmsr), (Register.Rbx, 0xdead_beef)).RunToEnd().Registers!.Gpr[0]);
        Assert.Equal(unchecked((ulong)-22), Payload.Supervisor(Payload.Call(Hypercalls.Wrmsr), (Register.Rbx, 0xc000_0082), (Register.R10, 1UL << 63)).RunToEnd().Registers!.Gpr[0]);
    }

    /// <summary>LOAD_GS changes the selector and returns the base; a selector that cannot be loaded gives a null one.</summary>
    [Theory]
    [InlineData(0x2b, 0x2b)]
    [InlineData(0x10, 0)]
    [InlineData(0x103, 0)]
    [InlineData(3, 3)]
    public void LoadGsFallsBackToNull(ulong selector, ushort loaded)
    {
        RegisterState registers = Payload.Supervisor(Payload.Call(Hypercalls.LoadGs), (Register.Rbx, selector)).RunToEnd().Registers!;

        Assert.Equal((loaded, 0UL, Payload.KernelGsBase), (registers.Gs, registers.Gpr[0], registers.GsBase));
    }

    /// <summary>LOAD_TLS: a flat data descriptor at index 12, so that selector 63 can be loaded afterwards, and its base 12345678 seen.</summary>
    [Fact]
    public void LoadTlsMakesAnEntryOfTheGdt()
    {
        // mov ebx via register; call; mov gs, 0x63 is refused before and loads after: LAR RSI,ECX with ECX 0x63.
        const ulong descriptor = 0x12cf_f334_5678_ffff;
        string code = Payload.Call(Hypercalls.LoadTls) + " B9 63 00 00 00 8E E9";

        RegisterState registers = Payload.Supervisor(code, (Register.Rbx, descriptor)).RunToEnd().Registers!;

        Assert.Equal((12UL, (ushort)0x63, 0x1234_5678UL), (registers.Gpr[0], registers.Gs, registers.GsBase));
        Assert.Equal(13, Payload.Supervisor("B9 63 00 00 00 8E E9").Run().Only().Vector);
    }

    /// <summary>LOAD_PGTBL sets both roots. The user's root in supervisor mode has no supervisor code, so the next fetch is a #PF whose frame has no stack either.</summary>
    [Fact]
    public void LoadPgtblSetsBothRoots()
    {
        Outcome same = Payload.Supervisor(Payload.Call(Hypercalls.LoadPgtbl), (Register.R10, PvmMap.SupervisorRoot), (Register.Rdx, 0x7000)).RunToEnd();
        Outcome user = Payload.Supervisor(Payload.Call(Hypercalls.LoadPgtbl) + "90", (Register.R10, PvmMap.UserRoot), (Register.Rdx, PvmMap.UserRoot)).Run();

        Assert.Equal((PvmMap.SupervisorRoot, 0x7000UL), (same.System[SystemRegister.Cr3], same.System[SystemRegister.PvmSwitchCr3]));
        Assert.Equal(EndKind.Crash, user.End);
        Assert.Equal(EndKind.Unsupported, Payload.Supervisor(Payload.Call(Hypercalls.LoadPgtbl), (Register.R10, 0x5000)).RunAny().End);
    }

    /// <summary>KVM's calls: number 1 returns 0, one that does not exist -1000 (KVM_ENOSYS); unused numbers of PVM's block do not exist.</summary>
    [Theory]
    [InlineData(1, 0)]
    [InlineData(0x1_0000_0001, -1000)]
    [InlineData(unchecked((long)Hypercalls.Base) + 77, -1000)]
    public void OtherCallsAreKvms(ulong number, long result) => Assert.Equal((ulong)result, Payload.Supervisor(Payload.Call(number)).RunToEnd().Registers!.Gpr[0]);

    /// <summary>IRQ_HLT turns interrupts on and halts: RIP is after the SYSCALL.</summary>
    [Fact]
    public void IrqHltHaltsWithInterruptsOn()
    {
        TestCase testCase = Payload.Supervisor(Payload.Call(Hypercalls.IrqHlt) + "90").With((SystemRegister.PvcsEventFlags, 0x100));

        Outcome outcome = testCase.Run();

        Assert.Equal((EndKind.Halt, testCase.Code.End - 1, 0x202UL), (outcome.End, outcome.Registers!.Rip, outcome.Registers.Rflags));
        Assert.Equal(0x200UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>A call of a response is an event of its own, and what it clobbers does not reach the payload.</summary>
    [Fact]
    public void CallsOfAResponseAreEvents()
    {
        Response response = Payload.Back(ReturnKind.Eretu) with { Hypercalls = [new Hypercall(Hypercalls.Rdmsr, [0xc000_0082])] };

        Outcome outcome = Payload.User("CC", (Register.Rax, 0xa1), (Register.Rbx, 0xb1)).Answer(response).RunToEnd();

        Assert.Equal([EntryPoint.PvmUser, EntryPoint.HypercallReturn, EntryPoint.PvmUser], outcome.Events.Select(e => e.Entry));
        Assert.Equal((EventKind.Hypercall, PvmMap.Lstar), (outcome.Events[1].Kind, outcome.Events[1].Registers.Gpr[0]));
        Assert.Equal((0xa1UL, 0xb1UL), (outcome.Events[2].Registers.Gpr[0], outcome.Events[2].Registers.Gpr[3]));
    }

    /// <summary>TF over a hypercall traps after the instruction that follows.</summary>
    [Fact]
    public void SingleStepTrapsOneInstructionAfterAHypercall()
    {
        TestCase testCase = Payload.Supervisor("B8 03 82 08 17 9C 48 81 0C 24 00 01 00 00 9D 0F 05 90 90");

        Event what = testCase.Run().Only();

        Assert.Equal((1, testCase.Code.End - 1), (what.Vector, what.Frame("rip")));
    }
}
