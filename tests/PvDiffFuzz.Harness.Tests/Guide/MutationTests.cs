using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Mutations make cases of cases.</summary>
public sealed class MutationTests
{
    private const int Mutants = 3000;

    public static TheoryData<Abi> Abis => [Abi.X86, Abi.PvmRfc1, Abi.Pvm612];

    /// <summary>Whatever is put on top of each other, a mutant is well formed and may run, and most attempts give one.</summary>
    [Theory]
    [MemberData(nameof(Abis))]
    public void MutantsAreWellFormedAndMayRun(Abi abi)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi) with { CompatibilityPercent = 20 }, CpuProfile.DefaultAmd);
        Mutator mutator = new(CpuVendor.Amd, MayRun, 6);
        List<TestCase> corpus = [.. Enumerable.Range(0, 50).Select(i => generator.Generate(1, (ulong)i))];
        int made = 0;
        for (int i = 0; i < Mutants; i++)
        {
            CounterRandom random = new(7, (ulong)i);
            TestCase parent = random.Pick<TestCase>(corpus.ToArray());
            if (mutator.Mutate(parent, random.Pick<TestCase>(corpus.ToArray()), ref random) is TestCase mutant)
            {
                made++;
                Assert.Null(mutant.Check());
                Assert.True(MayRun(mutant), CaseDigest.NameOf(mutant));
                Assert.Equal(abi, mutant.Abi);

                // Mutants of mutants go furthest.
                corpus[random.Below(corpus.Count)] = mutant;
            }
        }

        Assert.True(made > Mutants / 2, $"only {made} of {Mutants}");

        static bool MayRun(TestCase testCase) => PvmExclusions.MayRunLive(testCase, CpuProfile.DefaultAmd);
    }

    /// <summary>Every mutation changes something, in cases that have what it changes, and the same arguments give the same.</summary>
    [Fact]
    public void EveryMutationMutates()
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), CpuProfile.DefaultAmd);
        foreach (IMutation mutation in Mutations.All)
        {
            int changed = 0;
            for (ulong i = 0; i < 400; i++)
            {
                (TestCase one, TestCase other) = (generator.Generate(2, i), generator.Generate(3, i));
                CounterRandom random = new(5, i);
                CounterRandom same = random;
                TestCase? mutant = mutation.Apply(one, other, ref random, new MutationContext(CpuVendor.Amd));

                Assert.Equal(mutant, mutation.Apply(one, other, ref same, new MutationContext(CpuVendor.Amd)));
                changed += mutant is not null && mutant.Check() is null && !mutant.Equals(one) ? 1 : 0;
            }

            Assert.True(changed > 40, $"{mutation.GetType().Name} changed {changed} of 400 cases");
        }
    }

    /// <summary>An instruction that comes from elsewhere keeps what it points to, and what stood in the code before it moves with its addresses.</summary>
    [Fact]
    public void InsertedInstructionsKeepTheirTargets()
    {
        // mov rax,[rip+0x100] of another case, between inc rax and a jump over one NOP to the end.
        TestCase own = Cases.Of("48ffc0", "eb01", "90");
        TestCase other = Cases.Of("488b0500010000", "90");
        CodePiece foreign = CodeEdit.PiecesOf(other.Code)[0] with { Origin = -1 };
        CodePiece[] pieces = CodeEdit.PiecesOf(own.Code);
        TestCase joined = CodeEdit.Arrange(own, [pieces[0], foreign, pieces[1], pieces[2]], CpuVendor.Intel)!;

        Assert.Equal(own.Code.End, joined.Code.End);
        Assert.Equal(joined.Code.Address, joined.Registers.Rip);
        Iced.Intel.Instruction load = CodeEdit.DecodeOne(joined.Code.Bytes.AsSpan()[3..], joined.Code.Address + 3, CpuMode.Long64, CpuVendor.Intel);
        Assert.Equal(other.Code.Address + 7 + 0x100, load.IPRelativeMemoryAddress);
        Iced.Intel.Instruction jump = CodeEdit.DecodeOne(joined.Code.Bytes.AsSpan()[10..], joined.Code.Address + 10, CpuMode.Long64, CpuVendor.Intel);
        Assert.Equal(joined.Code.End, jump.NearBranchTarget);
    }

    /// <summary>With a ladder the second instruction runs although the first one faults.</summary>
    [Fact]
    public void ALadderReachesEveryInstruction()
    {
        CounterRandom random = new(1, 1);
        TestCase climbing = LadderMutation.Climb(Cases.Of("0f0b", "48ffc0", "0f0b"), ref random);

        Assert.Null(climbing.Check());
        Assert.Equal([climbing.Code.Address + 2, climbing.Code.Address + 5, climbing.Code.End], climbing.Responses.Select(r => r.Patches[^1].Value));
    }
}
