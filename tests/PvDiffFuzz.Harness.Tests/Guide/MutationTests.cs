using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Mutations make cases of cases.</summary>
public sealed class MutationTests
{
    private const int Mutants = 3000;

    public static TheoryData<Abi> Abis => [Abi.X86, Abi.PvmRfc1, Abi.Pvm612, Abi.XenPv64, Abi.XenPv64Fred, Abi.XenPv32];

    /// <summary>Whatever is put on top of each other, a mutant is well formed and may run, and most attempts give one.</summary>
    [Theory]
    [MemberData(nameof(Abis))]
    public void MutantsAreWellFormedAndMayRun(Abi abi)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi) with { CompatibilityPercent = 20 }, CpuProfile.DefaultAmd);
        List<TestCase> corpus = [.. Enumerable.Range(0, 50).Select(i => generator.Generate(1, (ulong)i))];
        Mutator mutator = new(CpuVendor.Amd, PoolOf(corpus), MayRun, 6);
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

        static bool MayRun(TestCase testCase) =>
            testCase.Abi.IsXen() ? XenExclusions.MayRunLive(testCase, CpuProfile.DefaultAmd) : PvmExclusions.MayRunLive(testCase, CpuProfile.DefaultAmd);
    }

    /// <summary>Every mutation changes something, in cases that have what it changes, and the same arguments give the same.</summary>
    [Theory]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.XenPv64)]
    public void EveryMutationMutates(Abi abi)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd);
        MutationContext context = new(CpuVendor.Amd, PoolOf(Enumerable.Range(0, 50).Select(i => generator.Generate(4, (ulong)i))));
        foreach (IMutation mutation in Mutations.All)
        {
            int changed = 0;
            for (ulong i = 0; i < 400; i++)
            {
                (TestCase one, TestCase other) = (generator.Generate(2, i), generator.Generate(3, i));
                CounterRandom random = new(5, i);
                CounterRandom same = random;
                TestCase? mutant = mutation.Apply(one, other, ref random, context);

                Assert.Equal(mutant, mutation.Apply(one, other, ref same, context));
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

    /// <summary>The links of a chain are instructions that raised events, and each response goes on right behind one.</summary>
    [Fact]
    public void AChainGoesOnBehindEveryEvent()
    {
        RaiserPool pool = new();
        pool.Add(new CorpusEntry(Cases.Of("48ffc0", "0f0b", "90"), [], 1, [new Raiser(6, 1)]));
        CounterRandom random = new(1, 2);
        TestCase chain = new ChainMutation().Apply(Cases.Of("90", "90"), Cases.Of("90"), ref random, new MutationContext(CpuVendor.Amd, pool))!;

        Assert.Null(chain.Check());
        Assert.Equal(chain.Code.Address, chain.Registers.Rip);
        Assert.InRange(chain.Responses.Length, 2, 10);
        ulong at = chain.Code.Address;
        List<ulong> behind = [];
        foreach (System.Collections.Immutable.ImmutableArray<byte> piece in CodeEdit.Pieces(chain.Code))
        {
            at += (ulong)piece.Length;
            Assert.Contains(Convert.ToHexStringLower(piece.AsSpan()), (string[])["48ffc0", "0f0b"]);
            if (piece.AsSpan() is [0x0f, 0x0b])
            {
                behind.Add(at);
            }
        }

        Assert.Equal(behind, chain.Responses.Select(response => response.Patches[^1].Value));
    }

    /// <summary>Without a corpus there is nothing to chain, and code of another mode or side gives nothing.</summary>
    [Fact]
    public void AChainTakesLinksOfItsSideOnly()
    {
        RaiserPool pool = new();
        CounterRandom random = new(1, 2);
        TestCase own = Cases.Of("90", "90");
        MutationContext context = new(CpuVendor.Amd, pool);

        Assert.Null(new ChainMutation().Apply(own, own, ref random, context));
        TestCase narrow = own with { Registers = own.Registers with { Cs = Selectors.UserCode32 } };
        pool.Add(new CorpusEntry(narrow, [], 1, [new Raiser(6, 0)]));
        Assert.Null(new ChainMutation().Apply(own, own, ref random, context));
        pool.Add(new CorpusEntry(own, [], 1, [new Raiser(6, 0)]));
        Assert.NotNull(new ChainMutation().Apply(own, own, ref random, context));
        pool.Clear();
        Assert.Null(new ChainMutation().Apply(own, own, ref random, context));
    }

    /// <summary>A fault's instruction begins where the event says, a trap's ends there; each kind of event counts once, and events from elsewhere not.</summary>
    [Fact]
    public void InstructionsThatRaiseEventsAreFound()
    {
        TestCase testCase = Cases.Of("48ffc0", "0f0b", "f1", "0f0b");
        ulong start = testCase.Code.Address;
        Event[] events = [Cases.Fault(6, start + 3).Events[0], Cases.Fault(1, start + 6).Events[0], Cases.Fault(6, start + 6).Events[0], Cases.Fault(14, 0x1234).Events[0]];

        Assert.Equal([1, 2], Raiser.Of(testCase, Cases.Fault() with { Events = [.. events] }).Select(raiser => (int)raiser.Piece));
    }

    /// <summary>In every ABI the usual way back is one that a case may have.</summary>
    [Theory]
    [MemberData(nameof(Abis))]
    public void LaddersAreWellFormedInEveryAbi(Abi abi)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd);
        for (ulong i = 0; i < 200; i++)
        {
            CounterRandom random = new(1, i);
            Assert.Null(LadderMutation.Climb(generator.Generate(1, i), ref random).Check());
        }
    }

    /// <summary>A guest without a user root has no user pages from which a value could come.</summary>
    [Fact]
    public void AGuestWithoutUserPagesIsMutated()
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(Abi.XenPv64), CpuProfile.DefaultAmd);
        TestCase any = Enumerable.Range(0, 100).Select(i => generator.Generate(1, (ulong)i)).First(testCase => testCase is { Start: GuestMode.Supervisor, Contents.Length: > 0 });
        TestCase alone = any with { Xen = any.Xen! with { UserLayout = PageLayout.Create([]) } };
        Mutator mutator = new(CpuVendor.Amd, PoolOf([alone]), null, 6);
        int made = Enumerable.Range(0, 2000).Count(i =>
        {
            CounterRandom random = new(1, (ulong)i);
            return mutator.Mutate(alone, any, ref random) is not null;
        });

        Assert.Null(alone.Check());
        Assert.True(made > 1000, $"only {made} of 2000");
    }

    /// <summary>A pool in which every case's last instruction counts as one that raised something.</summary>
    private static RaiserPool PoolOf(IEnumerable<TestCase> corpus)
    {
        RaiserPool pool = new();
        foreach (TestCase testCase in corpus)
        {
            int last = testCase.Code.Lengths.Length - 1;
            pool.Add(new CorpusEntry(testCase, [], 1, [new Raiser((ushort)(last % 5), (ushort)last)]));
        }

        return pool;
    }
}
