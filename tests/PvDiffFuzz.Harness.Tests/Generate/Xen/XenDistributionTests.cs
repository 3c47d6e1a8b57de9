using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Harness.Generate.Xen;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Harness.Tests.Generate.Xen;

public sealed class XenDistributionTests
{
    private const int Count = 30_000;
    private const int Fewest = 3;

    private static readonly string[] Expected =
    [
        "kernel", "kernel by iret", "user 64", "user 32", "code low", "code high", "code in the upper half", "one root", "two roots",
        "iret 0", "iret in syscall", "iret odd", "iret CS RPL 0", "iret CS RPL 1", "iret CS RPL 2", "iret CS RPL 3", "iret CS bad", "iret SS RPL 0", "iret SS RPL 3", "iret SS bad",
        "iret RIP not canonical", "iret IOPL", "iret VM", "iret VIF", "iret VIP", "iret NT", "iret RF", "iret TF", "iret AC", "iret ID", "iret reserved", "iret IF=0", "iret IF=1",
        "mask 0", "mask 1", "mask odd", "pending 0", "pending 1", "pending odd", "padding odd", "iopl 0", "iopl 1", "iopl 2", "iopl 3", "assists 10", "TS", "CR4 660", "CR4 668", "CR4 664", "CR4 10660",
        "kernel stack good", "kernel stack near the edge", "kernel stack in the upper half", "kernel stack misaligned", "RSP good", "RSP near the edge", "RSP in the upper half", "RSP misaligned",
        "debug build", "a release", "descriptors", "hole", "DPL 0", "DPL 1", "DPL 2", "DPL 3", "DPL 0, masks", "DPL 3, masks",
        "Event", "Event masks", "no Failsafe", "Syscall", "Syscall masks", "no Syscall", "no Syscall32", "Syscall32 masks", "no Sysenter", "Sysenter", "Nmi masks", "no Nmi",
        "responses 0", "responses 1", "responses 2", "responses 3", "responses 4", "responses 5", "responses 6", "responses 8", "response flags 0", "response in syscall", "response flags odd", "response upcall",
        "patch Rax", "patch Rcx", "patch Rsp", "patch R11", "patch Rip", "patch Rflags", "patch Cs", "patch Ss", "patch to user", "patch to kernel", "patch RIP not canonical",
        "answering 3", "answering 5", "answering 8", "answering 9", "answering 10", "answering 17", "answering 18", "answering 21", "answering 25", "answering 28", "answering 29", "answering 30", "answering 33",
        "answering unknown",
        "k call 0", "k call 2", "k call 3", "k call 4", "k call 5", "k call 6", "k call 8", "k call 9", "k call 10", "k call 13", "k call 17", "k call 18", "k call 21", "k call 23", "k call 24", "k call 25",
        "k call 28", "k call 29", "k call 30", "k call 33", "k call unknown", "k prefixed SYSCALL",
        "k Int3", "k INT 3", "k INT 4", "k INT 40", "k INT 80", "k INT 82", "k INT other", "k prefixed INT 40", "k prefixed INT 80", "k Int1", "k Ud0", "k Ud1", "k Ud2", "k Div", "k Cli", "k Sti", "k Hlt",
        "k Wbinvd", "k Clts", "k Invlpg", "k Lgdt", "k Lidt", "k Lldt", "k Ltr", "k Lmsw", "k Swapgs", "k Sysret", "k Sysexit", "k Stac", "k Clac", "k Monitor", "k Mwait", "k Rdmsr", "k Wrmsr", "k In", "k Out",
        "k Insb", "k Outsb", "k Outsd", "k Pushfq", "k Popfq", "k Iretq", "k Retf", "k Call", "k forced CPUID", "k forced other", "k Rdfsbase", "k Wrgsbase", "k Sysenter",
        "k read CR0", "k read CR2", "k read CR4", "k read CR8", "k write CR0", "k write CR2", "k write CR4", "k write CR8", "k read DR0", "k read DR6", "k read DR7", "k write DR0", "k write DR6", "k write DR7",
        "u SYSCALL", "u prefixed SYSCALL", "u Sysenter", "u Int3", "u INT 40", "u INT 80", "u INT 82", "u prefixed INT 40", "u prefixed INT 80", "u Int1", "u Ud2", "u Hlt", "u write CR0", "u In", "u Out",
        "u forced CPUID", "c SYSCALL", "c Into", "c Bound", "c INT 80", "c Int3", "c Popfd",
    ];

    /// <summary>Every kind of start, state, table, answer, hypercall and instruction that the generator is meant to make appears within 30,000 cases.</summary>
    [Fact]
    public void EverythingAppears()
    {
        Dictionary<string, int> counts = [];
        foreach (string name in Cases(GeneratorOptions.DefaultsFor(Abi.XenPv64), Count).SelectMany(XenClasses.Of))
        {
            counts[name] = counts.GetValueOrDefault(name) + 1;
        }

        string[] missing = [.. Expected.Where(name => counts.GetValueOrDefault(name) < Fewest).Select(name => $"{name}: {counts.GetValueOrDefault(name)}")];
        Assert.True(missing.Length == 0, string.Join('\n', missing));
        Assert.All(["k read CR3", "k write CR3", "k Cpuid", "u Cpuid", "k call 1", "k call 7", "k call 12"], name => Assert.False(counts.ContainsKey(name), name));
    }

    /// <summary>Where cases are made so that a guest may die, its stacks are nowhere, in Xen's range, or not canonical, and there is no user root.</summary>
    [Fact]
    public void HazardsAreAllMade()
    {
        GeneratorOptions options = GeneratorOptions.DefaultsFor(Abi.XenPv64);
        HashSet<string> names = [.. Cases(options with { Xen = options.Xen with { HazardOneIn = 1 } }, 3_000).SelectMany(XenClasses.Of)];
        string[] wanted =
        [
            "kernel stack not there", "kernel stack in Xen's range", "kernel stack not canonical", "RSP not there", "RSP in Xen's range", "RSP not canonical", "no user root", "no Event",
        ];

        Assert.Equal([], wanted.Except(names, StringComparer.Ordinal));
    }

    /// <summary>The shares that options promise, within what chance explains.</summary>
    [Fact]
    public void SharesAreThoseOfTheOptions()
    {
        TestCase[] cases = [.. Cases(GeneratorOptions.DefaultsFor(Abi.XenPv64), 20_000)];
        Assert.InRange(Share(c => c.Start == GuestMode.Supervisor), 0.48, 0.52);
        Assert.InRange(Share(c => c.Start == GuestMode.Supervisor && c.Xen!.IretFlags is not null), 0.16, 0.19);
        Assert.InRange(Share(c => c.Mode == CpuMode.Compatibility32), 0.06, 0.09);
        Assert.InRange(Share(c => c.Xen!.UserLayout is null), 0.04, 0.06);
        Assert.InRange(Share(c => c.System[SystemRegister.XenUpcallPending] != 0), 0.105, 0.135);
        Assert.InRange(Share(c => c.Responses.Length > 0), 0.58, 0.62);
        Assert.Equal(8, cases.Max(c => c.Responses.Length));

        double Share(Func<TestCase, bool> what) => cases.Count(what) / (double)cases.Length;
    }

    /// <summary>The page on the generator lists every action with its weights and every row of what is left out.</summary>
    [Fact]
    public void TheDocumentListsActionsAndExclusions()
    {
        string document = File.ReadAllText(Checkout.PathOf("docs", "generator.md"));
        foreach (XenAction action in Enum.GetValues<XenAction>())
        {
            int kernel = XenOptions.DefaultKernelWeights.GetValueOrDefault(action);
            int user = XenOptions.DefaultUserWeights.GetValueOrDefault(action);
            Assert.Contains($"| {action} | {kernel} | {user} |", document, StringComparison.Ordinal);
        }

        Assert.All(XenExclusions.Rows, row => Assert.Contains($"| `{row.Id}` | {row.What} | {row.Reason} |", document, StringComparison.Ordinal));
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
