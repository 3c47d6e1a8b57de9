using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Conformance.Tests.Grids;

/// <summary>The forms whose results depend on operands and flags alone, from the instruction tables.</summary>
internal static class GridForms
{
    private static readonly ImmutableHashSet<Mnemonic> Moves =
    [
        Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Movzx, Mnemonic.Bswap, Mnemonic.Cbw, Mnemonic.Cwde, Mnemonic.Cdqe, Mnemonic.Cwd, Mnemonic.Cdq, Mnemonic.Cqo,
    ];

    /// <summary>Forms of a mode that can be encoded with registers only.</summary>
    public static ImmutableArray<FormTemplate> Registers(CpuMode mode) => [.. InstructionForms.Templates(mode).Where(t => IsMeant(t) && t.RmField != RmField.Memory)];

    /// <summary>Forms of a mode that can have a memory operand.</summary>
    public static ImmutableArray<FormTemplate> Memory(CpuMode mode) =>
        [.. InstructionForms.Templates(mode).Where(t => IsMeant(t) && t.RmField is RmField.Either or RmField.Memory)];

    private static bool IsMeant(FormTemplate template)
    {
        Mnemonic mnemonic = template.Code.Mnemonic();
        return template.Family is Family.Arithmetic or Family.Logic or Family.Shift or Family.Multiply or Family.Bit or Family.Bmi or Family.Flags
            || mnemonic is Mnemonic.Xadd or Mnemonic.Cmpxchg or Mnemonic.Xchg
            || (template.Family == Family.Move && (Moves.Contains(mnemonic) || mnemonic.ToString().StartsWith("Cmov", StringComparison.Ordinal)));
    }
}
