using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Cases a second on a PVM host: this machine, or one that QEMU boots from the kernel that <see cref="PvmHosts.Variable"/> names.</summary>
internal static class PvmBenchmark
{
    private const int Count = 4_000;

    /// <summary>The default mix, and of it what can run in batches, on one host and on two at once.</summary>
    public static void Run()
    {
        CpuProfile here = new Composition().Host;
        if (PvmHosts.Problem(here) is string problem)
        {
            Console.WriteLine($"no PVM host: {problem}");
            return;
        }

        using PvmTarget first = PvmHosts.Start(here);
        using PvmTarget second = PvmHosts.Start(here);
        Generator generator = new(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), first.Info.Processor ?? here);
        TestCase[] mix = [.. Enumerable.Range(0, Count).Select(i => generator.Generate(1, (ulong)i))];
        foreach ((string what, TestCase[] cases) in (ReadOnlySpan<(string, TestCase[])>)[("default mix", mix), ("warm ones of it", [.. mix.Where(c => c.Pvm!.Path == HostPath.Warm)])])
        {
            Row($"{first.Info.Name}, {what}, one host", cases, first);
            Row($"{first.Info.Name}, {what}, two hosts", cases, first, second);
        }
    }

    private static void Row(string what, TestCase[] cases, params ITarget[] targets)
    {
        Outcome[][] outcomes = [.. targets.Select(_ => new Outcome[cases.Length])];
        Measure.Rate(what, cases.Length * targets.Length, () => Parallel.For(0, targets.Length, i => targets[i].Run(cases, outcomes[i])));
        int failed = outcomes[0].Count(o => o.End == EndKind.HarnessError);
        if (failed > 0)
        {
            Console.WriteLine($"    harness errors in {failed} of {cases.Length} cases: {outcomes[0].First(o => o.End == EndKind.HarnessError).Detail}");
        }
    }
}
