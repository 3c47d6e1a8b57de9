using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>How edges and rules grew with the number of cases of a guided campaign.</summary>
internal static class CoverageProgress
{
    /// <summary>Shapes it for <c>coverage --json</c>.</summary>
    public static object ForJson(ImmutableArray<CoverageSample> samples) =>
        samples.Select(sample => new { cases = sample.Cases, edges = sample.Edges, rules = sample.Rules, corpus = sample.Corpus });

    /// <summary>Prints it for a person: a line each time that the number of cases has doubled, and the last.</summary>
    public static void Print(ImmutableArray<CoverageSample> samples)
    {
        long next = 0;
        foreach (CoverageSample sample in samples)
        {
            if (sample.Cases >= next || sample == samples[^1])
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"after {sample.Cases,12:N0} cases: {sample.Edges,6:N0} edges, {sample.Rules,4} rules, corpus of {sample.Corpus:N0}"));
                next = sample.Cases * 2;
            }
        }
    }
}
