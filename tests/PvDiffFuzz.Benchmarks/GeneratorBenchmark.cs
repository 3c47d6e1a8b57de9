using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Generated cases a second on one core.</summary>
internal static class GeneratorBenchmark
{
    private const int Count = 20_000;

    /// <summary>Default options, and exactly sixteen instructions.</summary>
    public static void Run()
    {
        Row("generator, default", new GeneratorOptions());
        Row("generator, 16 instructions", Cases.Mixed);
    }

    private static void Row(string what, GeneratorOptions options)
    {
        Generator generator = new(options, Cases.Profile);
        ulong next = 0;
        Measure.Rate(what, Count, () =>
        {
            for (int i = 0; i < Count; i++)
            {
                generator.Generate(1, next++);
            }
        });
    }
}
