using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Harness.Generate.Xen;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>The generator in many settings: in each, some families and actions are frequent, others are missing, and shares are far from the usual ones.</summary>
/// <remarks>
/// Swarm testing (Groce and others: Swarm testing, ISSTA 2012): what never happens in a mix of everything, because it is rare or because something else comes in its way, is frequent in some setting.
/// A setting is a pure function of the usual options, the seed and its number. Length, evenness and prefixes come with each other in every combination, because some rules need all three and no seed shall lack
/// them; the rest is drawn. What the usual options leave out, all leave out. Used by one thread.
/// </remarks>
public sealed class Swarm : ISettingsSource
{
    /// <summary>Number of settings. Setting 0 is the usual one.</summary>
    public const int Count = 64;

    private readonly GeneratorOptions _usual;
    private readonly CpuProfile _profile;
    private readonly ulong _seed;
    private readonly Generator?[] _generators = new Generator?[Count];

    /// <summary>Makes a swarm.</summary>
    /// <param name="usual">The options without a swarm.</param>
    /// <param name="profile">Processor on which the cases are to run.</param>
    /// <param name="seed">Seed of settings and cases.</param>
    public Swarm(GeneratorOptions usual, CpuProfile profile, ulong seed) => (_usual, _profile, _seed) = (usual, profile, seed);

    /// <inheritdoc/>
    public int Settings => Count;

    /// <inheritdoc/>
    public TestCase Generate(ulong index) => Generate(0, index);

    /// <inheritdoc/>
    public TestCase Generate(int setting, ulong index) => (_generators[setting] ??= new Generator(OptionsOf(setting), _profile)).Generate(_seed, index);

    /// <summary>The options of a setting.</summary>
    /// <param name="setting">0 to <see cref="Count"/> - 1.</param>
    public GeneratorOptions OptionsOf(int setting)
    {
        if (setting == 0)
        {
            return _usual;
        }

        CounterRandom random = new(_seed ^ 0x7377_6172_6d00_0000, (ulong)setting);
        ImmutableSortedDictionary<Isa.Family, int> weights = Shuffle(_usual.Weights, ref random);
        int longer = 1 + (setting >> 4);
        return _usual with
        {
            TypicalInstructions = Math.Min(GeneratorOptions.MaximumLength, _usual.TypicalInstructions * longer),
            MaximumInstructions = Math.Min(GeneratorOptions.MaximumLength, _usual.MaximumInstructions * longer),
            EvenPercent = ((ReadOnlySpan<int>)[0, 10, 60, 100])[setting & 3],
            Weights = weights.Values.Any(weight => weight > 0) ? weights : _usual.Weights,
            PrefixPermille = ((ReadOnlySpan<int>)[_usual.PrefixPermille, 300, 600, 900])[(setting >> 2) & 3],
            RawPercent = Scale(_usual.RawPercent, random.Pick([0, 1, 1, 8]), 60),
            CompatibilityPercent = Scale(_usual.CompatibilityPercent, random.Pick([0, 1, 1, 5]), 100),
            ResponsePercent = Scale(_usual.ResponsePercent, random.Pick([1, 4, 10, 20]), 100),
            DebugPermille = Scale(_usual.DebugPermille, random.Pick([1, 1, 1, 10, _usual.Abi != Abi.X86 ? 250 : 20]), 500),
            FaultingOperandPermille = Scale(_usual.FaultingOperandPermille, random.Pick([0, 1, 1, 4]), 1000),
            FinalEntryPercent = Scale(_usual.FinalEntryPercent, random.Pick([0, 1, 1, 2]), 100),
            Pvm = _usual.Abi.IsPvm() ? Shuffle(_usual.Pvm, ref random) : _usual.Pvm,
            Xen = _usual.Abi.IsXen() ? Shuffle(_usual.Xen, ref random) : _usual.Xen,
        };
    }

    private static PvmOptions Shuffle(PvmOptions usual, ref CounterRandom random)
    {
        ImmutableSortedDictionary<PvmAction, int> supervisor = Shuffle(usual.SupervisorWeights, ref random);
        ImmutableSortedDictionary<PvmAction, int> user = Shuffle(usual.UserWeights, ref random);
        return usual with
        {
            SupervisorWeights = supervisor.Values.Any(weight => weight > 0) ? supervisor : usual.SupervisorWeights,
            UserWeights = user.Values.Any(weight => weight > 0) ? user : usual.UserWeights,
            SupervisorPercent = Scale(usual.SupervisorPercent, random.Pick([0, 1, 1, 2]), 100),
            SupervisorActionPercent = random.Pick([usual.SupervisorActionPercent, usual.SupervisorActionPercent, 20, 95]),
            UserActionPercent = random.Pick([usual.UserActionPercent, usual.UserActionPercent, 5, 80]),
            OneRootPercent = random.Pick([usual.OneRootPercent, usual.OneRootPercent, 60]),
            NoStructurePercent = random.Pick([usual.NoStructurePercent, usual.NoStructurePercent, 20]),
            OddFramePercent = random.Pick([usual.OddFramePercent, usual.OddFramePercent, 5, 60]),
            InjectPercent = random.Pick([usual.InjectPercent, usual.InjectPercent, 60]),
            ResponseInjectPercent = random.Pick([usual.ResponseInjectPercent, usual.ResponseInjectPercent, 60]),
            ResponseHypercallPercent = random.Pick([usual.ResponseHypercallPercent, usual.ResponseHypercallPercent, 80]),
        };
    }

    private static XenOptions Shuffle(XenOptions usual, ref CounterRandom random)
    {
        ImmutableSortedDictionary<XenAction, int> kernel = Shuffle(usual.KernelWeights, ref random);
        ImmutableSortedDictionary<XenAction, int> user = Shuffle(usual.UserWeights, ref random);
        return usual with
        {
            KernelWeights = kernel.Values.Any(weight => weight > 0) ? kernel : usual.KernelWeights,
            UserWeights = user.Values.Any(weight => weight > 0) ? user : usual.UserWeights,
            KernelPercent = Scale(usual.KernelPercent, random.Pick([0, 1, 1, 2]), 100),
            EnteredPercent = random.Pick([usual.EnteredPercent, usual.EnteredPercent, 5, 95]),
            KernelActionPercent = random.Pick([usual.KernelActionPercent, usual.KernelActionPercent, 20, 95]),
            UserActionPercent = random.Pick([usual.UserActionPercent, usual.UserActionPercent, 5, 80]),
            OneRootPercent = random.Pick([usual.OneRootPercent, usual.OneRootPercent, 60]),
            OddFramePercent = random.Pick([usual.OddFramePercent, usual.OddFramePercent, 5, 60]),
            PendingPercent = random.Pick([usual.PendingPercent, usual.PendingPercent, 60]),
            ResponsePendingPercent = random.Pick([usual.ResponsePendingPercent, usual.ResponsePendingPercent, 60]),
            ResponseHypercallPercent = random.Pick([usual.ResponseHypercallPercent, usual.ResponseHypercallPercent, 80]),
            HazardOneIn = usual.HazardOneIn == 0 ? 0 : random.Pick([usual.HazardOneIn, 64, 16]),
        };
    }

    /// <summary>Weights of which some are much higher and others 0.</summary>
    private static ImmutableSortedDictionary<TKey, int> Shuffle<TKey>(ImmutableSortedDictionary<TKey, int> weights, ref CounterRandom random)
        where TKey : notnull
    {
        ImmutableSortedDictionary<TKey, int>.Builder shuffled = ImmutableSortedDictionary.CreateBuilder<TKey, int>();
        foreach ((TKey key, int weight) in weights)
        {
            shuffled.Add(key, random.Below(10) switch { 0 => 0, < 7 => weight, < 9 => Math.Min(10_000, Math.Max(weight, 40) * 4), _ => Math.Min(10_000, Math.Max(weight, 40) * 20) });
        }

        return shuffled.ToImmutable();
    }

    private static int Scale(int share, int factor, int most) => Math.Min(most, share * factor);
}
