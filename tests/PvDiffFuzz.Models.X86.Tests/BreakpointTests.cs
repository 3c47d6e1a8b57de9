using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>DR0 to DR3 and DR7: instruction breakpoints, data breakpoints, RF, single steps beside them, and the shadow of MOV SS. Values can be checked by hand.</summary>
public sealed class BreakpointTests
{
    private const ulong OnExecution = 0;
    private const ulong OnWrite = 1;
    private const ulong OnInputOutput = 2;
    private const ulong OnAccess = 3;

    public static TheoryData<CpuVendor> Vendors => [CpuVendor.Amd, CpuVendor.Intel];

    /// <summary>The #DB comes before the instruction, with RF clear in its frame; without RF it would come again, with RF the instruction is executed once.</summary>
    [Theory]
    [MemberData(nameof(Vendors))]
    public void InstructionBreakpointsComeBeforeTheInstruction(CpuVendor vendor)
    {
        TestCase testCase = Case("48 ff c0 48 ff c3").Break(0, End - 3, OnExecution);

        Outcome outcome = testCase.Answered(Go(), Go(RF), Go()).Run(Profile(vendor));

        Assert.Equal([(1, End - 3), (1, End - 3), (14, End)], Stops(outcome));
        Assert.All(outcome.Events.Take(2), e => Assert.Equal((0UL, 1UL, 0UL), (e.Registers.Rflags & RF, e.Registers[Register.Rax], e.Registers[Register.Rbx])));
        Assert.Equal(1UL, outcome.Registers![Register.Rbx]);
    }

    /// <summary>RF at entry lets the first instruction pass and is clear behind it, so that a loop meets its breakpoint in the second round.</summary>
    [Theory]
    [MemberData(nameof(Vendors))]
    public void TheResumeFlagHoldsForOneInstruction(CpuVendor vendor)
    {
        // loop $
        Outcome outcome = Case("e2 fe", RF, (Register.Rcx, 3)).Break(0, End - 2, OnExecution).Run(Profile(vendor));

        Event e = outcome.Only();
        Assert.Equal((End - 2, 2UL), (e.Registers.Rip, e.Registers[Register.Rcx]));
    }

    /// <summary>A fault saves RF set, so that the breakpoint which was met before it is not met again; the RF of IRET holds for the next instruction.</summary>
    [Fact]
    public void FaultsSaveTheResumeFlagSet()
    {
        Outcome outcome = Case("0f 0b").Break(0, End - 2, OnExecution).Answered(Go(RF), Go(), Go()).Run();
        Assert.Equal([(1, End - 2), (6, End - 2), (6, End - 2), (6, End - 2)], Stops(outcome));

        TestCase returning = Case("48 cf 90 90").Break(0, End - 2, OnExecution).With(Stack, [.. Words(End - 2, 0x33, 0x10202, Stack, 0x2b)]);
        Assert.Equal(EndKind.ReachedEnd, returning.Run().End);
        Assert.Equal((byte)1, Case("48 cf 90 90").Break(0, End - 2, OnExecution).With(Stack, [.. Words(End - 2, 0x33, 0x202, Stack, 0x2b)]).Run().Only().Vector);
    }

    /// <summary>Only the first byte of an instruction counts, and that is its first prefix.</summary>
    [Theory]
    [InlineData(0UL, true)]
    [InlineData(1UL, false)]
    [InlineData(2UL, false)]
    public void OnlyTheFirstByteCounts(ulong offset, bool met)
    {
        Outcome outcome = Case("2e 66 90").Break(2, End - 3 + offset, OnExecution).Run();

        Assert.Equal(met ? (byte)1 : (byte)14, outcome.Only().Vector);
    }

    /// <summary>An instruction breakpoint is looked at before the instruction is fetched, so before #PF, #UD and #GP; reading or writing code bytes meets none.</summary>
    [Fact]
    public void InstructionBreakpointsComeBeforeFetchFaults()
    {
        Outcome outcome = Case("90").Break(0, End, OnExecution).Answered(Go(RF)).Run();
        Assert.Equal([(1, End), (14, End)], Stops(outcome));

        Assert.Equal(EndKind.ReachedEnd, Case("8a 05 f9 ff ff ff 90").Break(0, End - 6, OnExecution).Run().End);
        Assert.Equal(EndKind.ReachedEnd, Case("90").Break(0, End - 1, OnAccess, 1).Run().End);
    }

    /// <summary>A write breakpoint is met by writes alone, the other kind by reads too; both after the instruction, with RF clear.</summary>
    [Theory]
    [InlineData("89 07 90", OnWrite, true)]
    [InlineData("8b 07 90", OnWrite, false)]
    [InlineData("39 07 90", OnWrite, false)]
    [InlineData("89 07 90", OnAccess, true)]
    [InlineData("8b 07 90", OnAccess, true)]
    [InlineData("01 07 90", OnWrite, true)]
    [InlineData("d3 27 90", OnWrite, true)] // A count of 0 still writes.
    [InlineData("0f b1 1f 90", OnWrite, true)] // CMPXCHG writes even if it fails.
    [InlineData("0f 44 07 90", OnAccess, true)] // CMOV reads even if its condition is false.
    [InlineData("0f 1f 07 90", OnAccess, false)]
    [InlineData("8d 07 90", OnAccess, false)]
    public void DataBreakpointsComeAfterTheInstruction(string code, ulong kind, bool met)
    {
        foreach (CpuVendor vendor in Enum.GetValues<CpuVendor>())
        {
            Event e = Case(code, 0, (Register.Rdi, Data), (Register.Rax, 5)).Break(3, Data, kind, 4).Run(Profile(vendor)).Only();
            Assert.Equal(met ? (1, End - 1, 0UL) : (14, End, RF), (e.Vector, e.Registers.Rip, e.Registers.Rflags & RF));
        }
    }

    /// <summary>One byte in common is enough, for each length and for accesses across pages; low address bits below the length do not count.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    public void OneByteInCommonIsEnough(int length)
    {
        const ulong edge = AddressMap.LowBlock + AddressMap.Data + 0x1000;
        List<string> failures = [];
        int points = 0;
        for (ulong at = edge - 24; at < edge + 24; at++)
        {
            foreach (ulong low in (ulong[])[0, (ulong)length - 1])
            {
                bool met = at < edge + (ulong)length && at + 4 > edge;
                Event e = Case("89 07 90", 0, (Register.Rdi, at)).Break(1, edge + low, OnWrite, length).Run().Only();
                points++;
                if ((e.Vector == 1) != met)
                {
                    failures.Add($"{at:x} against {edge + low:x} for {length}: vector {e.Vector}");
                }
            }
        }

        Probe.AssertNone(failures, points);
    }

    /// <summary>Either enable bit will do; a disabled breakpoint, LE, GE and the I/O kind do nothing. IN raises #GP before any port is accessed.</summary>
    [Fact]
    public void EnableBits()
    {
        TestCase write = Case("89 07 90", 0, (Register.Rdi, Data));
        Assert.Equal([1, 1, 1, 14, 14], new[] { 1UL, 2UL, 3UL, 0UL, 0x300UL }.Select(bits => (int)write.Armed(0, Data, 0xd0400 | bits).Run().Only().Vector));
        Assert.Equal((byte)14, write.Break(0, Data, OnInputOutput, 4).Run().Only().Vector);
        Assert.Equal((byte)13, Case("ec", 0, (Register.Rdx, 0x80)).Break(0, 0x80, OnInputOutput, 1).Run().Only().Vector);
    }

    /// <summary>Stack accesses count like others: PUSH, POP, CALL, RET, ENTER, far RET.</summary>
    [Theory]
    [InlineData("50 90", OnWrite, -8)]
    [InlineData("58 90", OnAccess, 0)]
    [InlineData("e8 00 00 00 00 90", OnWrite, -8)]
    [InlineData("c8 10 00 00 90", OnWrite, -8)]
    [InlineData("48 cb 90", OnAccess, 8)]
    [InlineData("c3 90", OnAccess, 0)]
    public void StackAccessesMeetDataBreakpoints(string code, ulong kind, int offset)
    {
        Event e = Case(code).Break(0, Stack + (ulong)offset, kind, 8).With(Stack, [.. Words(End - 1, 0x33)]).Run().Only();

        Assert.Equal((1, End - 1), (e.Vector, e.Registers.Rip));
    }

    /// <summary>BTS with a register offset accesses the operand that holds the bit: 100 bits on are 12 bytes on.</summary>
    [Fact]
    public void BitStringsMeetBreakpointsWhereTheBitIs()
    {
        TestCase bit = Case("0f ab 07 90", 0, (Register.Rdi, Data), (Register.Rax, 100));
        Assert.Equal((byte)1, bit.Break(0, Data + 12, OnWrite, 4).Run().Only().Vector);
        Assert.Equal((byte)14, bit.Break(0, Data, OnAccess, 8).Run().Only().Vector);
    }

    /// <summary>A repeated string instruction stops after the iteration that met the breakpoint; then the frame shows RF for Intel, and for AMD as it was. The last iteration is an end like any other.</summary>
    [Theory]
    [InlineData(CpuVendor.Intel, RF)]
    [InlineData(CpuVendor.Amd, 0UL)]
    public void RepeatedStringsStopAfterTheIteration(CpuVendor vendor, ulong resume)
    {
        TestCase testCase = Case("f3 aa 90", 0, (Register.Rdi, Data), (Register.Rcx, 4)).Break(0, Data + 1, OnWrite, 1).Break(1, Data + 3, OnWrite, 1);

        Outcome outcome = testCase.Answered(Go(), Go()).Run(Profile(vendor));

        Assert.Equal([(1, End - 3), (1, End - 1), (14, End)], Stops(outcome));
        Assert.Equal((2UL, resume), (outcome.Events[0].Registers[Register.Rcx], outcome.Events[0].Registers.Rflags & RF));
        Assert.Equal((0UL, 0UL), (outcome.Events[1].Registers[Register.Rcx], outcome.Events[1].Registers.Rflags & RF));
    }

    /// <summary>One #DB serves a single step and data breakpoints of the same instruction; an instruction breakpoint behind it is met on its own.</summary>
    [Theory]
    [MemberData(nameof(Vendors))]
    public void TrapsOfOneInstructionAreOne(CpuVendor vendor)
    {
        TestCase testCase = Case("89 07 90", TF, (Register.Rdi, Data)).Break(0, Data, OnWrite, 4).Break(1, Data, OnAccess, 1).Break(2, End - 1, OnExecution);

        Outcome outcome = testCase.Answered(Go(), Go(RF)).Run(Profile(vendor));

        Assert.Equal([(1, End - 1), (1, End - 1), (14, End)], Stops(outcome));
    }

    /// <summary>An instruction that faults has not been executed, so that nothing it touched before is reported: a load, then #DE; a load, then #PF of the store.</summary>
    [Theory]
    [InlineData("f7 37 90", 0)]
    [InlineData("48 a5 90", 14)]
    public void FaultingInstructionsReportNoAccess(string code, byte vector)
    {
        ulong unmapped = AddressMap.LowBlock + AddressMap.Data + 0x4000;
        (ulong source, ulong destination) = vector == 0 ? (Data, Data) : (Data, unmapped);

        Outcome outcome = Case(code, 0, (Register.Rsi, source), (Register.Rdi, destination)).Break(0, Data, OnAccess, 8).Answered(Go()).Run();

        Assert.Equal([vector, vector], outcome.Events.Select(e => e.Vector));
    }

    /// <summary>A data breakpoint that MOV SS meets waits for the next instruction, as a single step does; not beyond, and not when that instruction faults or enters the system.</summary>
    [Theory]
    [InlineData("8e 17 90 90", 1, 1)]
    [InlineData("8e 17 48 ff c0 90", 1, 1)]
    [InlineData("8e 17 8e d0 90 90", 1, 1)]
    [InlineData("8e 17 0f 0b", 6, 2)]
    [InlineData("8e 17 cc 90", 3, 1)]
    public void DataBreakpointsWaitOverTheStackShadow(string code, byte vector, int fromEnd)
    {
        foreach (CpuVendor vendor in Enum.GetValues<CpuVendor>())
        {
            Event e = Case(code, 0, (Register.Rdi, Data), (Register.Rax, 0x2b)).Break(0, Data, OnAccess, 2).With(Data, 0x2b, 0).Run(Profile(vendor)).Only();
            Assert.Equal((vector, End - (ulong)fromEnd), (e.Vector, e.Registers.Rip));
        }
    }

    /// <summary>Intel holds off an instruction breakpoint right behind MOV SS, AMD does not; one instruction later both meet it.</summary>
    [Theory]
    [InlineData(CpuVendor.Amd, 2UL, true)]
    [InlineData(CpuVendor.Intel, 2UL, false)]
    [InlineData(CpuVendor.Amd, 1UL, true)]
    [InlineData(CpuVendor.Intel, 1UL, true)]
    public void TheStackShadowHidesInstructionBreakpointsFromIntel(CpuVendor vendor, ulong fromEnd, bool met)
    {
        Event e = Case("8e d0 90 90", 0, (Register.Rax, 0x2b)).Break(0, End - fromEnd, OnExecution).Run(Profile(vendor)).Only();

        Assert.Equal(met ? (1, End - fromEnd) : (14, End), (e.Vector, e.Registers.Rip));
    }

    /// <summary>Instruction breakpoints come before INT3, ICEBP and SYSCALL take effect; these clear RF like any other instruction.</summary>
    [Theory]
    [InlineData("cc", 3)]
    [InlineData("f1", 1)]
    [InlineData("0f 05", 0)]
    [InlineData("cd 04", 4)]
    public void InstructionBreakpointsComeBeforeSystemEntries(string code, byte vector)
    {
        TestCase testCase = Case(code);
        Outcome outcome = testCase.Break(0, testCase.Code.Address, OnExecution).Answered(Go(RF)).Run();

        Assert.Equal([((byte)1, testCase.Code.Address), (vector, End)], outcome.Events.Select(e => (e.Vector, e.Registers.Rip)));
        Assert.Equal(0UL, outcome.Events[1].Registers.Rflags & RF);
    }

    /// <summary>Compatibility mode: linear addresses have 32 bits, so that an access across 4 GiB meets a breakpoint at 0, and no address above is ever met.</summary>
    [Fact]
    public void CompatibilityModeHasShortAddresses()
    {
        TestCase push = Case(CpuMode.Compatibility32, "50 90").Break(0, Stack - 4, OnWrite, 4);
        Assert.Equal((byte)1, push.Run().Only().Vector);
        Assert.Equal((byte)14, Case(CpuMode.Compatibility32, "50 90").Break(0, Stack - 4 + (1UL << 32), OnWrite, 4).Run().Only().Vector);
        Assert.Equal((byte)14, Case(CpuMode.Compatibility32, "90 90").Break(0, End - 1 + (1UL << 32), OnExecution).Run().Only().Vector);
        Assert.Equal((byte)1, Case(CpuMode.Compatibility32, "90 90").Break(0, End - 1, OnExecution).Run().Only().Vector);
    }

    /// <summary>AMD pops the slot of ESP at POPA and throws it away, Intel skips it.</summary>
    [Theory]
    [InlineData(CpuVendor.Amd, 1)]
    [InlineData(CpuVendor.Intel, 14)]
    public void PopAllReadsTheSlotOfEspOnAmd(CpuVendor vendor, byte vector) =>
        Assert.Equal(vector, Case(CpuMode.Compatibility32, "61 90").Break(0, Stack + 12, OnAccess, 4).Run(Profile(vendor)).Only().Vector);

    /// <summary>Breakpoints belong to their case: the same model runs the next one without.</summary>
    [Fact]
    public void BreakpointsEndWithTheirCase()
    {
        using X86Model model = new();
        TestCase plain = Case("89 07 90", 0, (Register.Rdi, Data));

        Assert.Equal([14, 1, 14], new[] { plain, plain.Break(0, Data, OnWrite, 4), plain }.Select(c => (int)model.Run(c).Only().Vector));
    }

    private static CpuProfile Profile(CpuVendor vendor) => vendor == CpuVendor.Amd ? CpuProfile.DefaultAmd : CpuProfile.DefaultIntel;

    private static Response Go(ulong flags = 0) => flags == 0 ? new Response([]) : new Response([KeyValuePair.Create(Register.Rflags, Fixed1 | IF | flags)]);

    private static List<(int Vector, ulong Rip)> Stops(Outcome outcome) => [.. outcome.Events.Select(e => ((int)e.Vector, e.Registers.Rip))];

    private static IEnumerable<byte> Words(params ulong[] values) => values.SelectMany(BitConverter.GetBytes);
}

/// <summary>Arms debug registers.</summary>
file static class Arming
{
    /// <summary>Adds a breakpoint.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="number">0 to 3.</param>
    /// <param name="address">Linear address.</param>
    /// <param name="kind">The R/W field.</param>
    /// <param name="length">Bytes: 1, 2, 4 or 8.</param>
    public static TestCase Break(this TestCase testCase, int number, ulong address, ulong kind, int length = 1)
    {
        ulong field = length switch { 1 => 0UL, 2 => 1, 4 => 3, _ => 2 };
        ulong control = testCase.Registers.Debug?.Dr7 ?? 0x400;
        return testCase.Armed(number, address, control | (1UL << (2 * number)) | ((kind | (field << 2)) << (16 + (4 * number))));
    }

    /// <summary>Sets one address and DR7.</summary>
    public static TestCase Armed(this TestCase testCase, int number, ulong address, ulong control) =>
        testCase with { Registers = testCase.Registers.With(Register.Dr0 + number, address).With(Register.Dr7, control) };

    /// <summary>Adds responses.</summary>
    public static TestCase Answered(this TestCase testCase, params Response[] responses) => testCase with { Responses = [.. responses] };
}
