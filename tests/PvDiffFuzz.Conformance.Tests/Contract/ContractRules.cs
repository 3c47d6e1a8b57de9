using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using static PvDiffFuzz.Conformance.Tests.Payload;

namespace PvDiffFuzz.Conformance.Tests.Contract;

/// <summary>The promises. Each runs on a target that has run nothing else.</summary>
internal static class ContractRules
{
    /// <summary>All of them; the names appear in test results.</summary>
    public static ImmutableArray<ContractRule> All { get; } =
    [
        new("Nothing leaks from one case into the next", Dirt(), NothingLeaks),
        new("The order of cases does not matter", Generated(600), OrderDoesNotMatter),
        new("A batch gives what single runs give", Generated(300), BatchEqualsSingles),
        new("An endless loop is stopped alone", Loops(), LoopsAreStoppedAlone),
        new("A fault leaves no trace of its instruction", FaultingInstructions.Cases, FaultingInstructions.ArePrecise),
        new("Responses are applied", [Answered()], ResponsesAreApplied),
        new("A case about another processor is unsupported or runs as that one", OtherProcessors(), OtherProcessorsAreValues),
        new("A page that cannot be mapped is unsupported", OddPages(), OddPagesAreValues),
        new("A case ends with the fetch fault at its end", Ends(), EndsWithTheFetchFault),
    ];

    /// <summary>Runs a batch.</summary>
    public static Outcome[] Run(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = new Outcome[cases.Length];
        target.Run(cases.AsSpan(), outcomes);
        return outcomes;
    }

    private static ImmutableArray<TestCase> Generated(int count)
    {
        Generator generator = new(new GeneratorOptions { CompatibilityPercent = 10 }, Host.Profile);
        return [.. Enumerable.Range(0, count).Select(i => generator.Generate(20261121, (ulong)i))];
    }

    private static ImmutableArray<TestCase> Dirt()
    {
        // Loads what could have been left behind, and pushes the flags: [data], [data + 4096], [writable code], [stack].
        TestCase clean = Case(
            "48 8b 07 48 8b 9f 00 10 00 00 49 8b 00 48 8b 54 24 f0 9c",
            (Register.Rdi, Data),
            (Register.R8, AddressMap.HighBlock + AddressMap.WritableCode));
        (Register, ulong)[] full =
        [
            .. Enumerable.Range(0, 16).Where(r => r != 4).Select(r => ((Register)r, 0x1111_1111_1111_1111UL * (ulong)(r + 1))),
            (Register.Rdi, Data), (Register.R8, AddressMap.HighBlock + AddressMap.WritableCode),
            (Register.Rflags, Flags | RflagsBits.Status | RflagsBits.DF | RflagsBits.NT | RflagsBits.ID),
        ];
        const string stores = "48 89 07 48 89 87 00 10 00 00 49 89 00 50 50 50";
        TestCase ended = Case(stores, full);
        TestCase faulted = Case(stores + "fd f9 0f 0b", full);
        TestCase segments = Case(
            stores + "8e d8 8e c0 8e e0 8e e8 0f 0b", [.. full, (Register.Rax, Selectors.UserData), (Register.FsBase, Data), (Register.GsBase, Data + 8)]);
        TestCase stepped = Case(stores, [.. full, (Register.Rflags, Flags | RflagsBits.TF)]) with { Responses = [Patch(), Patch((Register.Rcx, 5))] };
        TestCase spent = Case(stores + "eb fe", full);
        return [clean, ended, clean, faulted, clean, segments, clean, stepped, clean, spent, clean];
    }

    private static void NothingLeaks(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = Run(target, cases);

        for (int i = 0; i < cases.Length; i += 2)
        {
            Assert.True(outcomes[i].Equals(outcomes[0]), $"after case {i - 1}:\n{Describe(outcomes[i])}\n{Describe(outcomes[0])}");
        }

        RegisterState clean = outcomes[0].Registers!;
        Assert.Equal((0UL, 0UL, 0UL, 0UL), (clean[Register.Rax], clean[Register.Rbx], clean[Register.Rdx], clean[Register.Rcx]));
        Assert.Equal((0UL, 0UL, 0UL, 0UL, 0UL, 0UL), (clean.FsBase, clean.GsBase, clean.Ds, clean.Es, clean.Fs, (ulong)clean.Gs));
        Assert.Equal([new MemoryWord(Stack - 8, Flags)], outcomes[0].Memory.ToArray());

        // The dirt was real.
        Assert.Equal(6, outcomes[1].Memory.Length);
        Assert.Equal(6, outcomes[3].Memory.Length);
        Assert.Equal((Selectors.UserData, Selectors.UserData), (outcomes[5].Registers!.Ds, outcomes[5].Registers!.Gs));
        Assert.Equal(3, outcomes[7].Events.Length);
        Assert.Equal(EndKind.BudgetSpent, outcomes[9].End);
    }

    private static void OrderDoesNotMatter(ITarget target, ImmutableArray<TestCase> cases)
    {
        int[] order = [.. Enumerable.Range(0, cases.Length)];
        new Random(7).Shuffle(order);

        Outcome[] first = Run(target, cases);
        Outcome[] shuffled = Run(target, [.. order.Select(i => cases[i])]);

        AssertSame(cases, first, index => shuffled[Array.IndexOf(order, index)]);
    }

    private static void BatchEqualsSingles(ITarget target, ImmutableArray<TestCase> cases) =>
        AssertSame(cases, Run(target, cases), index => target.Run(cases[index]));

    private static void AssertSame(ImmutableArray<TestCase> cases, Outcome[] outcomes, Func<int, Outcome> other)
    {
        List<string> failures = [];
        for (int i = 0; i < cases.Length; i++)
        {
            Outcome second = other(i);
            if (!WithoutUpperHalf(outcomes[i]).Equals(WithoutUpperHalf(second)) || second.End == EndKind.HarnessError)
            {
                failures.Add($"{Convert.ToHexString(cases[i].Code.Bytes.AsSpan())}\n  {Describe(outcomes[i])}\n  {Describe(second)}\n  {Fields(cases[i], outcomes[i], second)}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        int comparable = outcomes.Count(o => o.Comparable);
        Assert.True(comparable * 10 > cases.Length * 8, $"only {comparable} of {cases.Length} outcomes can be compared");
    }

    /// <summary>
    /// An outcome without two bits of error codes: whether something is present, and reserved, in the upper half of the address space is the host's, where the guest runs at CPL3 (known entry kvm-pvm-upper-half), and may change from
    /// one moment to the next.
    /// </summary>
    private static Outcome WithoutUpperHalf(Outcome outcome)
    {
        const ulong upperHalf = 0xffff_8000_0000_0000;
        const uint presentAndReserved = 9;
        return outcome with { Events = [.. outcome.Events.Select(e => e.Entry == EntryPoint.Idt && e.Cr2 >= upperHalf ? e with { ErrorCode = e.ErrorCode & ~presentAndReserved } : e)] };
    }

    /// <summary>Where two outcomes of one target differ.</summary>
    private static string Fields(TestCase testCase, Outcome first, Outcome second)
    {
        TargetInfo info = new("first", TargetKind.Model, "first", Capabilities.None, Fingerprint.Empty);
        Comparison comparison = new Comparer([info, info with { Name = "second" }], CaseAnalyst.Blind).Compare(testCase, [first, second]);
        return string.Join(", ", comparison.Differences.Select(d => $"{d.Field} ({string.Join(" against ", d.Values)})"));
    }

    private static ImmutableArray<TestCase> Loops() =>
        [Case("48 ff c0"), Case("eb fe"), Case("48 ff c0"), Case("48 ff c0 eb fb"), Case("9c 58 eb fc", (Register.Rflags, Flags | RflagsBits.NT)), Case("48 ff c0")];

    private static void LoopsAreStoppedAlone(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = Run(target, cases);

        Assert.Equal(
            [EndKind.ReachedEnd, EndKind.BudgetSpent, EndKind.ReachedEnd, EndKind.BudgetSpent, EndKind.BudgetSpent, EndKind.ReachedEnd], outcomes.Select(o => o.End));
        Assert.Equal(outcomes[0], outcomes[2]);
        Assert.Equal(outcomes[0], outcomes[5]);
        Assert.Equal(1UL, outcomes[5].Registers![Register.Rax]);
        Assert.False(outcomes[1].Comparable);
    }

    private static TestCase Answered() => Case("0f 0b 48 ff c0 cc 48 01 c8", (Register.Rbx, 7)) with
    {
        Responses = [Patch((Register.Rax, 76), (Register.Rip, End - 7), (Register.FsBase, Data)), Patch((Register.Rcx, 3)), Patch((Register.Rcx, 99))],
    };

    private static void ResponsesAreApplied(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome outcome = target.Run(cases[0]);

        Assert.True(outcome.End == EndKind.ReachedEnd, Describe(outcome));
        Assert.Equal([6, 3, 14], outcome.Events.Select(e => (int)e.Vector));
        Assert.Equal([End - 9, End - 3, End], outcome.Events.Select(e => e.Registers.Rip));
        Assert.Equal([0UL, 77UL, 80UL], outcome.Events.Select(e => e.Registers[Register.Rax]));
        RegisterState last = outcome.Registers!;
        Assert.Equal((3UL, 7UL, Data), (last[Register.Rcx], last[Register.Rbx], last.FsBase));
    }

    private static ImmutableArray<TestCase> OtherProcessors()
    {
        CpuProfile other = Host.Profile.Vendor == CpuVendor.Amd ? CpuProfile.DefaultIntel : CpuProfile.DefaultAmd;
        return
        [
            Case("48 ff c0") with { Profile = other },
            Case("48 ff c0") with { Profile = Host.Profile with { Family = Host.Profile.Family + 1 } },
            Case("48 ff c0"),
        ];
    }

    private static void OtherProcessorsAreValues(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = Run(target, cases);

        AssertValues(outcomes.AsSpan(0, 2), mustRefuse: target.Info.Kind == TargetKind.Hardware);
        Assert.True(outcomes[2].End == EndKind.ReachedEnd, Describe(outcomes[2]));
    }

    private static ImmutableArray<TestCase> OddPages()
    {
        const PageAccess readWrite = PageAccess.Read | PageAccess.Write;
        PageRange[] odd =
        [
            new(0, 1, readWrite),
            new(AddressMap.AgentFirst, 1, readWrite),
            new(0xffff_8000_0000_0000, 1, readWrite),
            new(AddressMap.HighBlock + AddressMap.Supervisor, 1, readWrite | PageAccess.Supervisor),
        ];
        return
        [
            .. odd.Select(range => Case("48 ff c0") with { Layout = PageLayout.Create([.. AddressMap.Standard.Ranges, range]) }),
            Case("48 ff c0"),
        ];
    }

    private static void OddPagesAreValues(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = Run(target, cases);

        AssertValues(outcomes.AsSpan(0, outcomes.Length - 1), mustRefuse: !target.Info.Capabilities.HasFlag(Capabilities.SupervisorPages));
        Assert.True(outcomes[^1].End == EndKind.ReachedEnd, Describe(outcomes[^1]));
    }

    private static void AssertValues(ReadOnlySpan<Outcome> outcomes, bool mustRefuse)
    {
        foreach (Outcome outcome in outcomes)
        {
            bool refused = outcome.End == EndKind.Unsupported;
            Assert.True(refused || (!mustRefuse && outcome.End == EndKind.ReachedEnd), Describe(outcome));
            Assert.Equal(refused, !string.IsNullOrWhiteSpace(outcome.Detail));
        }
    }

    private static ImmutableArray<TestCase> Ends()
    {
        const ulong lowEnd = AddressMap.LowBlock + AddressMap.CodeEnd;
        const ulong lowStack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        return
        [
            Case("90"),
            Case(string.Concat(Enumerable.Repeat("48ffc0", 40))),
            Case("eb 00"),
            Case("e9 00 00 00 00"),
            At(lowEnd, "90"),
            At(lowEnd, "40", (Register.Cs, Selectors.UserCode32), (Register.Rsp, lowStack)),
            At(AddressMap.HighBlock + AddressMap.WritableCode + 0x2000, "90"),
        ];
    }

    private static void EndsWithTheFetchFault(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = Run(target, cases);

        for (int i = 0; i < cases.Length; i++)
        {
            Assert.True(outcomes[i] is { End: EndKind.ReachedEnd, Events.Length: 1 }, Describe(outcomes[i]));
            Event last = outcomes[i].Events[0];
            ulong end = cases[i].Code.End;
            Assert.Equal((EventKind.Fault, (byte)14, 0x14U, end, end), (last.Kind, last.Vector, last.ErrorCode, last.Cr2, last.Registers.Rip));
            Assert.Equal(last.Registers, outcomes[i].Registers);
        }
    }
}
