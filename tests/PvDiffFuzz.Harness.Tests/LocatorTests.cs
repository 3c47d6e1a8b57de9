using Iced.Intel;
using PvDiffFuzz.Core;
using Flag = PvDiffFuzz.Core.RflagsBits;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests;

public sealed class LocatorTests
{
    /// <summary>The carry goes wrong at ADC and RAX at the second ADC because of it: the first is the cause.</summary>
    [Fact]
    public void ACaseIsCutToItsFirstDivergence()
    {
        using CaseRunner runner = Runner((mnemonic, state) => state.Set(mnemonic == Mnemonic.Adc ? Flag.CF : 0));

        Examination cut = Locator.FirstDivergence(Cases.Of("48ffc0", "4811d8", "90", "4811d8", "48ffc3"), runner, null)!;

        Assert.Equal("x86 Adc_rm64_r64 end event.rflags.CF a/b", Divergence.Of(cut, runner).Signature.ToString());
        Assert.Equal("48ffc04811d890909090909090", Convert.ToHexStringLower(cut.Case.Code.Bytes.AsSpan()));
    }

    /// <summary>The last instruction of the code is the SYSCALL by which the answer returns. Without it no target could run the case, and nothing would differ but the whole of it.</summary>
    [Fact]
    public void TheInstructionThatAnswersReturnByStays()
    {
        TestCase testCase = PvmCases.Supervisor("48ffc0", "48ffc3", "49ffc4", "0f05") with { Responses = [new Response([]) { Return = ReturnKind.Erets }] };
        testCase = testCase with { System = testCase.System.With(SystemRegister.PvmRetsRip, testCase.Code.End - 2) };
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", c => c.Responses.Length > 0 && c.Code.Bytes[^1] == 0x05 ? PvmCases.Ends(PvmCases.Fault(), PvmCases.Fault()) : Outcome.Unsupported("no return")),
            new FakeTarget("b", c => PvmCases.Ends(PvmCases.Fault(), PvmCases.Fault(rflags: c.Code.Bytes[5] == 0xc3 ? 3UL : 2UL))));

        Examination cut = Locator.FirstDivergence(testCase, runner, null)!;

        Assert.Equal("48ffc048ffc39090900f05", Convert.ToHexStringLower(cut.Case.Code.Bytes.AsSpan()));
    }

    /// <summary>Without answers it is an instruction like any other, at which a divergence would be looked for in vain.</summary>
    [Fact]
    public void WithoutAnswersNoInstructionStays()
    {
        TestCase testCase = PvmCases.Supervisor("48ffc0", "48ffc3", "49ffc4", "0f05");
        testCase = testCase with { System = testCase.System.With(SystemRegister.PvmRetsRip, testCase.Code.End - 2) };
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", _ => PvmCases.Ends(PvmCases.Fault())),
            new FakeTarget("b", c => PvmCases.Ends(PvmCases.Fault(rflags: c.Code.Bytes[5] == 0xc3 ? 3UL : 2UL))));

        Examination cut = Locator.FirstDivergence(testCase, runner, null)!;

        Assert.Equal("48ffc048ffc39090909090", Convert.ToHexStringLower(cut.Case.Code.Bytes.AsSpan()));
    }

    [Fact]
    public void WhatDoesNotDivergeAgainGivesNothing()
    {
        using CaseRunner runner = Runner((_, _) => { });

        Assert.Null(Locator.FirstDivergence(Cases.Of("48ffc0", "90"), runner, null));
    }

    /// <summary>Cases that are located together are cut as each is by itself, in two batches a target.</summary>
    [Fact]
    public void CasesAreLocatedTogether()
    {
        TestCase[] cases = [Cases.Of("48ffc0", "4811d8", "90"), Cases.Of("48ffc0", "90"), Cases.Of("4811d8", "48ffc3")];
        using CaseRunner runner = Runner((mnemonic, state) => state.Set(mnemonic == Mnemonic.Adc ? Flag.CF : 0));
        Examination?[] alone = [.. cases.Select(c => Locator.FirstDivergence(c, runner, null))];

        Examination?[] together = Locator.FirstDivergences(cases, runner, null);

        Assert.Null(together[1]);
        Assert.Equal(alone.Select(cut => cut?.Case), together.Select(cut => cut?.Case));
        Assert.Equal(["48ffc04811d890", "4811d8909090"], together.Where(cut => cut is not null).Select(cut => Convert.ToHexStringLower(cut!.Case.Code.Bytes.AsSpan())));
    }

    /// <summary>Where a divergence stays once it is there, halving finds the first instruction of it as well, wherever it is, and asks for few of the sixteen prefixes.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(15)]
    [InlineData(-1)]
    public void HalvingFindsTheFirstDivergence(int adc)
    {
        TestCase testCase = Cases.Of([.. Enumerable.Range(0, 16).Select(i => i == adc ? "4811d8" : "48ffc3")]);
        using CaseRunner runner = Runner((mnemonic, state) => state.Set(mnemonic == Mnemonic.Adc ? Flag.CF : 0));
        using CaseRunner halving = Runner((mnemonic, state) => state.Set(mnemonic == Mnemonic.Adc ? Flag.CF : 0));

        Examination? first = Locator.FirstDivergence(testCase, runner, null);
        Examination? local = Locator.LocalDivergences([testCase], halving, null)[0];

        Assert.Equal(adc < 0, first is null);
        Assert.Equal(first?.Case, local?.Case);
        Assert.InRange(halving.Runs, 2, 2 * 7);
    }

    /// <summary>The divergence of the first instruction goes away and another one comes: halving need not see it.</summary>
    [Fact]
    public void HalvingFindsAPrefixThatDivergesWhereTheOneBeforeDoesNot()
    {
        TestCase testCase = Cases.Of("48ffc3", "48ffc3", "48ffc3", "48ffc3", "48ffc3", "48ffc3");
        using CaseRunner runner = new(
            [new FakeTarget("a", new FakeMachine().Run), new FakeTarget("b", c => new FakeMachine((_, state) => state.Set(Kept(c) is 1 or >= 5 ? Flag.CF : 0)).Run(c))],
            new CaseAnalyst(new FakeMachine(), null, CpuVendor.Intel));

        Assert.Equal(1, Kept(Locator.FirstDivergence(testCase, runner, null)!.Case));
        Assert.Equal(5, Kept(Locator.LocalDivergences([testCase], runner, null)[0]!.Case));

        static int Kept(TestCase testCase) => testCase.Code.Bytes.AsSpan().Count<byte>(0xff);
    }

    /// <summary>Dropping an instruction moves what stands before it; a branch over it, a RIP-relative address, RIP and pointers into the code follow.</summary>
    [Fact]
    public void EditedCodeKeepsItsMeaning()
    {
        // jmp over the INC to the LEA; lea rax,[rip-0x10] is the code's own start.
        TestCase testCase = Cases.Of("eb03", "48ffc0", "488d05f4ffffff", "90");
        testCase = testCase.With(Register.Rbx, testCase.Code.Address + 5) with { Responses = [new Response([new(Register.Rip, testCase.Code.Address + 5)])] };
        TestCase edited = CodeEdit.Replace(testCase, [default, [], default, []], CpuVendor.Intel)!;

        Assert.Equal(testCase.Code.End, edited.Code.End);
        Assert.Equal(edited.Code.Address, edited.Registers.Rip);
        Assert.Equal(edited.Code.Address + 2, edited.Registers[Register.Rbx]);
        Assert.Equal(edited.Code.Address + 2, edited.Responses[0].Patches[0].Value);
        Outcome before = new FakeMachine().Run(testCase with { Responses = [] });
        Outcome after = new FakeMachine().Run(edited with { Responses = [] });
        Assert.Equal(testCase.Code.Address, before.Registers![Register.Rax]);
        Assert.Equal(edited.Code.Address, after.Registers![Register.Rax]);
        Assert.Equal(EndKind.ReachedEnd, after.End);
    }

    [Fact]
    public void AnEditThatLeavesNothingOrDoesNotReachIsRefused()
    {
        TestCase one = Cases.Of("90");
        Assert.Null(CodeEdit.Replace(one, [[]], CpuVendor.Intel));
        Assert.Null(CodeEdit.Replace(one, [[0x90, 0x90]], CpuVendor.Intel));
    }

    private static CaseRunner Runner(Action<Mnemonic, FakeMachine.State> bug) =>
        new([new FakeTarget("a", new FakeMachine().Run), new FakeTarget("b", new FakeMachine(bug).Run)], new CaseAnalyst(new FakeMachine(), null, CpuVendor.Intel));
}
