using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Benchmarks;

/// <summary>What probes cost: the plain model and its instrumented copy on the same cases, side by side.</summary>
internal static class GuideBenchmark
{
    private const int Count = 20_000;

    /// <summary>Both models.</summary>
    public static void Run()
    {
        Pair("model.x86", Abi.X86, new X86Model(Cases.Profile), InstrumentedModel.Load(typeof(X86Model)), typeof(X86Model));
        Pair("model.pvm", Abi.PvmRfc1, new PvmModel(Cases.Profile), InstrumentedModel.Load(typeof(PvmModel), typeof(X86Model)), typeof(PvmModel));
    }

    private static void Pair(string what, Abi abi, ITarget plain, InstrumentedModel copy, Type model)
    {
        TestCase[] cases = Cases.Generated(GeneratorOptions.DefaultsFor(abi), Count);
        ITarget probed = copy.Create<ITarget>(model, Cases.Profile, null);
        double[] rates = Measure.Rates(
            new Row($"{what}, plain", Count, () => Array.ForEach(cases, one => plain.Run(one))),
            new Row($"{what}, instrumented", Count, () => Array.ForEach(cases, one =>
            {
                copy.Restart();
                probed.Run(one);
                copy.Edges.AsSpan().Clear();
            })));
        Measure.Ratio($"{what}, instrumented to plain", rates[1], rates[0]);
    }
}
