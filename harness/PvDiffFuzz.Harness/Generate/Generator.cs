using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Harness.Generate.Xen;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Makes test cases: a pure function of options, processor profile, campaign seed and index.</summary>
/// <remarks>
/// An instance keeps scratch memory and belongs to one thread; instances with equal options and profile make equal cases, in any order.
/// Every case is well formed, uses <see cref="AddressMap.Standard"/> (PVM and Xen: the layouts of <see cref="PvmMap"/> and <see cref="XenMap"/>), and holds no instruction that <see cref="Isa.Exclusions"/> lists, at whichever byte one begins to decode.
/// </remarks>
public sealed class Generator
{
    /// <summary>Changes whenever the same seed gives other cases; those of PVM and Xen have a version besides, <see cref="PvmOptions.Version"/> and <see cref="XenOptions.Version"/>.</summary>
    public const int Version = 2;

    private readonly CaseBuilder _builder;

    /// <summary>Prepares a generator.</summary>
    /// <param name="options">What to make.</param>
    /// <param name="profile">Processor on which the cases are to run; chooses features, vendor-specific exclusions and far-pointer layout.</param>
    /// <exception cref="ArgumentException">An option is out of range; the message names the valid values.</exception>
    public Generator(GeneratorOptions options, CpuProfile profile)
    {
        if (options.Check() is { } problem)
        {
            throw new ArgumentException(problem, nameof(options));
        }

        Options = options;
        _builder = options.Abi.IsPvm() ? new PvmCaseBuilder(options, profile)
            : options.Abi.IsXen() ? new XenCaseBuilder(options, profile)
            : new CaseBuilder(options, profile);
    }

    /// <summary>The options.</summary>
    public GeneratorOptions Options { get; }

    /// <summary>Makes one case.</summary>
    /// <param name="campaignSeed">Any number.</param>
    /// <param name="index">Any number.</param>
    public TestCase Generate(ulong campaignSeed, ulong index)
    {
        // An attempt fails when immediates and displacements happen to spell an excluded instruction.
        for (ulong attempt = 0; ; attempt++)
        {
            if (_builder.Build(new CounterRandom(campaignSeed + (attempt << 32), index)) is { } testCase)
            {
                return testCase;
            }
        }
    }
}
