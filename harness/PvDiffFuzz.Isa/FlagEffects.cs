using Iced.Intel;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Isa;

/// <summary>What an instruction does to RFLAGS when it completes.</summary>
/// <param name="Read">Bits that it reads.</param>
/// <param name="Defined">Bits that get a defined value whatever they were.</param>
/// <param name="Undefined">Bits that may have any value afterwards.</param>
public readonly record struct FlagEffect(ulong Read, ulong Defined, ulong Undefined);

/// <summary>Flag effects of the forms: Iced's table, corrected where the effect depends on a count.</summary>
public static class FlagEffects
{
    private static readonly Rule[] Rules = Build();

    private enum CountKind : byte
    {
        None,
        Shift,
        ArithmeticShift,
        Rotate,
        DoubleShift,
    }

    /// <summary>The effect of a form.</summary>
    /// <param name="code">The form.</param>
    /// <param name="count">For shifts and rotates the count as encoded or in CL, before masking; null when it is not known.</param>
    public static FlagEffect Of(Code code, byte? count)
    {
        Rule rule = Rules[(int)code];
        if (rule.Kind == CountKind.None)
        {
            return new FlagEffect(rule.Read, rule.Defined, rule.Undefined);
        }

        if (count is not { } given)
        {
            // Nothing is surely defined, since the count may be 0.
            ulong any = rule.Kind switch
            {
                CountKind.Shift when rule.Bits < 32 => RflagsBits.OF | RflagsBits.AF | RflagsBits.CF,
                CountKind.Rotate => RflagsBits.OF,
                CountKind.DoubleShift when rule.Bits < 32 => RflagsBits.Status,
                _ => RflagsBits.OF | RflagsBits.AF,
            };
            return new FlagEffect(rule.Read, 0, any);
        }

        int masked = given & (rule.Bits == 64 ? 0x3f : 0x1f);
        if (masked == 0)
        {
            return new FlagEffect(rule.Read, 0, 0);
        }

        ulong overflow = masked == 1 ? 0 : RflagsBits.OF;
        ulong undefined = rule.Kind switch
        {
            CountKind.Rotate => overflow,
            CountKind.Shift => RflagsBits.AF | overflow | (masked >= rule.Bits ? RflagsBits.CF : 0),
            CountKind.ArithmeticShift => RflagsBits.AF | (masked == 1 ? 0 : RflagsBits.OF),
            _ => masked > rule.Bits ? RflagsBits.Status : RflagsBits.AF | overflow,
        };
        ulong written = rule.Kind == CountKind.Rotate ? RflagsBits.CF | RflagsBits.OF : RflagsBits.Status;
        return new FlagEffect(rule.Read, written & ~undefined, undefined);
    }

    /// <summary>True when the effect depends on a count.</summary>
    public static bool HasCount(Code code) => Rules[(int)code].Kind != CountKind.None;

    /// <summary>Bits of the operand that a count shifts, or 0.</summary>
    public static int OperandBits(Code code) => Rules[(int)code].Bits;

    private static Rule[] Build()
    {
        Code[] codes = Enum.GetValues<Code>();
        Rule[] rules = new Rule[codes.Max(c => (int)c) + 1];
        foreach (Code code in codes)
        {
            Instruction instruction = default;
            instruction.Code = code;
            OpCodeInfo info = code.ToOpCode();
            CountKind kind = info.Mnemonic switch
            {
                Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sal => CountKind.Shift,
                Mnemonic.Sar => CountKind.ArithmeticShift,
                Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr => CountKind.Rotate,
                Mnemonic.Shld or Mnemonic.Shrd => CountKind.DoubleShift,
                _ => CountKind.None,
            };
            bool carries = info.Mnemonic is Mnemonic.Rcl or Mnemonic.Rcr;
            rules[(int)code] = new Rule(
                IcedFlags.ToRflags(instruction.RflagsRead) | (carries ? RflagsBits.CF : 0),
                IcedFlags.ToRflags(instruction.RflagsWritten | instruction.RflagsCleared | instruction.RflagsSet),
                IcedFlags.ToRflags(instruction.RflagsUndefined),
                kind,
                kind == CountKind.None ? (byte)0 : Bits(info));
        }

        return rules;
    }

    private static byte Bits(OpCodeInfo info) => info.Op0Kind switch
    {
        OpCodeOperandKind.r8_or_mem => 8,
        OpCodeOperandKind.r16_or_mem => 16,
        OpCodeOperandKind.r32_or_mem => 32,
        _ => 64,
    };

    private readonly record struct Rule(ulong Read, ulong Defined, ulong Undefined, CountKind Kind, byte Bits);
}
