using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>DR0 to DR7 on hosts whose ptrace(2) may set them.</summary>
public sealed class DebugRegisterTests : NativeTests
{
    private const ulong OneExecute = 0x401;

    /// <summary>DR7: breakpoint 0 enabled, write, 4 bytes.</summary>
    private const ulong OneWrite = 0x401 | (0xdUL << 16);

    /// <summary>An execution breakpoint is a #DB before the instruction, in whose frame Linux has set RF; a response with RF goes on behind it.</summary>
    [NativeFact]
    public void ExecutionBreakpointsFireBeforeTheInstruction()
    {
        Outcome outcome = Run(Case("90 48 ff c0", (Register.Dr0, End - 3), (Register.Dr7, OneExecute)) with { Responses = [Patch((Register.Rflags, RflagsBits.Fixed1 | RflagsBits.IF | RflagsBits.RF))] });

        Assert.Equal([(byte)1, (byte)14], outcome.Events.Select(e => e.Vector));
        Assert.Equal((End - 3, 0UL), (outcome.Events[0].Registers.Rip, outcome.Events[0].Registers.Gpr[0]));
        Assert.NotEqual(0UL, outcome.Events[0].Registers.Rflags & RflagsBits.RF);
        Assert.Equal(1UL, outcome.Registers!.Gpr[0]);
    }

    /// <summary>Going on with the RF that Linux made up would not be what the processor does.</summary>
    [NativeFact]
    public void GoingOnWithLinuxsResumeFlagIsUnsupported()
    {
        Outcome outcome = Target.Run(Case("90 48 ff c0", (Register.Dr0, End - 3), (Register.Dr7, OneExecute)) with { Responses = [Patch()] });

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.Contains("RF", outcome.Detail, StringComparison.Ordinal);
    }

    /// <summary>A write breakpoint is a #DB after the instruction; the agent's own writes to the page do not fire.</summary>
    [NativeFact]
    public void WriteBreakpointsFireAfterTheInstruction()
    {
        Outcome outcome = Run(Case("c7 07 01 00 00 00 90", (Register.Rdi, Data), (Register.Dr0, Data), (Register.Dr7, OneWrite)));

        Event e = Assert.Single(outcome.Events);
        Assert.Equal((EventKind.Trap, (byte)1, End - 1), (e.Kind, e.Vector, e.Registers.Rip));
        AssertMemory(outcome, new MemoryWord(Data, 1));
    }

    /// <summary>Breakpoints are gone for the next case, also inside of a batch.</summary>
    [NativeFact]
    public void BreakpointsBelongToTheirCase()
    {
        TestCase plain = Case("c7 07 01 00 00 00 90", (Register.Rdi, Data));
        TestCase watched = plain with { Registers = plain.Registers.With(Register.Dr0, Data).With(Register.Dr7, OneWrite) };
        TestCase[] cases = [plain, watched, watched, plain, watched, plain];
        Outcome[] outcomes = new Outcome[cases.Length];

        Target.Run(cases, outcomes);

        Assert.Equal([14, 1, 1, 14, 1, 14], outcomes.Select(o => (int)o.Events[0].Vector));
        Assert.All(outcomes, o => Assert.Null(o.Registers!.Debug));
    }

    /// <summary>Linux refuses breakpoints outside of user addresses, and the agent's range is its own.</summary>
    [NativeTheory]
    [InlineData(0xffff_8000_0000_0000UL, OneExecute)]
    [InlineData(AddressMap.AgentFirst, OneExecute)]
    [InlineData(Data + 1, OneWrite)]
    public void ImpossibleBreakpointsAreUnsupported(ulong address, ulong control)
    {
        Outcome outcome = Target.Run(Case("90", (Register.Dr0, address), (Register.Dr7, control)));

        Assert.True(outcome.End == EndKind.Unsupported, Describe(outcome));
        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
    }
}
