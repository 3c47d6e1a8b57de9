using System.Globalization;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen;

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
        Run(rows, () => new X86Model(Cases.Profile));
    }

    /// <summary>Runs the rows of the PVM model: what the generator makes for each revision.</summary>
    public static void RunPvm()
    {
        (string What, TestCase[] Cases)[] rows =
        [
            ("model.pvm, generated, pvm-rfc1", Cases.Generated(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), Count)),
            ("model.pvm, generated, pvm-612", Cases.Generated(GeneratorOptions.DefaultsFor(Abi.Pvm612), Count)),
        ];
        Run(rows, () => new PvmModel(Cases.Profile));
    }

    /// <summary>Runs the rows of the Xen model: what the generator makes for each kind of guest.</summary>
    public static void RunXen()
    {
        (string What, TestCase[] Cases)[] rows =
        [
            ("model.xen, generated, xen-pv64", Cases.Generated(GeneratorOptions.DefaultsFor(Abi.XenPv64), Count)),
            ("model.xen, generated, xen-pv64-fred", Cases.Generated(GeneratorOptions.DefaultsFor(Abi.XenPv64Fred), Count)),
            ("model.xen, generated, xen-pv32", Cases.Generated(GeneratorOptions.DefaultsFor(Abi.XenPv32), Count)),
        ];
        Run(rows, () => new XenModel(Cases.Profile));
    }

    private static void Run<TModel>((string What, TestCase[] Cases)[] rows, Func<TModel> create)
        where TModel : ITarget, ITracer
    {
        TModel[] models = [.. rows.Select(_ => create())];
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

    private static void Describe<TModel>(string what, TModel model, TestCase[] cases)
        where TModel : ITarget, ITracer
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
