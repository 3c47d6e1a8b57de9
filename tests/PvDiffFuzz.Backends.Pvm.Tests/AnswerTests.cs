using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>On a host with the ABI: what the guest's supervisor does after an event.</summary>
public sealed class AnswerTests
{
    private const ulong UserEnd = AddressMap.LowBlock + AddressMap.CodeEnd;
    private const ulong SupervisorEnd = AddressMap.LowBlock + PvmMap.CodeEnd;

    /// <summary>UD2 is stepped over by the frame that its event pushed.</summary>
    [PvmFact]
    public void SupervisorCodeGoesOnBehindItsFault()
    {
        Response back = new([new(Register.Rbx, 7), new(Register.Rip, SupervisorEnd - 1)]) { Return = ReturnKind.Erets };

        Outcome outcome = Run(Cases.Of(GuestMode.Supervisor, 0x0f, 0x0b, 0x90) with { Responses = [back] });

        Assert.Equal((EndKind.ReachedEnd, 7UL), (outcome.End, outcome.Registers!.Gpr[3]));
        Assert.Equal(6, Assert.Single(outcome.Events).Vector);
    }

    /// <summary>The hypercall is told between the two events, and its RBX is gone behind it.</summary>
    [PvmFact]
    public void AHypercallComesBeforeTheReturn()
    {
        Response back = new([new(Register.Rip, UserEnd - 1)]) { Return = ReturnKind.Eretu, Hypercalls = [new Hypercall(0x1708_8207, [0x4b56_4df5])] };
        TestCase testCase = Cases.Of(GuestMode.User, 0xcc);

        Outcome outcome = Run(testCase with { Registers = testCase.Registers.With(Register.Rbx, 9), Responses = [back] });

        Assert.Equal([EventKind.Trap, EventKind.Hypercall, EventKind.Trap], outcome.Events.Select(e => e.Kind));
        Assert.Equal((PvmMap.RetuRip, 0x4b56_4df5UL, PvmMap.EventEntry), (outcome.Events[1].Registers.Gpr[0], outcome.Events[1].Registers.Gpr[3], outcome.Events[1].Registers.Rip));
        Assert.Equal(9UL, outcome.Registers!.Gpr[3]);
    }

    [PvmFact]
    public void AnInterruptComesBehindTheReturn()
    {
        Response back = new([new(Register.Rip, UserEnd - 1)]) { Return = ReturnKind.Eretu, Inject = new Injection(InjectionKind.Interrupt, 0x40) };

        Outcome outcome = Run(Cases.Of(GuestMode.User, 0xcc) with { Responses = [back] });

        Assert.Equal([(EventKind.Trap, (byte)3), (EventKind.Interrupt, (byte)0x40)], outcome.Events.Select(e => (e.Kind, e.Vector)));
        Assert.Equal(UserEnd - 1, EventReader.Field(Abi.PvmRfc1, SystemRegister.PvcsRip, outcome.Events[1].Frame.AsSpan()));
    }

    /// <summary>WRMSR of MSR_PVM_RETU_RIP, then an event that is answered by a return from where it was.</summary>
    [PvmFact]
    public void AReturnThatThePayloadMovedIsNotTaken()
    {
        // mov ecx, 4b564df5; mov eax, 1000; xor edx, edx; wrmsr; ud2
        TestCase testCase = Cases.Of(GuestMode.Supervisor, Convert.FromHexString("b9f54d564bb80010000031d20f300f0b"));

        Outcome outcome = Run(testCase with { Responses = [new Response([new(Register.Rip, UserEnd)]) { Return = ReturnKind.Eretu }] });

        Assert.Equal(Outcome.Unsupported("the payload took away the SYSCALL by which responses return"), outcome);
    }

    /// <summary>WRMSR of 0 to MSR_PVM_VCPU_STRUCT: what was in the structure does not enable interrupts any more.</summary>
    [PvmFact]
    public void WithoutAStructureInterruptsAreDisabled()
    {
        // mov ecx, 4b564df1; xor eax, eax; xor edx, edx; wrmsr; ud2
        TestCase testCase = Cases.Of(GuestMode.Supervisor, Convert.FromHexString("b9f14d564b31c031d20f300f0b"));
        testCase = testCase with { System = testCase.System.With(SystemRegister.PvcsEventFlags, RflagsBits.IF) };

        Event e = Assert.Single(Run(testCase).Events);

        Assert.Equal((6, 0UL), (e.Vector, e.Registers.Rflags & RflagsBits.IF));
    }

    /// <summary>RSP leaves room for a frame at the structure's CR2, which the delivery of the #PF writes behind the frame: its vector is not to be seen.</summary>
    [PvmFact]
    public void AFrameThatTheDeliveryWritesOverTellsNothing()
    {
        // mov esp, 490050; mov eax, [0]
        TestCase testCase = Cases.Of(GuestMode.Supervisor, Convert.FromHexString("bc500049008b042500000000"));

        Assert.Equal(Outcome.Unsupported("the frame of an event lies in the structure, and CR2 over its vector"), Run(testCase));
    }

    private static Outcome Run(TestCase testCase)
    {
        using PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd);
        return target.Run(testCase);
    }
}
