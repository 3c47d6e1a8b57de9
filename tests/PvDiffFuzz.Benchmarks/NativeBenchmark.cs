using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Batched cases a second on the processor, by the event that ends them.</summary>
internal static class NativeBenchmark
{
    private const int Count = 20_000;

    /// <summary>The usual ends, and generated cases.</summary>
    public static void Run()
    {
        if (!Available())
        {
            return;
        }

        Row("native, end (#PF)", Cases.Increments("90", Count));
        Row("native, #GP", Cases.Increments("f4", Count));
        Row("native, #UD", Cases.Increments("0f0b", Count));
        Row("native, INT3 (#BP)", Cases.Increments("cc", Count));
        Row("native, generated, default mix", Cases.Generated(Cases.Mixed, Count));
    }

    /// <summary>Every other case arms a breakpoint, which takes ptrace.</summary>
    public static void Debug()
    {
        if (!Available())
        {
            return;
        }

        TestCase[] plain = Cases.Increments("90", 2_000);
        TestCase[] armed = [.. plain.Select((c, i) => i % 2 == 0 ? c : Cases.Armed(c))];
        double fast = Row("native, no breakpoint", plain);
        double slow = Row("native, a breakpoint in every other case", armed);
        Measure.Ratio("native, fast to slow", fast, slow);
    }

    private static double Row(string what, TestCase[] cases)
    {
        using NativeTarget native = new();
        Outcome[] outcomes = new Outcome[cases.Length];
        double rate = Measure.Rate(what, cases.Length, () => native.Run(cases, outcomes));
        int failed = outcomes.Count(o => !o.Comparable);
        if (failed > cases.Length / 10)
        {
            Console.WriteLine($"    {failed} of {cases.Length} cases could not be run: {outcomes.First(o => !o.Comparable).Detail}");
        }

        return rate;
    }

    private static bool Available()
    {
        if (NativeTarget.Probe() is not TargetUnavailableException trouble)
        {
            return true;
        }

        Console.WriteLine($"native is not here: {trouble.Message}; {trouble.Cure}");
        return false;
    }
}
