using System.Collections.Immutable;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Conformance.Tests.Payload;

namespace PvDiffFuzz.Conformance.Tests.Contract;

/// <summary>Instructions that fault after part of their work could have been done.</summary>
internal static class FaultingInstructions
{
    private const ulong NonCanonical = 0x8000_0000_0000;
    private static readonly ImmutableArray<(string Code, string What, byte Vector, (Register Register, ulong Value)[] Registers)> Rows =
    [
        ("48 01 07", "add [rdi],rax at a page that is not present", 14, [(Register.Rdi, NotPresent)]),
        ("48 11 07", "adc [rdi],rax at a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("48 89 07", "mov [rdi],rax across the end of a writable page", 14, [(Register.Rdi, NotPresent - 4)]),
        ("48 87 07", "xchg [rdi],rax at a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("48 0f b1 0f", "cmpxchg [rdi],rcx that does not match, at a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("48 0f c1 07", "xadd [rdi],rax at a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("50", "push rax at a page that is not present", 14, [(Register.Rsp, NotPresent + 0x1000)]),
        ("58", "pop rax from a page that is not present", 14, [(Register.Rsp, NotPresent)]),
        ("8f 07", "pop [rdi] to a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("e8 f0 ff ff ff", "call with a stack that is not present", 14, [(Register.Rsp, NotPresent + 0x1000)]),
        ("c9", "leave with RBP at a page that is not present", 14, [(Register.Rbp, NotPresent)]),
        ("48 a5", "movsq to a page that is not present", 14, [(Register.Rsi, Data), (Register.Rdi, NotPresent)]),
        ("48 a7", "cmpsq from a page that is not present", 14, [(Register.Rsi, NotPresent), (Register.Rdi, Data)]),
        ("48 c1 07 05", "rol [rdi],5 at a read-only page", 14, [(Register.Rdi, ReadOnly)]),
        ("0f ab 07", "bts [rdi],eax beyond the operand, at a page that is not present", 14, [(Register.Rdi, NotPresent - 4), (Register.Rax, 64)]),
        ("48 8b 07", "mov rax,[rdi] at a non-canonical address", 13, [(Register.Rdi, NonCanonical)]),
        ("48 8b 04 24", "mov rax,[rsp] at a non-canonical address", 12, [(Register.Rsp, NonCanonical)]),
        ("48 f7 f3", "div rbx by zero", 0, [(Register.Rax, 5), (Register.Rdx, 0)]),
        ("48 f7 fb", "idiv rbx that overflows", 0, [(Register.Rdx, 0x8000_0000_0000_0000), (Register.Rbx, ulong.MaxValue)]),
        ("8e d8", "mov ds,eax with a selector beyond the table", 13, [(Register.Rax, 0xfff8)]),
        ("0f 0b", "ud2", 6, []),
        ("f4", "hlt", 13, []),
        ("cd 20", "int 0x20", 13, []),
        ("f0 48 01 c3", "lock add rbx,rax", 6, []),
    ];

    /// <summary>One case a row, with all status flags set so that a changed one shows.</summary>
    public static ImmutableArray<TestCase> Cases { get; } =
        [.. Rows.Select(row => Case(row.Code, [(Register.Rax, 0x0123_4567_89ab_cdef), (Register.Rflags, Flags | RflagsBits.Status), .. row.Registers]))];

    /// <summary>Every register but RF, and all of memory, is as it was.</summary>
    public static void ArePrecise(ITarget target, ImmutableArray<TestCase> cases)
    {
        Outcome[] outcomes = ContractRules.Run(target, cases);
        List<string> failures = [];
        for (int i = 0; i < cases.Length; i++)
        {
            Outcome outcome = outcomes[i];
            RegisterState before = cases[i].Registers;
            bool precise = outcome is { End: EndKind.Event, Events.Length: 1, Memory.IsEmpty: true }
                && outcome.Events[0].Vector == Rows[i].Vector
                && RegisterState.Differences(before with { Rflags = before.Rflags | RflagsBits.RF }, outcome.Registers!).IsEmpty;
            if (!precise)
            {
                string changed = outcome.Registers is null ? "" : string.Join(' ', RegisterState.Differences(before, outcome.Registers));
                failures.Add($"{Rows[i].What}: {Describe(outcome)} changed {changed}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
    }
}
