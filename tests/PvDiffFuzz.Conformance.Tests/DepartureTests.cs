using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;
using static PvDiffFuzz.Conformance.Tests.Payload;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Where this processor and guests of this host depart from the architecture, <c>corpus/known</c> says so; everywhere else they agree.</summary>
public sealed class DepartureTests
{
    private static readonly (string Code, string What, (Register Register, ulong Value)[] Registers)[] Rows =
    [
        ("cd 80", "INT 80h through its gate", []),
        ("cd 40", "INT 40h, whose gate has DPL 0", []),
        ("cd 1a", "INT 1Ah", []),
        ("cd 17", "INT 17h", []),
        ("f1", "ICEBP", []),
        ("0f 05", "SYSCALL", []),
        ("48 8b 07", "a load across the canonical edge", [(Register.Rdi, 0x7fff_ffff_fffd)]),
        ("36 48 8b 07", "a non-canonical load with an SS override", [(Register.Rdi, 1UL << 63)]),
        ("c4 e2 78 f5 01", "BZHI of a non-canonical operand", [(Register.Rcx, 1UL << 63)]),
        ("0f 20 f6", "MOV from CR6", []),
        ("f0 0f ae e8", "LOCK LFENCE", []),
        ("48 0f 02 c7", "LAR of selector 20h", [(Register.Rdi, 0x20)]),
        ("48 8b 07", "a load from the upper half", [(Register.Rdi, 0xffff_8000_0000_0000)]),
        ("cc", "INT3", []),
        ("cd 04", "INT 4", []),
        ("0f 0b", "UD2", []),
        ("f4", "HLT", []),
        ("48 f7 f1", "DIV by zero", []),
        ("48 8b 07", "a load from a page that is not present", [(Register.Rdi, NotPresent)]),
        ("48 89 07", "a store to a read-only page", [(Register.Rdi, ReadOnly)]),
        ("ff e0", "a jump to a non-canonical address", [(Register.Rax, 1UL << 63)]),
        ("8e d0", "MOV SS,0", []),
        ("48 8b 45 00", "a non-canonical load through RBP", [(Register.Rbp, 1UL << 63)]),
    ];

    /// <summary>What some processor was seen to do otherwise. Where it lacks the feature, it agrees.</summary>
    private static readonly (string Code, string What, (Register Register, ulong Value)[] Registers)[] OfProcessors =
    [
        ("f1", "ICEBP", []),
        ("f0 0f 00 20", "LOCK VERW", [(Register.Rax, Data)]),
        ("f3 a6", "REPE CMPSB whose operands both fault", [(Register.Rcx, 1), (Register.Rsi, 1), (Register.Rdi, NotPresent)]),
        ("f3 a6", "REPE CMPSB of a non-canonical rSI operand", [(Register.Rcx, 1), (Register.Rsi, 1UL << 63)]),
        ("c5 45 46 f5", "KXNORB with VEX.R", []),
        ("c5 ad 41 d1", "KANDB with the top bit of VEX.vvvv", []),
        ("c5 78 90 00", "KMOVW from a page that is not present, with VEX.R", []),
        ("62 02 6d b3 3b d7", "VPMINUD between registers with EVEX.b", []),
        ("c4 e3 7d 00 00 00", "VPERMQ with VEX.W = 0", []),
    ];

    /// <summary>One instruction a row: processor and model agree, or an entry describes the difference.</summary>
    [NativeFact]
    public void DeparturesOfThisProcessorAreDescribed() => AllDescribed(OfProcessors, () => new NativeTarget());

    /// <summary>The same in a guest.</summary>
    [KvmFact]
    public void DeparturesOfThisProcessorAreDescribedInAGuest() => AllDescribed(OfProcessors, () => new KvmTarget(Host.Profile));

    /// <summary>One instruction a row, alone and in a batch: guest and model agree, or an entry describes the difference.</summary>
    [KvmFact]
    public void DeparturesOfThisHostAreDescribed() => AllDescribed(Rows, () => new KvmTarget(Host.Profile));

    private static void AllDescribed((string Code, string What, (Register Register, ulong Value)[] Registers)[] rows, Func<ITarget> target)
    {
        ImmutableArray<TestCase> cases = [.. rows.Select(row => Case(row.Code, row.Registers))];
        using CaseRunner runner = CaseRunner.Create([() => new X86Model(Host.Profile), target], CaseAnalyst.For(new X86Model(Host.Profile), Host.Profile.Vendor));
        KnownSet known = KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));
        List<string> failures = [];
        int comparable = 0;
        for (int i = 0; i < cases.Length; i++)
        {
            Examination examination = runner.Examine(cases.AsSpan(i, 1))[0];
            comparable += examination.Comparison.Comparable == 2 ? 1 : 0;
            if (examination.Comparison.Result == ComparisonResult.Divergence && known.Find(Divergence.Of(examination, runner), runner.Analyst).IsEmpty)
            {
                failures.Add($"{rows[i].What}: {string.Join('\n', examination.Outcomes.Select(Describe))}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.Equal(rows.Length, comparable);
    }
}
