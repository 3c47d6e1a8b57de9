using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.Tests.Payload;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>Responses: returns by IRETQ to the interrupted context with patches.</summary>
public sealed class ResponseTests : KvmTests
{
    /// <summary>UD2 is answered by a patched RIP and RAX; INC RAX follows; then UD2 ends the case.</summary>
    [KvmFact]
    public void AResponseReturnsWithPatches()
    {
        Outcome outcome = Run(Case("0f 0b 48 ff c0 0f 0b", (Register.Rbx, 7)) with
        {
            Responses = [Patch((Register.Rip, End - 5), (Register.Rax, 76), (Register.FsBase, Data))],
        });

        Assert.Equal(EndKind.Event, outcome.End);
        Assert.Equal([End - 7, End - 2], outcome.Events.Select(e => e.Registers.Rip));
        RegisterState last = outcome.Events[1].Registers;
        Assert.Equal((77UL, 7UL, Data), (last.Gpr[0], last.Gpr[3], last.FsBase));
        Assert.Same(last, outcome.Registers);
    }

    /// <summary>A trap continues where it is without patches, and responses that are left at the end are not used.</summary>
    [KvmFact]
    public void TrapsContinueAfterTheInstruction()
    {
        Outcome outcome = Run(Case("cc cc 90") with { Responses = [Patch(), Patch((Register.Rcx, 3)), Patch((Register.Rcx, 4))] });

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Equal([3, 3, 14], outcome.Events.Select(e => (int)e.Vector));
        Assert.Equal(3UL, outcome.Registers!.Gpr[1]);
    }

    /// <summary>Vector registers survive an event: MOVQ XMM0,RAX; INT3; MOVQ RBX,XMM0.</summary>
    [KvmFact]
    public void VectorRegistersSurviveAnEvent()
    {
        Outcome outcome = Run(Case("66 48 0f 6e c0 cc 66 48 0f 7e c3", (Register.Rax, 0xfeed_f00d)) with { Responses = [Patch()] });

        Assert.Equal(0xfeed_f00dUL, outcome.Registers!.Gpr[3]);
    }

    /// <summary>A return to the same faulting instruction faults again, as often as there are responses.</summary>
    [KvmFact]
    public void AllResponsesAreUsed()
    {
        Outcome outcome = Run(Case("0f 0b") with { Responses = [.. Enumerable.Repeat(Patch(), TestCase.MaximumResponses)] });

        Assert.Equal(TestCase.MaximumResponses + 1, outcome.Events.Length);
        Assert.All(outcome.Events, e => Assert.Equal(outcome.Events[0], e));
    }

    /// <summary>Selectors that CPL3 cannot load or keep are unsupported.</summary>
    [KvmTheory]
    [InlineData(Register.Ds, 3UL)]
    [InlineData(Register.Es, 0x18UL)]
    [InlineData(Register.Fs, 0x43UL)]
    [InlineData(Register.Gs, 0x1003UL)]
    public void ImpossibleReturnsAreUnsupported(Register register, ulong value)
    {
        Outcome outcome = Target.Run(Case("cc 90") with { Responses = [Patch((register, value))] });

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.NotNull(outcome.Detail);
        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
    }
}
