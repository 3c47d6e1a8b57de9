using System.Collections.Immutable;
using Iced.Intel;
using Flags = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Isa;

/// <summary>What an instruction does to RFLAGS when it completes.</summary>
/// <param name="Read">Bits that it reads.</param>
/// <param name="Defined">Bits that get a defined value whatever they were.</param>
/// <param name="Undefined">Bits that may have any value afterwards.</param>
public readonly record struct FlagEffect(ulong Read, ulong Defined, ulong Undefined);

/// <summary>Flag effects of the forms: Iced's tables for what is read and written, <see cref="UndefinedTable"/> for what is undefined.</summary>
public static class FlagEffects
{
    private static readonly Rule[] Rules = Build();

    /// <summary>The effect of a form.</summary>
    /// <param name="code">The form.</param>
    /// <param name="count">For shifts and rotates the count as encoded or in CL, before masking; null when it is not known.</param>
    public static FlagEffect Of(Code code, byte? count)
    {
        Rule rule = Rules[(int)code];
        if (!rule.Counted)
        {
            return new FlagEffect(rule.Read, rule.Written & ~rule.Undefined, rule.Undefined);
        }

        int? masked = Masked(code, count);
        if (masked == 0)
        {
            return new FlagEffect(rule.Read, 0, 0);
        }

        ulong undefined = 0;
        foreach (UndefinedRow row in rule.Rows)
        {
            undefined |= Holds(row.Condition, masked, rule.Bits) ? row.Flags : 0;
        }

        // Without a known count nothing is surely defined, since the count may be 0.
        return new FlagEffect(rule.Read, masked is null ? 0 : rule.Written & ~undefined, undefined);
    }

    /// <summary>True when the effect depends on a count.</summary>
    public static bool HasCount(Code code) => Rules[(int)code].Counted;

    /// <summary>The rows about a form, whatever their condition.</summary>
    public static ImmutableArray<UndefinedRow> RowsOf(Code code) => Rules[(int)code].Rows;

    /// <summary>The count after masking to 5 bits, or to 6 for 64-bit operands (SDM vol.2 SAL/SAR/SHL/SHR).</summary>
    internal static int? Masked(Code code, byte? count) => count & (Rules[(int)code].Bits == 64 ? 0x3f : 0x1f);

    /// <summary>Bits of the first operand where rows depend on it, else 0.</summary>
    internal static int OperandBits(Code code) => Rules[(int)code].Bits;

    /// <summary>True when a condition holds or may hold.</summary>
    internal static bool Holds(UndefinedCondition condition, int? count, int bits) => condition switch
    {
        UndefinedCondition.Always or UndefinedCondition.SourceZero => true,
        UndefinedCondition.CountNotZero => count is null or not 0,
        UndefinedCondition.CountAboveOne => count is null or > 1,
        UndefinedCondition.CountReachesSize => count is null ? bits < 32 : count >= bits,
        UndefinedCondition.CountAboveSize => count is null ? bits < 32 : count > bits,
        _ => false,
    };

    private static Rule[] Build()
    {
        ILookup<Mnemonic, UndefinedRow> rows = UndefinedTable.Rows.SelectMany(r => r.Mnemonics.Select(m => (m, r))).ToLookup(p => p.m, p => p.r);
        Code[] codes = Enum.GetValues<Code>();
        Rule[] rules = new Rule[codes.Max(c => (int)c) + 1];
        foreach (Code code in codes)
        {
            Instruction instruction = default;
            instruction.Code = code;
            OpCodeInfo info = code.ToOpCode();
            byte bits = Bits(info.Op0Kind);
            bool counted = info.Mnemonic is Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sal or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr
                or Mnemonic.Shld or Mnemonic.Shrd;
            ImmutableArray<UndefinedRow> own = InstructionForms.IsGeneralForm(info)
                ? [.. rows[info.Mnemonic].Where(r => r.OperandBits == 0 || r.OperandBits == bits)]
                : [];
            ulong undefined = 0;
            foreach (UndefinedRow row in own)
            {
                undefined |= row.Condition == UndefinedCondition.Always ? row.Flags : 0;
            }

            bool carries = info.Mnemonic is Mnemonic.Rcl or Mnemonic.Rcr;
            bool rotates = carries || info.Mnemonic is Mnemonic.Rol or Mnemonic.Ror;
            ulong written = MovesControl(code) ? 0 : IcedFlags.ToRflags(instruction.RflagsModified);
            if (counted)
            {
                // Iced gives nothing for an immediate count, since it depends on the immediate.
                written = rotates ? Flags.CF | Flags.OF : Flags.Status;
            }

            rules[(int)code] = new Rule(IcedFlags.ToRflags(instruction.RflagsRead) | (carries ? Flags.CF : 0), written, undefined, own, counted, bits);
        }

        return rules;
    }

    /// <summary>MOV to and from control and debug registers leaves flags undefined on Intel's processors (SDM vol.2 MOV), but payloads have CPL3, where a hypervisor carries it out, or nobody.</summary>
    private static bool MovesControl(Code code) => code is Code.Mov_r32_cr or Code.Mov_r64_cr or Code.Mov_cr_r32 or Code.Mov_cr_r64 or Code.Mov_r32_dr or Code.Mov_r64_dr or Code.Mov_dr_r32 or Code.Mov_dr_r64;

    private static byte Bits(OpCodeOperandKind kind) => kind switch
    {
        OpCodeOperandKind.r8_or_mem => 8,
        OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r16_opcode => 16,
        OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_opcode => 32,
        _ => 64,
    };

    private readonly record struct Rule(ulong Read, ulong Written, ulong Undefined, ImmutableArray<UndefinedRow> Rows, bool Counted, byte Bits);
}
