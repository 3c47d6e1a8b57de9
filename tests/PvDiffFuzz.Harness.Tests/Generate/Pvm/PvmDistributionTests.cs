using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Harness.Tests.Generate.Pvm;

public sealed class PvmDistributionTests
{
    private const int Count = 30_000;
    private const int Fewest = 3;

    private static readonly string[] Context =
    [
        "RIP good", "RIP not canonical", "RIP upper half", "RIP not executable", "IOPL", "VM", "VIF", "VIP", "NT", "RF", "TF", "AC", "ID", "reserved", "IF=0", "bit 1 clear",
        "CS 33", "CS 23", "CS RPL missing", "CS bad", "SS 2b", "SS RPL missing", "SS bad", "GS base canonical", "GS base not canonical", "like SYSRET",
    ];

    private static readonly string[] Both =
    [
        "start supervisor", "start user 64", "start user 32", "high block", "low block", "one root", "warm", "cold", "armed", "structure missing", "structure there",
        "event flags 0", "event flags 100", "event flags 200", "event flags 300", "stale vector", "stale vector wide", "kernel GS base same", "kernel GS base other",
        "STAR usual", "STAR other user", "STAR other kernel", "range stated", "PCID on", "RETU_RIP in code",
        "start NMI, IF=0", "start NMI, IF=1", "start interrupt from 32, IF=0", "start interrupt from 32, IF=1", "start interrupt below 32, IF=0",
        "responses 0", "responses 1", "responses 2", "responses 3", "responses 4", "responses 5", "responses 6", "responses 8", "response Eretu",
        "response NMI", "response interrupt from 32", "response interrupt below 32", "IRQ_WIN behind an interrupt",
        "patch Rax", "patch Rcx", "patch Rsp", "patch R11", "patch Rip", "patch Rflags", "patch Cs", "patch Ss", "patch GsBase", "patch RFLAGS with TF", "patch RIP not canonical", "patch RIP not present",
        "answering 1", "answering 3", "answering 4", "answering 5", "answering 6", "answering 7", "answering 8", "answering 9", "answering KVM 1", "answering unknown",
        "s Cli", "s Sti", "s Hlt", "s Pushfq", "s Popfq", "s Clts", "s Lmsw", "s Lgdt", "s Lidt", "s Lldt", "s Ltr", "s Invlpg", "s INVLPG of the magic address", "s Invpcid", "s Invd", "s Wbinvd",
        "s Swapgs", "s Sysret", "s Sysretq", "s Sysexit", "s Sysexitq", "s Sysenter", "s Stac", "s Clac", "s Xsetbv", "s Monitor", "s Mwait", "s Rsm",
        "s synthetic CPUID 40000000", "s synthetic CPUID 40000002", "u synthetic CPUID 40000000",
        "s Rdfsbase", "s Rdgsbase", "s Wrfsbase", "s Wrgsbase", "s Iretq", "s Retf", "s Int3", "s INT 3", "s INT 4", "s INT 80", "s INT other", "s Ud0", "s Ud1", "s Ud2", "s Int1", "s Div", "s Idiv",
        "s write CR0", "s write CR2", "s write CR3", "s write CR4", "s write CR8", "s read CR0", "s read CR2", "s read CR3", "s read CR4", "s read CR8",
        "s write DR0", "s write DR1", "s write DR2", "s write DR3", "s write DR6", "s write DR7", "s read DR0", "s read DR6", "s read DR7",
        "s prefixed SYSCALL 48", "s prefixed SYSCALL 40", "s prefixed SYSCALL 4f", "s prefixed SYSCALL 66", "s prefixed SYSCALL f2", "s prefixed SYSCALL f3", "s prefixed SYSCALL 2e", "s prefixed SYSCALL 65",
        "s to RETU_RIP", "s to before RETU_RIP", "s call KVM 1", "s call unknown", "s rdmsr invalid", "s wrmsr invalid",
        "u Cli", "u Hlt", "u Popfq", "u rdmsr invalid", "u Int3", "u INT 80", "u INT 4", "u INT other", "u Ud2", "u Int1", "u Sysenter", "u Swapgs", "u write CR0", "u read CR3", "u Iretq", "u In", "u Out",
        "c Int3", "c INT 80", "c Into", "c Popfd", "c Ud2", "c Iretd", "c Cli",
    ];

    /// <summary>Every kind of start, state, context, answer, MSR, hypercall and instruction that the generator is meant to make appears within 30,000 cases, in each revision that has it.</summary>
    [Theory]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.Pvm612)]
    public void EverythingAppears(Abi abi)
    {
        Dictionary<string, int> counts = [];
        foreach (string name in Cases(GeneratorOptions.DefaultsFor(abi), Count).SelectMany(PvmClasses.Of))
        {
            counts[name] = counts.GetValueOrDefault(name) + 1;
        }

        List<string> expected = [.. Both, .. Context.SelectMany(c => (string[])[$"user {c}", $"structure {c}"]).Except(["user CS 23"])];
        foreach (uint msr in PvmMsr.Named)
        {
            expected.AddRange([$"s rdmsr {msr:x}", $"s wrmsr {msr:x}"]);
        }

        expected.AddRange(Enumerable.Range(0, PvmCall.Count).Select(call => $"s call {call}"));
        expected.AddRange(abi == Abi.PvmRfc1
            ?
            [
                "two roots", "NMI masked", "RETS_RIP in code", "response Erets", "s to RETS_RIP", "s to before RETS_RIP",
                "redzone 0", "redzone 128", "redzone huge", "redzone odd",
                "supervisor RSP good", "supervisor RSP not canonical", "supervisor RSP near the edge", "supervisor RSP unaligned", "supervisor RSP read-only", "supervisor RSP not present", "supervisor RSP upper half",
                "supervisor start RSP good", "supervisor start RSP not canonical", "supervisor start RSP near the edge", "supervisor start RSP unaligned", "supervisor start RSP read-only", "supervisor start RSP not present",
            ]
            : ["response Iretq"]);
        string[] missing = [.. expected.Where(name => counts.GetValueOrDefault(name) < Fewest).Select(name => $"{name}: {counts.GetValueOrDefault(name)}")];
        Assert.True(missing.Length == 0, string.Join('\n', missing));
        string[] never = abi == Abi.PvmRfc1 ? ["response Iretq"] : ["two roots", "response Erets", "NMI masked"];
        Assert.All(never, name => Assert.False(counts.ContainsKey(name), name));
    }

    /// <summary>The shares that options promise, within what chance explains, and a mix in which most cases have something to tell.</summary>
    [Fact]
    public void SharesAreThoseOfTheOptions()
    {
        TestCase[] cases = [.. Cases(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), 20_000)];
        Assert.InRange(Share(c => c.Start == GuestMode.Supervisor), 0.48, 0.52);
        Assert.InRange(Share(c => c.Mode == CpuMode.Compatibility32), 0.06, 0.09);
        Assert.InRange(Share(c => c.Pvm!.UserLayout is null), 0.105, 0.135);
        Assert.InRange(Share(c => c.Pvm!.Path == HostPath.Warm), 0.48, 0.52);
        Assert.InRange(Share(c => c.Inject is not null), 0.105, 0.135);
        Assert.InRange(Share(c => c.Responses.Length > 0), 0.58, 0.62);
        Assert.InRange(cases.Max(c => c.Responses.Length), 8, 8);
        Assert.InRange(cases.Average(c => c.Contents.Sum(r => r.Bytes.Length)), 100, 600);

        double Share(Func<TestCase, bool> what) => cases.Count(what) / (double)cases.Length;
    }

    /// <summary>An action that is the only one with a weight is the only one that is made, and families alone make none.</summary>
    [Fact]
    public void WeightsSelectActions()
    {
        GeneratorOptions options = GeneratorOptions.DefaultsFor(Abi.PvmRfc1);
        GeneratorOptions only = options with
        {
            RawPercent = 0,
            FinalEntryPercent = 0,
            Pvm = options.Pvm with
            {
                SupervisorPercent = 100,
                SupervisorActionPercent = 100,
                SupervisorWeights = PvmOptions.DefaultSupervisorWeights.Clear().Add(PvmAction.InterruptFlag, 1),
            },
        };
        string[] names = [.. Cases(only, 500).SelectMany(PvmClasses.Of).Where(n => n.StartsWith("s ", StringComparison.Ordinal)).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        Assert.Equal(["s Cli", "s Sti"], names);

        GeneratorOptions none = only with { Pvm = only.Pvm with { SupervisorActionPercent = 0 } };
        string[] plain = [.. Cases(none, 2000).SelectMany(PvmClasses.Of)];
        Assert.DoesNotContain("s Clts", plain);
        Assert.Contains("s Add", plain);
    }

    /// <summary>The page on the generator lists every action with its weights and every row of what is left out.</summary>
    [Fact]
    public void TheDocumentListsActionsAndExclusions()
    {
        string document = File.ReadAllText(Checkout.PathOf("docs", "generator.md"));
        foreach (PvmAction action in Enum.GetValues<PvmAction>())
        {
            int supervisor = PvmOptions.DefaultSupervisorWeights.GetValueOrDefault(action);
            int user = PvmOptions.DefaultUserWeights.GetValueOrDefault(action);
            Assert.Contains($"| {action} | {supervisor} | {user} |", document, StringComparison.Ordinal);
        }

        Assert.All(PvmExclusions.Rows, row => Assert.Contains($"| `{row.Id}` | {row.What} | {row.Reason} |", document, StringComparison.Ordinal));
    }

    private static IEnumerable<TestCase> Cases(GeneratorOptions options, int count)
    {
        Generator generator = new(options, CpuProfile.DefaultAmd);
        for (int i = 0; i < count; i++)
        {
            yield return generator.Generate(5, (ulong)i);
        }
    }
}
