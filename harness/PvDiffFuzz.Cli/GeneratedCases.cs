using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli;

/// <summary>The generator as a campaign's source of cases.</summary>
internal sealed class GeneratedCases(GeneratorOptions options, CpuProfile profile, ulong seed) : ICaseSource
{
    private readonly Generator _generator = new(options, profile);

    /// <inheritdoc/>
    public TestCase Generate(ulong index) => _generator.Generate(seed, index);
}
