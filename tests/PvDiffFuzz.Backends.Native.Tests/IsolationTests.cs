using System.Diagnostics;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>Cases do not see each other, and no payload harms the target.</summary>
public sealed class IsolationTests : NativeTests
{
    /// <summary>First opcode bytes after 0F whose results differ from run to run: system registers, time, CPUID, XGETBV, RDRAND and their neighbours.</summary>
    private static readonly byte[] Variable = [0x00, 0x01, 0x02, 0x03, 0x31, 0x33, 0xa2, 0xae, 0xc7];

    /// <summary>Ten thousand random payloads twice, in order and shuffled: equal outcomes, no dead child, nothing of ours.</summary>
    [NativeFact]
    public void RandomPayloadsDoNotDependOnTheirOrder()
    {
        Random random = new(20261121);
        TestCase[] cases = [.. Enumerable.Range(0, 10_000).Select(_ => RandomCase(random))];
        int[] order = [.. Enumerable.Range(0, cases.Length)];
        random.Shuffle(order);
        Outcome[] first = new Outcome[cases.Length];
        Outcome[] shuffled = new Outcome[cases.Length];

        Target.Run(cases, first);
        Target.Run(Array.ConvertAll(order, i => cases[i]), shuffled);

        List<string> failures = [];
        int comparable = 0;
        for (int i = 0; i < order.Length; i++)
        {
            Outcome one = first[order[i]];
            Outcome other = shuffled[i];
            comparable += one.Comparable ? 1 : 0;
            if (one.End == EndKind.HarnessError || other.End == EndKind.HarnessError || !one.Equals(other))
            {
                failures.Add($"{Convert.ToHexString(cases[order[i]].Code.Bytes.AsSpan())}\n  {Describe(one)}\n  {Describe(other)}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.True(comparable > 9_000, $"only {comparable} of {cases.Length} cases ran");
        Assert.Equal(0, Target.Replaced);
    }

    /// <summary>Random register contents, flags and jump targets, all over the address space.</summary>
    [NativeFact]
    public void JumpsToAnywhereAreEvents()
    {
        Random random = new(7);
        TestCase[] cases = new TestCase[5_000];
        for (int i = 0; i < cases.Length; i++)
        {
            ulong target = (ulong)random.NextInt64(long.MinValue, long.MaxValue) >> random.Next(64);
            if (AddressMap.Standard.AccessAt(target) != PageAccess.None)
            {
                target = 0;
            }

            ulong flags = 0x202 | ((ulong)random.NextInt64() & RflagsBits.UserLoadable & ~RflagsBits.TF);
            cases[i] = Case(
                "ff e0", (Register.Rax, target), (Register.Rsp, (ulong)random.NextInt64()), (Register.Rflags, flags), (Register.GsBase, target >> 17));
        }

        Outcome[] outcomes = new Outcome[cases.Length];
        Target.Run(cases, outcomes);

        Assert.All(outcomes, o => Assert.True(o is { End: EndKind.Event, Events: [{ Vector: 13 or 14 }] }, Describe(o)));
        Assert.Equal(0, Target.Replaced);
    }

    /// <summary>Every system call number that could do harm, by SYSCALL and INT 0x80: each is an event, and the child lives on.</summary>
    [NativeFact]
    public void NoSystemCallIsExecuted()
    {
        int child = Target.ChildId;
        List<TestCase> cases = [];
        for (ulong number = 0; number < 512; number++)
        {
            foreach (string code in (ReadOnlySpan<string>)["0f 05", "cd 80"])
            {
                cases.Add(Case(code, (Register.Rax, number), (Register.Rdi, (ulong)child), (Register.Rsi, 9), (Register.Rbx, (ulong)child), (Register.Rcx, 9)));
                cases.Add(Case(code, (Register.Rax, number | 0x4000_0000), (Register.Rdi, (ulong)child), (Register.Rsi, 9)));
            }
        }

        Outcome[] outcomes = new Outcome[cases.Count];
        Target.Run(cases.ToArray(), outcomes);

        Assert.All(outcomes, o => Assert.True(o is { End: EndKind.Event, Events: [{ Kind: EventKind.SystemCall } or { Vector: 0x80 }] }, Describe(o)));
        Assert.Equal(child, Target.ChildId);
        Assert.Equal(0, Target.Replaced);
    }

    /// <summary>An endless loop is stopped, and only it: the cases around it have their outcomes, from the same child.</summary>
    [NativeFact]
    public void AnEndlessLoopSpendsItsBudgetAlone()
    {
        int child = Target.ChildId;
        TestCase loop = Case("eb fe");
        TestCase quick = Case("48 ff c0");
        TestCase runsIntoAGuard = Case("f3 a4 eb fc", (Register.Rcx, ulong.MaxValue), (Register.Rsi, Data), (Register.Rdi, Data));
        TestCase loopWithOddFlags = Case("9c 50 eb fe", (Register.Rflags, 0x202 | RflagsBits.NT | RflagsBits.DF));
        TestCase[] cases = [quick, loop, quick, runsIntoAGuard, loopWithOddFlags, quick];
        Outcome[] outcomes = new Outcome[cases.Length];

        Target.Run(cases, outcomes);

        Assert.Equal(
            [EndKind.ReachedEnd, EndKind.BudgetSpent, EndKind.ReachedEnd, EndKind.Event, EndKind.BudgetSpent, EndKind.ReachedEnd],
            outcomes.Select(o => o.End));
        Assert.Empty(outcomes[5].Memory);
        Assert.Equal(child, Target.ChildId);
    }

    /// <summary>A child that is killed from outside is replaced, and the batch is completed.</summary>
    [NativeFact]
    public void AKilledChildIsReplaced()
    {
        int child = Target.ChildId;
        Kill(child);

        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
        Assert.NotEqual(child, Target.ChildId);
        Assert.Equal(1, Target.Replaced);
    }

    /// <summary>Killed in the middle of batches, again and again, from another thread: every case still has its right outcome.</summary>
    [NativeFact]
    public void KillingTheChildAtRandomMomentsLosesNoOutcome()
    {
        TestCase[] cases = [.. Enumerable.Range(0, 50_000).Select(i => Case("48 01 d8", (Register.Rax, (ulong)i), (Register.Rbx, 1)))];
        Outcome[] outcomes = new Outcome[cases.Length];
        int child = Target.ChildId;
        using CancellationTokenSource done = new();
        Thread killer = new(() =>
        {
            // On a busy machine a new child may not have run anything yet. One case that meets several deaths is blamed for them, and rightly.
            for (int kills = 0, last = -1; kills < 6 && !done.Token.WaitHandle.WaitOne(17);)
            {
                int ran = Array.IndexOf(outcomes, null);
                if (ran != last)
                {
                    Kill(Target.ChildId);
                    last = ran;
                    kills++;
                }
            }
        });
        killer.Start();
        Target.Run(cases, outcomes);
        done.Cancel();
        killer.Join();

        int wrong = outcomes.Where((o, i) => o.End != EndKind.ReachedEnd || o.Registers!.Gpr[0] != (ulong)i + 1).Count();
        Assert.Equal(0, wrong);
        Assert.True(Target.Replaced >= 1);
        Assert.False(Directory.Exists($"/proc/{child}"), "the dead child was not reaped");
    }

    /// <summary>The child has four descriptors and nothing mapped but its agent and the pages of the case.</summary>
    [NativeFact]
    public void TheChildHasNothingButItsAgent()
    {
        Run(Case("90"));
        string proc = $"/proc/{Target.ChildId}";

        Assert.Equal("0 1 2 3", string.Join(' ', Directory.GetFileSystemEntries($"{proc}/fd").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)));
        foreach (string line in File.ReadAllLines($"{proc}/maps").Where(l => !l.Contains("[vsyscall]", StringComparison.Ordinal)))
        {
            ulong first = Convert.ToUInt64(line[..line.IndexOf('-', StringComparison.Ordinal)], 16);
            bool agent = first is >= AddressMap.AgentFirst and <= AddressMap.AgentLast;
            Assert.True(agent || AddressMap.Standard.AccessAt(first) != PageAccess.None, line);
        }

        string status = File.ReadAllText($"{proc}/status");
        Assert.Contains("Seccomp:\t2", status, StringComparison.Ordinal);
        Assert.Contains("NoNewPrivs:\t1", status, StringComparison.Ordinal);
    }

    /// <summary>After Dispose neither child nor descriptor is left.</summary>
    [NativeFact]
    public void DisposeLeavesNothingBehind()
    {
        Run(Case("90"));
        int before = Directory.GetFileSystemEntries("/proc/self/fd").Length;
        List<int> children = [];
        for (int i = 0; i < 10; i++)
        {
            using NativeTarget target = new();
            Assert.True(target.Run(Case("90")).Comparable);
            children.Add(target.ChildId);
        }

        Assert.Equal(before, Directory.GetFileSystemEntries("/proc/self/fd").Length);
        Assert.All(children, child => Assert.False(Directory.Exists($"/proc/{child}")));
    }

    /// <summary>Batches of every size, and an empty one.</summary>
    [NativeTheory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(255)]
    [InlineData(256)]
    [InlineData(257)]
    [InlineData(3000)]
    public void BatchesMayHaveAnySize(int size)
    {
        TestCase[] cases = [.. Enumerable.Range(0, size).Select(i => Case(i % 3 == 0 ? "f4" : "50", (Register.Rax, (ulong)i)))];
        Outcome[] outcomes = new Outcome[size];

        Target.Run(cases, outcomes);

        Assert.All(Enumerable.Range(0, size), i =>
        {
            Assert.Equal(i % 3 == 0 ? EndKind.Event : EndKind.ReachedEnd, outcomes[i].End);
            Assert.Equal((ulong)i, outcomes[i].Registers!.Gpr[0]);
        });
    }

    private static void Kill(int child)
    {
        if (child == 0)
        {
            return;
        }

        try
        {
            using Process process = Process.GetProcessById(child);
            process.Kill();
        }
        catch (ArgumentException)
        {
            // It was replaced between the question and the kill.
        }
    }

    /// <summary>1 to 40 random bytes without opcodes whose results vary.</summary>
    private static TestCase RandomCase(Random random)
    {
        byte[] code = new byte[random.Next(1, 41)];
        random.NextBytes(code);
        for (int i = 0; i + 1 < code.Length; i++)
        {
            if (code[i] == 0x0f && Array.IndexOf(Variable, code[i + 1]) >= 0)
            {
                code[i + 1] = 0x1f;
            }

            // Loading a null selector 1 to 3 is not stable, so MOV to a segment register becomes MOV from one.
            code[i] = code[i] == 0x8e ? (byte)0x8c : code[i];
        }

        code[^1] = code[^1] is 0x0f or 0x8e ? (byte)0x90 : code[^1];
        (Register, ulong)[] registers = [.. Enumerable.Range(0, 16).Select(i => ((Register)i, Interesting(random)))];
        return Case(Convert.ToHexString(code), registers);
    }

    private static ulong Interesting(Random random) => random.Next(4) switch
    {
        0 => Data + (ulong)random.Next(0x2000),
        1 => Stack + (ulong)random.Next(-0x800, 0x800),
        2 => (ulong)random.Next(-4, 5),
        _ => (ulong)random.NextInt64(),
    };
}
