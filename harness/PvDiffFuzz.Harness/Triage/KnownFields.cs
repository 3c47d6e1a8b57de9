using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>The names that known entries may use for fields.</summary>
public static class KnownFields
{
    private static readonly ImmutableArray<Field> Plain = [.. AllPlain()];

    /// <summary>Names that conditions can read as numbers. What only some ABIs have is among them.</summary>
    internal static IReadOnlyDictionary<string, Field> Numbers { get; } = AllNumbers().DistinctBy(f => f.Unindexed, StringComparer.Ordinal).ToDictionary(f => f.Unindexed, StringComparer.Ordinal);

    /// <summary>Names that a <c>fields</c> line may list, groups included.</summary>
    public static IReadOnlySet<string> Names { get; } =
        Plain.Concat(Enum.GetValues<Abi>().SelectMany(OfAbi)).SelectMany(f => f.Groups.Append(f.Unindexed)).ToHashSet(StringComparer.Ordinal);

    /// <summary>True for a name of a frame's part or of the system side: something that only some ABIs have.</summary>
    public static bool IsParavirtual(string name) => name.StartsWith("event.frame", StringComparison.Ordinal) || name.StartsWith("sys", StringComparison.Ordinal);

    /// <summary>True when an ABI has a field of that name, or a group.</summary>
    public static bool Has(Abi abi, string name) => !IsParavirtual(name) || OfAbi(abi).Any(f => f.Unindexed == name || f.Groups.Contains(name, StringComparer.Ordinal));

    /// <summary>What an ABI has beyond <see cref="Abi.X86"/>.</summary>
    private static IEnumerable<Field> OfAbi(Abi abi)
    {
        if (abi == Abi.X86)
        {
            yield break;
        }

        yield return new Field(FieldKind.Frame, 0);
        foreach (FrameField part in PartsOf(abi))
        {
            yield return new Field(FieldKind.FramePart, 0) { Part = part.Name, Offset = part.Offset };
            for (byte bit = 0; part.Saves == Register.Rflags && bit < 64; bit++)
            {
                yield return new Field(FieldKind.FrameFlag, 0, default, bit) { Part = part.Name, Offset = part.Offset };
            }
        }

        foreach (SystemRegister register in Enum.GetValues<SystemRegister>().Where(register => abi.IsPvm() || TestCase.CheckSystemValue(abi, register, 0) is null))
        {
            yield return new Field(FieldKind.System) { System = register };
            for (byte bit = 0; PvcsLayout.Saves(register) == Register.Rflags && bit < 64; bit++)
            {
                yield return new Field(FieldKind.SystemFlag, Field.Final, default, bit) { System = register };
            }
        }
    }

    private static IEnumerable<FrameField> PartsOf(Abi abi)
    {
        const int longest = 256;
        return Enum.GetValues<EntryPoint>().SelectMany(entry => Enumerable.Range(0, longest).SelectMany(length => FrameLayout.Of(abi, entry, length).ToArray())).Distinct();
    }

    private static IEnumerable<Field> AllNumbers() =>
        Plain.Concat(Enum.GetValues<Abi>().SelectMany(OfAbi)).Where(f => f.Kind is not (FieldKind.Memory or FieldKind.Frame));

    private static IEnumerable<Field> AllPlain()
    {
        yield return new Field(FieldKind.End);
        yield return new Field(FieldKind.HypervisorCrash);
        yield return new Field(FieldKind.Events);
        yield return new Field(FieldKind.Memory);
        foreach (FieldKind kind in new[] { FieldKind.Kind, FieldKind.Vector, FieldKind.Error, FieldKind.Cr2, FieldKind.Entry })
        {
            yield return new Field(kind, 0);
        }

        foreach (int place in new[] { 0, Field.Final })
        {
            for (Register register = Register.Rax; register <= Register.Pkru; register++)
            {
                yield return new Field(FieldKind.Register, place, register);
            }

            for (byte bit = 0; bit < 64; bit++)
            {
                yield return new Field(FieldKind.Flag, place, default, bit);
            }
        }
    }
}
