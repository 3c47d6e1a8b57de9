using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Generated cases a second on one core.</summary>
internal static class GeneratorBenchmark
{
    private const int Count = 20_000;

    /// <summary>Default options, exactly sixteen instructions, and the default options of other ABIs.</summary>
    public static void Run()
    {
        Row("generator, default", new GeneratorOptions());
        Row("generator, 16 instructions", Cases.Mixed);
        Row("generator, pvm-rfc1", GeneratorOptions.DefaultsFor(Abi.PvmRfc1));
        Row("generator, pvm-612", GeneratorOptions.DefaultsFor(Abi.Pvm612));
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
