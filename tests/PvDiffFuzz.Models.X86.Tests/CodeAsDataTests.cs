using PvDiffFuzz.Core;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Code that changes itself, jumps into the middle of instructions, and loops.</summary>
public sealed class CodeAsDataTests
{
    /// <summary>Pages that can be written and executed, of which code fills the end.</summary>
    private const ulong CodeEnd = AddressMap.LowBlock + AddressMap.WritableCode + 0x2000;

    /// <summary>MOV BYTE [RIP+0],90 turns the INC EAX after it into NOP NOP: the very next instruction is the new one.</summary>
    [Fact]
    public void TheNextInstructionIsTheStoredOne()
    {
        Assert.Equal(1UL, InWritableCode("66 90 66 90 66 90 ff c0").RunToEnd()[Register.Rax]);

        // c7 05 disp32 imm32: ten bytes, then ff c0 and two more.
        Outcome outcome = InWritableCode("c7 05 00 00 00 00 90 90 90 90 ff c0 ff c0").Run();
        Assert.Equal((EndKind.ReachedEnd, 0UL), (outcome.End, outcome.Registers![Register.Rax]));
        Assert.Equal(CodeEnd - 8, Assert.Single(outcome.Memory).Address);
    }

    /// <summary>A loop that patches its own increment: INC (ff c0) three times, then DEC (ff c8) once the byte was stored.</summary>
    [Fact]
    public void LoopsSeeWhatTheyStored()
    {
        // L: inc eax; dec ecx; mov byte [rbx],c8; jnz L. The store follows the first round, so that the others decrement: 1 - 1 - 1 = -1.
        RegisterState end = InWritableCode("ff c0 ff c9 c6 03 c8 75 f7", (Register.Rcx, 3), (Register.Rbx, CodeEnd - 8)).RunToEnd();

        Assert.Equal((0xffff_ffffUL, 0UL), (end[Register.Rax], end[Register.Rcx]));
    }

    /// <summary>A repeated store over code that comes after it, and one over itself: the instruction that runs is finished, the next ones are new.</summary>
    [Fact]
    public void RepeatedStoresChangeWhatComes()
    {
        RegisterState after = InWritableCode("f3 aa ff c3 ff c3", (Register.Rax, 0x90), (Register.Rcx, 4), (Register.Rdi, CodeEnd - 4)).RunToEnd();
        Assert.Equal((0UL, 0UL), (after[Register.Rbx], after[Register.Rcx]));

        RegisterState itself = InWritableCode("f3 aa ff c3", (Register.Rax, 0x90), (Register.Rcx, 2), (Register.Rdi, CodeEnd - 4)).RunToEnd();
        Assert.Equal((1UL, 0UL), (itself[Register.Rbx], itself[Register.Rcx]));
    }

    /// <summary>A store to the other half of an instruction that crosses pages, through the stack: PUSH writes over what runs next.</summary>
    [Fact]
    public void EveryKindOfStoreCounts()
    {
        foreach (string store in (ReadOnlySpan<string>)["50", "87 43 00", "f0 0f c1 43 00", "ab"])
        {
            int size = store.Split(' ').Length;
            TestCase testCase = InWritableCode(
                $"{store} ff c1 ff c1 ff c1 ff c1",
                (Register.Rax, 0x9090_9090_9090_9090),
                (Register.Rsp, CodeEnd),
                (Register.Rbx, CodeEnd - 8),
                (Register.Rdi, CodeEnd - 8));

            // PUSH covers all four increments, the others, of 32 bits, the first two; XADD stores the sum, whose bytes are not NOPs, so only that it is new code matters.
            ulong count = testCase.Run().Events[^1].Registers[Register.Rcx];
            Assert.True(count != 4, $"{store} ({size} bytes): the old code ran");
        }
    }

    /// <summary>Code outside the case's block can be written and run too.</summary>
    [Fact]
    public void StoredCodeRunsWhereNoneWas()
    {
        // mov dword [rbx],e3ff c1ff (inc ecx; jmp rbx is ff e3): inc ecx at rbx, then jmp rdx back to the end of the code.
        TestCase testCase = Case("c7 03 ff c1 ff e2 ff e3", 0, (Register.Rbx, CodeEnd - 0x100), (Register.Rdx, End));
        RegisterState end = testCase.RunToEnd();

        Assert.Equal((1UL, End), (end[Register.Rcx], end.Rip));
    }

    /// <summary>Changes do not outlive a case: the same one twice on one model, and a clean one after it.</summary>
    [Fact]
    public void ChangesEndWithTheCase()
    {
        TestCase changing = InWritableCode("c7 05 00 00 00 00 90 90 90 90 ff c0 ff c0");
        using X86Model model = new();

        Assert.Equal(model.Run(changing), model.Run(changing));
        Assert.Equal(1UL, model.Run(InWritableCode("66 90 66 90 66 90 ff c0")).Registers![Register.Rax]);
    }

    /// <summary>b8 ff c0 90 90: MOV EAX,9090c0ff from its start, INC EAX NOP NOP from its second byte; a case runs both in one go.</summary>
    [Fact]
    public void AJumpIntoAnInstructionFindsAnother()
    {
        // test ecx,ecx; lea rcx,[rcx+1]; jnz +1: over the b8. The first byte after jumps back once.
        RegisterState end = Case("b8 ff c0 90 90 ff c1 83 f9 02 72 f5", 0).RunToEnd();

        // First round: EAX = 9090c0ff, ECX = 1, below 2: jump to the ff of b8 ff c0. Second round: INC EAX, ECX = 2.
        Assert.Equal((0x9090_c100UL, 2UL), (end[Register.Rax], end[Register.Rcx]));
    }

    /// <summary>Prefixes are instructions' first bytes only: a jump past a LOCK finds the plain INC.</summary>
    [Fact]
    public void AJumpPastAPrefixFindsTheRest()
    {
        Assert.Equal((byte)6, Case("f0 ff c0").Run().Only().Vector);
        Assert.Equal(1UL, Case("eb 01 f0 ff c0").RunToEnd()[Register.Rax]);
    }

    /// <summary>JMP to itself, a loop of two, and REP with a huge count end with the limit; the outcome is never compared.</summary>
    [Theory]
    [InlineData("eb fe")]
    [InlineData("90 eb fd")]
    [InlineData("f3 ac")]
    [InlineData("e2 fe")]
    [InlineData("66 90 74 fc 75 fa")]
    public void EndlessLoopsEndWithTheLimit(string code)
    {
        using X86Model model = new();
        foreach (int limit in (ReadOnlySpan<int>)[1, 7, 1000])
        {
            TestCase testCase = Case(code, 0, (Register.Rcx, ulong.MaxValue), (Register.Rsi, Data)) with { Limits = new CaseLimits(limit) };
            Outcome outcome = model.Run(testCase);

            Assert.Equal((limit, EndKind.BudgetSpent, false), (limit, outcome.End, outcome.Comparable));
        }
    }

    /// <summary>LOOP with ECX 10 is ten instructions: a limit of ten does not reach the fetch at the end, eleven do.</summary>
    [Fact]
    public void TheLimitCountsEveryRound()
    {
        TestCase testCase = Case("e2 fe", 0, (Register.Rcx, 10));
        using X86Model model = new();

        Assert.Equal(EndKind.BudgetSpent, model.Run(testCase with { Limits = new CaseLimits(10) }).End);
        Assert.Equal(EndKind.ReachedEnd, model.Run(testCase with { Limits = new CaseLimits(11) }).End);
    }

    private static TestCase InWritableCode(string code, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        ulong start = CodeEnd - (ulong)bytes.Length;
        TestCase at = Case("90", 0, registers);
        TestCase testCase = at with { Code = new CodeBlock(start, [.. bytes], [(byte)bytes.Length]), Registers = at.Registers with { Rip = start } };
        Assert.Null(testCase.Check());
        return testCase;
    }
}
