using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;
using static PvDiffFuzz.Conformance.Tests.Payload;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Where guests of this host depart from the architecture, <c>corpus/known</c> says so; everywhere else they agree.</summary>
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

    /// <summary>One instruction a row, alone and in a batch: guest and model agree, or an entry describes the difference.</summary>
    [KvmFact]
    public void DeparturesOfThisHostAreDescribed()
    {
        ImmutableArray<TestCase> cases = [.. Rows.Select(row => Case(row.Code, row.Registers))];
        using CaseRunner runner = CaseRunner.Create(
            [() => new X86Model(Host.Profile), () => new KvmTarget(Host.Profile)], CaseAnalyst.For(new X86Model(Host.Profile), Host.Profile.Vendor));
        KnownSet known = KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));
        List<string> failures = [];
        int comparable = 0;
        for (int i = 0; i < cases.Length; i++)
        {
            Examination examination = runner.Examine(cases.AsSpan(i, 1))[0];
            comparable += examination.Comparison.Comparable == 2 ? 1 : 0;
            if (examination.Comparison.Result == ComparisonResult.Divergence && known.Find(Divergence.Of(examination, runner)).IsEmpty)
            {
                failures.Add($"{Rows[i].What}: {string.Join('\n', examination.Outcomes.Select(Describe))}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.Equal(Rows.Length, comparable);
    }
}
