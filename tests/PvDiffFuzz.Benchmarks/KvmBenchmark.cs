using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Batched cases a second in a guest, beside one case an entry with everything reset by KVM.</summary>
internal static class KvmBenchmark
{
    private const int Count = 8_000;
    private const int AloneCount = 2_000;

    /// <summary>The usual ends, and generated cases, each both ways.</summary>
    public static void Run()
    {
        if (KvmTarget.Probe(Cases.Profile) is TargetUnavailableException trouble)
        {
            Console.WriteLine($"kvm is not here: {trouble.Message}; {trouble.Cure}");
            return;
        }

        Pair("end (#PF)", Cases.Increments("90", Count));
        Pair("#GP", Cases.Increments("f4", Count));
        Pair("#UD", Cases.Increments("0f0b", Count));
        Pair("INT3 (#BP)", Cases.Increments("cc", Count));
        Pair("SYSCALL", Cases.Increments("0f05", Count));
        Pair("generated, default mix", Cases.Generated(Cases.Mixed, Count));
    }

    private static void Pair(string what, TestCase[] cases)
    {
        double batched = Row($"kvm batched, {what}", cases, oneCaseAnEntry: false);
        double alone = Row($"kvm one case an entry, {what}", cases[..AloneCount], oneCaseAnEntry: true);
        Measure.Ratio($"kvm, batched to alone, {what}", batched, alone);
    }

    private static double Row(string what, TestCase[] cases, bool oneCaseAnEntry)
    {
        using KvmTarget kvm = new(Cases.Profile, oneCaseAnEntry);
        Outcome[] outcomes = new Outcome[cases.Length];
        double rate = Measure.Rate(what, cases.Length, () => kvm.Run(cases, outcomes));
        int failed = outcomes.Count(o => !o.Comparable);
        if (failed > cases.Length / 10 || kvm.RunAgain > 0)
        {
            Console.WriteLine($"    {failed} of {cases.Length} cases could not be run, {kvm.RunAgain} ran again: {outcomes.FirstOrDefault(o => !o.Comparable)?.Detail}");
        }

        return rate;
    }
}
