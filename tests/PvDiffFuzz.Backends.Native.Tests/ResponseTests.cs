using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>Responses: returns by IRETQ to the interrupted context with patches.</summary>
public sealed class ResponseTests : NativeTests
{
    /// <summary>UD2 is answered by a patched RIP and RAX; INC RAX follows; then UD2 ends the case.</summary>
    [NativeFact]
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
    [NativeFact]
    public void TrapsContinueAfterTheInstruction()
    {
        Outcome outcome = Run(Case("cc cc 90") with { Responses = [Patch(), Patch((Register.Rcx, 3)), Patch((Register.Rcx, 4))] });

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Equal([3, 3, 14], outcome.Events.Select(e => (int)e.Vector));
        Assert.Equal(3UL, outcome.Registers!.Gpr[1]);
    }

    /// <summary>A patch changes mode and selectors: from 64-bit code to 32-bit code.</summary>
    [NativeFact]
    public void AResponseMayChangeTheMode()
    {
        // INC RAX in 64-bit mode is DEC EAX, INC EAX in 32-bit mode (48 is DEC EAX, ff c0 INC EAX).
        Outcome outcome = Run(At(LowEnd, "cc 48 ff c0 cc", (Register.Rax, 5)) with
        {
            Responses = [Patch((Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Rflags, 0x202 | RflagsBits.CF))],
        });

        RegisterState last = outcome.Registers!;
        Assert.Equal((5UL, Selectors.UserCode32, Selectors.UserData, LowEnd), (last.Gpr[0], last.Cs, last.Ds, last.Rip));
        Assert.NotEqual(0UL, last.Rflags & RflagsBits.CF);
    }

    /// <summary>Vector registers survive an event: MOVQ XMM0,RAX; INT3; MOVQ RBX,XMM0.</summary>
    [NativeFact]
    public void VectorRegistersSurviveAnEvent()
    {
        Outcome outcome = Run(Case("66 48 0f 6e c0 cc 66 48 0f 7e c3", (Register.Rax, 0xfeed_f00d)) with { Responses = [Patch()] });

        Assert.Equal(0xfeed_f00dUL, outcome.Registers!.Gpr[3]);
    }

    /// <summary>A return to the same faulting instruction faults again, as often as there are responses.</summary>
    [NativeFact]
    public void AllResponsesAreUsed()
    {
        Outcome outcome = Run(Case("0f 0b") with { Responses = [.. Enumerable.Repeat(Patch(), TestCase.MaximumResponses)] });

        Assert.Equal(TestCase.MaximumResponses + 1, outcome.Events.Length);
        Assert.All(outcome.Events, e => Assert.Equal(outcome.Events[0], e));
    }

    /// <summary>What IRETQ at CPL3 cannot do is unsupported.</summary>
    [NativeTheory]
    [InlineData(Register.Rflags, 0x2UL)]
    [InlineData(Register.Rflags, 0x3202UL)]
    [InlineData(Register.Rip, 0x8000_0000_0000UL)]
    [InlineData(Register.Cs, 0x10UL)]
    [InlineData(Register.Ss, 0UL)]
    [InlineData(Register.Ds, 3UL)]
    [InlineData(Register.FsBase, 0x8000_0000_0000UL)]
    public void ImpossibleReturnsAreUnsupported(Register register, ulong value)
    {
        Outcome outcome = Target.Run(Case("cc 90") with { Responses = [Patch((register, value))] });

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.NotNull(outcome.Detail);
        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
    }

    /// <summary>After INT 0x80 the upper half of RAX is lost, so a case that goes on is comparable only when the response sets RAX.</summary>
    [NativeFact]
    public void GoingOnAfterInt80NeedsRax()
    {
        TestCase testCase = Case("cd 80 90", (Register.Rax, ulong.MaxValue));

        Assert.Equal(EndKind.Unsupported, Target.Run(testCase with { Responses = [Patch()] }).End);
        Assert.Equal(ulong.MaxValue, Run(testCase with { Responses = [Patch((Register.Rax, ulong.MaxValue))] }).Registers!.Gpr[0]);
    }

    /// <summary>Linux replaces some numbers in RAX of a refused system call; a case that goes on with what is left there says nothing of the processor.</summary>
    [NativeTheory]
    [InlineData("0f 05", -512)]
    [InlineData("0f 05", -4)]
    [InlineData("cd 80", -516)]
    public void ARestartedSystemCallIsComparableOnlyWhenTheResponseSetsWhatLinuxChanged(string code, long rax)
    {
        TestCase testCase = Case(code, (Register.Rax, (ulong)rax));

        Outcome kept = Target.Run(testCase with { Responses = [Patch()] });
        Outcome replaced = Target.Run(testCase with { Responses = [Patch((Register.Rax, 1), (Register.Rip, End))] });

        Assert.Equal(EndKind.Unsupported, kept.End);
        Assert.Equal(EndKind.ReachedEnd, replaced.End);
    }
}
