using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Interrupts and NMIs.</summary>
public sealed class InjectionTests
{
    /// <summary>User mode takes an interrupt whatever the flag says.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void UserModeAlwaysTakesInterrupts(bool on)
    {
        TestCase testCase = Payload.User("90").Inject(InjectionKind.Interrupt, 0x41);

        Event what = (on ? testCase.InterruptsOn() : testCase).Run().Only();

        Assert.Equal((EventKind.Interrupt, 0x41, EntryPoint.PvmUser, testCase.Code.Address, 0x202UL), (what.Kind, what.Vector, what.Entry, what.Frame("rip"), what.Frame("eflags")));
    }

    /// <summary>Supervisor mode takes it with the flag set, by the structure.</summary>
    [Fact]
    public void SupervisorModeTakesInterruptsWhenTheyAreOn()
    {
        TestCase testCase = Payload.Supervisor("90").InterruptsOn().Inject(InjectionKind.Interrupt, 0x41);

        Event what = testCase.Run().Only();

        Assert.Equal((EventKind.Interrupt, 0x41, EntryPoint.PvmSupervisorHigh, testCase.Code.Address, 0x202UL), (what.Kind, what.Vector, what.Entry, what.Frame("rip"), what.Frame("eflags")));
    }

    /// <summary>With the flag clear the pending flag is set, and the code runs on.</summary>
    [Fact]
    public void AnInterruptThatWaitsShowsAsPending()
    {
        Outcome outcome = Payload.Supervisor("90").Inject(InjectionKind.Interrupt, 0x41).RunToEnd();

        Assert.Equal(0x100UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>STI takes it right after itself: there is no interrupt shadow.</summary>
    [Fact]
    public void StiTakesWhatWaits()
    {
        TestCase testCase = Payload.Supervisor("90 FB 90").Inject(InjectionKind.Interrupt, 0x41);

        Outcome outcome = testCase.Run();

        Assert.Equal((0x41, testCase.Code.End - 1), (outcome.Only().Vector, outcome.Only().Frame("rip")));
        Assert.Equal(0x100UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>Software sets the flag in memory: nothing happens until PVM_HC_IRQ_WIN, which clears the pending flag and takes the interrupt.</summary>
    [Fact]
    public void TheInterruptWindowTakesWhatWaits()
    {
        // or dword [pvcs],200h
        const string enable = "81 0C 25 00 00 49 00 00 02 00 00";
        TestCase with = Payload.Supervisor(enable + Payload.Call(Hypercalls.IrqWin) + "90").Inject(InjectionKind.Interrupt, 0x41);

        Outcome without = Payload.Supervisor(enable + "90").Inject(InjectionKind.Interrupt, 0x41).RunToEnd();
        Outcome outcome = with.Run();

        Assert.Equal(0x300UL, without.System[SystemRegister.PvcsEventFlags]);
        Assert.Equal((0x41, with.Code.End - 1), (outcome.Only().Vector, outcome.Only().Frame("rip")));
        Assert.Equal(0UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>A halted guest is woken by what it can take.</summary>
    [Fact]
    public void IrqHltIsWokenByAnInterrupt()
    {
        Event what = Payload.Supervisor(Payload.Call(Hypercalls.IrqHlt)).Inject(InjectionKind.Interrupt, 0x41).Run().Only();

        Assert.Equal((0x41, 0x202UL), (what.Vector, what.Frame("eflags") & 0x202));
    }

    /// <summary>HLT halts with interrupts on or off.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void HltHalts(bool on)
    {
        TestCase testCase = Payload.Supervisor("F4 90");

        Outcome outcome = (on ? testCase.InterruptsOn() : testCase).Run();

        Assert.Equal((EndKind.Halt, testCase.Code.End - 1), (outcome.End, outcome.Registers!.Rip));
    }

    /// <summary>An NMI needs no flag and comes as a low vector; the next waits until a synthetic return.</summary>
    [Fact]
    public void NmisAreMaskedUntilTheReturn()
    {
        TestCase once = Payload.Supervisor("90").Inject(InjectionKind.Nmi);
        Response again = Payload.Back(ReturnKind.Erets) with { Inject = new Injection(InjectionKind.Nmi, 2) };

        Outcome first = once.Run();
        Outcome second = once.Answer(again).Run();

        Assert.Equal((EventKind.Interrupt, 2, EntryPoint.PvmSupervisor), (first.Only().Kind, first.Only().Vector, first.Only().Entry));
        Assert.Equal(1UL, first.System[SystemRegister.NmiMasked]);
        Assert.Equal([2, 2], second.Events.Select(e => (int)e.Vector));
        Assert.Equal(EndKind.ReachedEnd, once.With((SystemRegister.NmiMasked, 1)).Run().End);
    }

    /// <summary>An interrupt that waited while supervisor code had them off is taken when EVENT_RETURN_USER has gone to user mode.</summary>
    [Fact]
    public void TheReturnToUserModeTakesWhatWaits()
    {
        TestCase testCase = Payload.Supervisor("48 B8 10 00 4D 00 00 00 00 00 FF E0").Inject(InjectionKind.Interrupt, 0x41).With(
            (SystemRegister.PvcsRip, 0x10), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202));

        Outcome outcome = testCase.Run();

        Assert.Equal((0x41, EntryPoint.PvmUser, 0x10UL), (outcome.Only().Vector, outcome.Only().Entry, outcome.Only().Frame("rip")));
        Assert.Equal(0UL, outcome.System[SystemRegister.PvcsEventFlags]);
    }

    /// <summary>The highest of two vectors comes first.</summary>
    [Fact]
    public void TheHighestVectorComesFirst()
    {
        InterruptSet set = default;
        set.Add(0x41);
        set.Add(0xf0);
        set.Add(0x20);

        Assert.Equal([0xf0, 0x41, 0x20], new[] { set.TakeHighest(), set.TakeHighest(), set.TakeHighest() }.Select(v => (int)v));
        Assert.True(set.IsEmpty);
    }
}
