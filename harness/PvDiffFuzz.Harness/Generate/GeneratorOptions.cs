using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Harness.Generate.Xen;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>What the generator makes. Equal options, profile and seed give equal cases.</summary>
public sealed record GeneratorOptions
{
    /// <summary>Most instructions in a case.</summary>
    public const int MaximumLength = 400;

    /// <summary>Weights of the default mix. A family that is missing has weight 0.</summary>
    public static ImmutableSortedDictionary<Family, int> DefaultWeights { get; } = ImmutableSortedDictionary.CreateRange(
    [
        KeyValuePair.Create(Family.Arithmetic, 150),
        KeyValuePair.Create(Family.Logic, 100),
        KeyValuePair.Create(Family.Shift, 110),
        KeyValuePair.Create(Family.Multiply, 50),
        KeyValuePair.Create(Family.Move, 140),
        KeyValuePair.Create(Family.Stack, 60),
        KeyValuePair.Create(Family.Branch, 70),
        KeyValuePair.Create(Family.Bit, 80),
        KeyValuePair.Create(Family.String, 45),
        KeyValuePair.Create(Family.Flags, 35),
        KeyValuePair.Create(Family.Entry, 9),
        KeyValuePair.Create(Family.Privileged, 4),
        KeyValuePair.Create(Family.Segment, 14),
        KeyValuePair.Create(Family.Atomic, 35),
        KeyValuePair.Create(Family.Bmi, 45),
        KeyValuePair.Create(Family.Nop, 16),
        KeyValuePair.Create(Family.Misc, 3),
    ]);

    /// <summary>ABI of the cases, one of <see cref="Abis"/>. <see cref="DefaultsFor"/> has options that suit one.</summary>
    public Abi Abi { get; init; }

    /// <summary>What matters to PVM cases only.</summary>
    public PvmOptions Pvm { get; init; } = new();

    /// <summary>What matters to Xen cases only.</summary>
    public XenOptions Xen { get; init; } = new();

    /// <summary>The ABIs for which cases can be made.</summary>
    public static ImmutableArray<Abi> Abis { get; } = [Abi.X86, Abi.PvmRfc1, Abi.Pvm612, Abi.XenPv64, Abi.XenPv64Fred, Abi.XenPv32];

    /// <summary>Families and their weights, 0 to 10,000 each, at least one above 0.</summary>
    public ImmutableSortedDictionary<Family, int> Weights { get; init; } = DefaultWeights;

    /// <summary>Fewest instructions in a case, 1 or more.</summary>
    public int MinimumInstructions { get; init; } = 1;

    /// <summary>Most instructions in a case, up to <see cref="MaximumLength"/>. The set-up of an instruction may add a few.</summary>
    public int MaximumInstructions { get; init; } = 24;

    /// <summary>Share of cases in percent that get exactly <see cref="TypicalInstructions"/> instructions, or the nearest allowed number.</summary>
    public int TypicalPercent { get; init; } = 60;

    /// <summary>The usual number of instructions.</summary>
    public int TypicalInstructions { get; init; } = 16;

    /// <summary>Share of cases in percent that are byte mutations.</summary>
    public int RawPercent { get; init; } = 5;

    /// <summary>Share of cases in percent that run in compatibility mode; of those that start in user mode, where a case may start in either.</summary>
    public int CompatibilityPercent { get; init; }

    /// <summary>Share of cases in per mille that arm debug registers. Few, because a live target has to attach to its process for each.</summary>
    public int DebugPermille { get; init; } = 2;

    /// <summary>Share of cases in percent with responses, so that they go on after an event.</summary>
    public int ResponsePercent { get; init; } = 5;

    /// <summary>Share of cases in percent that end with an instruction of the entry or privileged family.</summary>
    public int FinalEntryPercent { get; init; } = 30;

    /// <summary>Share of memory operands in per mille that are aimed where they fault.</summary>
    public int FaultingOperandPermille { get; init; } = 60;

    /// <summary>Share of instructions in per mille that get prefixes that they do not need.</summary>
    public int PrefixPermille { get; init; } = 90;

    /// <summary>Share of instructions of the families in percent whose form is chosen evenly among all forms of the mode, whatever the weights and however rare it is.</summary>
    public int EvenPercent { get; init; }

    /// <summary>The options that suit an ABI. Paravirtual cases are shorter, and most have responses, since what they are about is what events do.</summary>
    public static GeneratorOptions DefaultsFor(Abi abi) => abi != Abi.X86
        ? new GeneratorOptions
        {
            Abi = abi,
            TypicalInstructions = 6,
            MaximumInstructions = 14,
            RawPercent = 2,
            CompatibilityPercent = 15,
            ResponsePercent = 60,
        }
        : new GeneratorOptions { Abi = abi };

    /// <summary>All options in one line: equal lines, seeds and profiles give equal cases.</summary>
    public override string ToString() =>
        $"generator {Generator.Version} instructions={MinimumInstructions}-{MaximumInstructions} typical={TypicalInstructions}/{TypicalPercent} raw={RawPercent} compatibility={CompatibilityPercent} "
        + $"debug={DebugPermille} responses={ResponsePercent} final-entry={FinalEntryPercent} faulting={FaultingOperandPermille} prefixes={PrefixPermille} "
        + $"families={string.Join(',', Weights.Select(w => $"{w.Key}={w.Value}"))}"
        + (EvenPercent > 0 ? $" even={EvenPercent}" : "")
        + (Abi.IsPvm() ? $" abi={Abi.Text()} {Pvm}" : Abi.IsXen() ? $" abi={Abi.Text()} {Xen}" : "");

    /// <summary>Checks the options.</summary>
    /// <returns>Null when they are valid, else a message that names the option and the valid values.</returns>
    public string? Check()
    {
        if (!Abis.Contains(Abi))
        {
            return $"abi {(Enum.IsDefined(Abi) ? Abi.Text() : Abi)}: cases are generated for {string.Join(", ", Abis.Select(abi => abi.Text()))}";
        }

        if (MinimumInstructions < 1 || MaximumInstructions > MaximumLength || MinimumInstructions > MaximumInstructions)
        {
            return $"instructions {MinimumInstructions}..{MaximumInstructions}: a range within 1..{MaximumLength}";
        }

        ReadOnlySpan<(string Name, int Value, int Limit)> shares =
        [
            (nameof(TypicalPercent), TypicalPercent, 100), (nameof(RawPercent), RawPercent, 100), (nameof(CompatibilityPercent), CompatibilityPercent, 100),
            (nameof(DebugPermille), DebugPermille, 1000), (nameof(ResponsePercent), ResponsePercent, 100), (nameof(FinalEntryPercent), FinalEntryPercent, 100),
            (nameof(FaultingOperandPermille), FaultingOperandPermille, 1000), (nameof(PrefixPermille), PrefixPermille, 1000), (nameof(EvenPercent), EvenPercent, 100),
        ];
        foreach ((string name, int value, int limit) in shares)
        {
            if (value < 0 || value > limit)
            {
                return $"{name} {value}: a number from 0 to {limit}";
            }
        }

        foreach ((Family family, int weight) in Weights)
        {
            if (!Enum.IsDefined(family))
            {
                return $"family {family}: one of {string.Join(", ", Enum.GetNames<Family>())}";
            }

            if (weight is < 0 or > 10_000)
            {
                return $"weight {weight} of family {family}: a number from 0 to 10000";
            }
        }

        if (!Weights.Values.Any(w => w > 0))
        {
            return $"every family has weight 0; give one of {string.Join(", ", Enum.GetNames<Family>())} a weight from 1 to 10000";
        }

        return Pvm.Check() ?? Xen.Check();
    }
}
