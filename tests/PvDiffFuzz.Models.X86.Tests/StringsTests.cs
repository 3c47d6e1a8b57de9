using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about string instructions.</summary>
public sealed class StringsTests
{
    private const ulong LastData = AddressMap.LowBlock + AddressMap.Data + 0x1fff;

    /// <summary>REP STOSB from two bytes before the end of a mapping: two iterations, then #PF with the count at 3 - 2.</summary>
    [Fact]
    public void RepeatStopsPreciselyAtAFault()
    {
        Outcome outcome = Case("f3 aa", 0, (Register.Rcx, 3), (Register.Rdi, LastData - 1), (Register.Rax, 0xee)).Run();
        Event fault = outcome.Only();

        Assert.Equal(((byte)14, 6u, LastData + 1), (fault.Vector, fault.ErrorCode!.Value, fault.Cr2!.Value));
        Assert.Equal((1UL, LastData + 1, End - 2), (fault.Registers[Register.Rcx], fault.Registers[Register.Rdi], fault.Registers.Rip));
        Assert.Equal(RF, fault.Registers.Rflags & RF);
        Assert.Equal(0xeeeeUL << 48, Assert.Single(outcome.Memory).Value);
    }

    /// <summary>DF moves down: MOVSQ ends with both pointers 8 lower.</summary>
    [Fact]
    public void DirectionFlagMovesDown()
    {
        RegisterState end = Case("48 a5", DF, (Register.Rsi, Data), (Register.Rdi, Data + 64)).RunToEnd();

        Assert.Equal((Data - 8, Data + 56), (end[Register.Rsi], end[Register.Rdi]));
    }

    /// <summary>REPNE SCASB finds the third byte: RCX 10 - 3, RDI after it, ZF set.</summary>
    [Fact]
    public void ScanEndsAtTheMatch()
    {
        RegisterState end = Case("f2 ae", 0, (Register.Rcx, 10), (Register.Rdi, Data), (Register.Rax, 3)).With(Data, 1, 2, 3, 4).RunToEnd();

        Assert.Equal((7UL, Data + 3, ZF | PF), (end[Register.Rcx], end[Register.Rdi], end.Status()));
    }

    /// <summary>REPE CMPSB of 1 2 and 1 3 stops after the second byte with 2 - 3: CF, AF, SF and PF of ff.</summary>
    [Fact]
    public void CompareSubtractsTheSecondFromTheFirst()
    {
        RegisterState end = Case("f3 a6", 0, (Register.Rcx, 10), (Register.Rsi, Data), (Register.Rdi, Data + 16)).With(Data, 1, 2).With(Data + 16, 1, 3).RunToEnd();

        Assert.Equal((8UL, CF | AF | SF | PF), (end[Register.Rcx], end.Status()));
    }

    /// <summary>Two iterations under TF: the first #DB has RIP at the instruction, on Intel with RF, the second RIP after it and no RF.</summary>
    [Theory]
    [InlineData(CpuVendor.Intel, RF)]
    [InlineData(CpuVendor.Amd, 0UL)]
    public void SingleStepTrapsAfterEachIteration(CpuVendor vendor, ulong between)
    {
        TestCase testCase = Case("f3 aa 90", TF, (Register.Rcx, 2), (Register.Rdi, Data)) with { Responses = [new Response([]), new Response([])] };
        Outcome outcome = testCase.Run(vendor == CpuVendor.Intel ? CpuProfile.DefaultIntel : CpuProfile.DefaultAmd);

        Assert.Equal(3, outcome.Events.Length);
        Assert.All(outcome.Events, e => Assert.Equal((byte)1, e.Vector));
        Assert.Equal([End - 3, End - 1, End], outcome.Events.Select(e => e.Registers.Rip));
        Assert.Equal([between, 0, 0], outcome.Events.Select(e => e.Registers.Rflags & RF));
        Assert.Equal([1UL, 0, 0], outcome.Events.Select(e => e.Registers[Register.Rcx]));
    }

    /// <summary>32-bit addresses and ECX = 0: AMD writes nothing, Intel clears the upper halves.</summary>
    [Fact]
    public void ZeroCountWithShortAddressesDependsOnTheVendor()
    {
        TestCase testCase = Case("67 f3 a4", 0, (Register.Rcx, 1UL << 32), (Register.Rsi, 1UL << 32));

        Assert.Equal(1UL << 32, testCase.RunToEnd()[Register.Rcx]);
        RegisterState intel = testCase.RunToEnd(CpuProfile.DefaultIntel);
        Assert.Equal((0UL, 0UL), (intel[Register.Rcx], intel[Register.Rsi]));
    }

    /// <summary>Every iteration counts: 20 of them do not fit into a limit of 10, but do into 21 with the fetch at the end.</summary>
    [Fact]
    public void IterationsSpendTheBudget()
    {
        TestCase testCase = Case("f3 aa", 0, (Register.Rcx, 20), (Register.Rdi, Data));
        using X86Model model = new();

        Assert.Equal(EndKind.BudgetSpent, model.Run(testCase with { Limits = new CaseLimits(10) }).End);
        Assert.Equal(EndKind.ReachedEnd, model.Run(testCase with { Limits = new CaseLimits(21) }).End);
    }

    /// <summary>LODSW keeps the rest of RAX; port strings are #GP(0) even with a count of 0.</summary>
    [Fact]
    public void LoadStringIsPartialAndPortStringsAreRefused()
    {
        Assert.Equal(0x1111_0201UL, Case("66 ad", 0, (Register.Rax, 0x1111_2222), (Register.Rsi, Data)).With(Data, 1, 2).RunToEnd()[Register.Rax]);
        Assert.Equal((byte)13, Case("f3 6c").Run().Only().Vector);
    }
}
