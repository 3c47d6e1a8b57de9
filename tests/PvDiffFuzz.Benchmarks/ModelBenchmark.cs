using System.Globalization;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Fresh cases a second on one core, decoding included.</summary>
internal static class ModelBenchmark
{
    private const int Count = 20_000;
    private const int BatchLength = 512;

    /// <summary>Runs all rows.</summary>
    public static void Run()
    {
        (string What, TestCase[] Cases)[] rows =
        [
            ("model.x86, 16 increments", Cases.Increments("90", Count)),
            ("model.x86, 16 of twelve plain kinds", Cases.Plain(Count)),
            ("model.x86, generated, straight", Cases.Generated(Cases.Straight, Count)),
            ("model.x86, generated, default mix", Cases.Generated(Cases.Mixed, Count)),
            ("model.x86, generated, default lengths", Cases.Generated(new GeneratorOptions(), Count)),
        ];
        X86Model[] models = [.. rows.Select(_ => new X86Model(Cases.Profile))];
        Measure.Rates([.. rows.Zip(models, (row, model) => new Row(row.What, Count, () => RunAll(model, row.Cases)))]);
        for (int i = 0; i < rows.Length; i++)
        {
            Describe(rows[i].What, models[i], rows[i].Cases);
            models[i].Dispose();
        }
    }

    /// <summary>As a campaign does: outcomes of a batch are compared and dropped before the next.</summary>
    private static void RunAll(ITarget target, TestCase[] cases)
    {
        Outcome[] batch = new Outcome[BatchLength];
        for (int at = 0; at < cases.Length; at += BatchLength)
        {
            ReadOnlySpan<TestCase> some = cases.AsSpan(at, Math.Min(BatchLength, cases.Length - at));
            target.Run(some, batch.AsSpan(0, some.Length));
        }
    }

    private static void Describe(string what, X86Model model, TestCase[] cases)
    {
        Outcome[] outcomes = [.. cases.Select(model.Run)];
        int ended = outcomes.Count(o => o.End == EndKind.ReachedEnd);
        double executed = cases.Take(2000).Average(c => model.Trace(c, 1000).Length);
        double contents = cases.Average(c => c.Contents.Length);
        double words = outcomes.Average(o => o.Memory.Length);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{what}: {100.0 * ended / cases.Length:F0} % reach the end; {executed:F1} instructions executed, {contents:F1} runs of contents, {words:F1} changed words a case"));
    }
}
