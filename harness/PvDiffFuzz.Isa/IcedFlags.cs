using PvDiffFuzz.Core;
using Bits = Iced.Intel.RflagsBits;

namespace PvDiffFuzz.Isa;

/// <summary>Translates Iced's flag sets to RFLAGS.</summary>
internal static class IcedFlags
{
    /// <summary>The RFLAGS bits of a set; x87 condition bits are dropped.</summary>
    public static ulong ToRflags(Bits set)
    {
        ulong flags = 0;
        flags |= (set & Bits.CF) != 0 ? RflagsBits.CF : 0;
        flags |= (set & Bits.PF) != 0 ? RflagsBits.PF : 0;
        flags |= (set & Bits.AF) != 0 ? RflagsBits.AF : 0;
        flags |= (set & Bits.ZF) != 0 ? RflagsBits.ZF : 0;
        flags |= (set & Bits.SF) != 0 ? RflagsBits.SF : 0;
        flags |= (set & Bits.OF) != 0 ? RflagsBits.OF : 0;
        flags |= (set & Bits.DF) != 0 ? RflagsBits.DF : 0;
        flags |= (set & Bits.IF) != 0 ? RflagsBits.IF : 0;
        flags |= (set & Bits.AC) != 0 ? RflagsBits.AC : 0;
        return flags;
    }
}
