using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Isa;

/// <summary>Everything that the manuals leave undefined for the countable forms. Generator, masks and documentation read this one table.</summary>
/// <remarks>SDM: Intel, 325383 (volume 2). APM: AMD, 24594 (volume 3). Both name the instruction's own page.</remarks>
public static class UndefinedTable
{
    private const ulong Af = AF;
    private const ulong SignParityAdjust = SF | PF | AF;

    /// <summary>All rows.</summary>
    public static ImmutableArray<UndefinedRow> Rows { get; } =
    [
        new("logic-af", [Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Test], UndefinedCondition.Always, Af, "SDM vol.2 AND, OR, XOR, TEST: Flags Affected; APM vol.3 AND, OR, XOR, TEST: rFLAGS Affected"),
        new("shift-af", [Mnemonic.Shl, Mnemonic.Sal, Mnemonic.Shr, Mnemonic.Sar], UndefinedCondition.CountNotZero, Af, "SDM vol.2 SAL/SAR/SHL/SHR: Flags Affected; APM vol.3 SAL, SHL, SHR, SAR: rFLAGS Affected"),
        new("shift-of", [Mnemonic.Shl, Mnemonic.Sal, Mnemonic.Shr, Mnemonic.Sar], UndefinedCondition.CountAboveOne, OF, "SDM vol.2 SAL/SAR/SHL/SHR: the OF flag is affected only on 1-bit shifts; APM vol.3 SAL, SHL, SHR, SAR"),
        new("shift-cf", [Mnemonic.Shl, Mnemonic.Sal, Mnemonic.Shr], UndefinedCondition.CountReachesSize, CF, "SDM vol.2 SAL/SAR/SHL/SHR: CF is undefined where the count is greater than or equal to the size of the destination"),
        new("rotate-of", [Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Rcr], UndefinedCondition.CountAboveOne, OF, "SDM vol.2 RCL/RCR/ROL/ROR: the OF flag is defined only for 1-bit rotates; APM vol.3 RCL, RCR, ROL, ROR"),
        new("double-shift-af", [Mnemonic.Shld, Mnemonic.Shrd], UndefinedCondition.CountNotZero, Af, "SDM vol.2 SHLD, SHRD: Flags Affected; APM vol.3 SHLD, SHRD: rFLAGS Affected"),
        new("double-shift-of", [Mnemonic.Shld, Mnemonic.Shrd], UndefinedCondition.CountAboveOne, OF, "SDM vol.2 SHLD, SHRD: for shifts greater than 1 bit the OF flag is undefined; APM vol.3 SHLD, SHRD"),
        new(
            "double-shift-past-size",
            [Mnemonic.Shld, Mnemonic.Shrd],
            UndefinedCondition.CountAboveSize,
            Status,
            "SDM vol.2 SHLD, SHRD: if the count is greater than the operand size, the result in the destination operand and the flags are undefined; APM vol.3 SHLD, SHRD",
            UndefinedTarget.Destination),
        new("multiply-flags", [Mnemonic.Mul, Mnemonic.Imul], UndefinedCondition.Always, SF | ZF | AF | PF, "SDM vol.2 MUL, IMUL: Flags Affected; APM vol.3 MUL, IMUL: rFLAGS Affected"),
        new("divide-flags", [Mnemonic.Div, Mnemonic.Idiv], UndefinedCondition.Always, Status, "SDM vol.2 DIV, IDIV: Flags Affected; APM vol.3 DIV, IDIV: rFLAGS Affected"),
        new("bit-test-flags", [Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc], UndefinedCondition.Always, OF | SignParityAdjust, "SDM vol.2 BT, BTS, BTR, BTC: Flags Affected; APM vol.3 BT, BTS, BTR, BTC"),
        new("bit-scan-flags", [Mnemonic.Bsf, Mnemonic.Bsr], UndefinedCondition.Always, CF | OF | SignParityAdjust, "SDM vol.2 BSF, BSR: Flags Affected; APM vol.3 BSF, BSR: rFLAGS Affected"),
        new(
            "bit-scan-zero",
            [Mnemonic.Bsf, Mnemonic.Bsr],
            UndefinedCondition.SourceZero,
            0,
            "SDM vol.2 BSF, BSR: if the content of the source operand is 0, the content of the destination operand is undefined; APM vol.3 says unchanged",
            UndefinedTarget.Destination,
            CpuVendor.Intel),
        new("zero-count-flags", [Mnemonic.Lzcnt, Mnemonic.Tzcnt], UndefinedCondition.Always, OF | SignParityAdjust, "SDM vol.2 LZCNT, TZCNT: Flags Affected; APM vol.3 LZCNT, TZCNT: rFLAGS Affected"),
        new(
            "bmi-af-pf",
            [
                Mnemonic.Andn, Mnemonic.Blsr, Mnemonic.Blsmsk, Mnemonic.Blsi, Mnemonic.Bzhi, Mnemonic.Blcfill, Mnemonic.Blsfill, Mnemonic.Blcs, Mnemonic.Tzmsk, Mnemonic.Blcic,
                Mnemonic.Blsic, Mnemonic.T1mskc, Mnemonic.Blcmsk, Mnemonic.Blci,
            ],
            UndefinedCondition.Always,
            AF | PF,
            "SDM vol.2 ANDN, BLSI, BLSMSK, BLSR, BZHI: Flags Affected; APM vol.3 the same and BLCFILL to TZMSK: rFLAGS Affected"),
        new("bextr-flags", [Mnemonic.Bextr], UndefinedCondition.Always, SignParityAdjust, "SDM vol.2 BEXTR: Flags Affected; APM vol.3 BEXTR: rFLAGS Affected"),
        new("ascii-multiply-flags", [Mnemonic.Aam, Mnemonic.Aad], UndefinedCondition.Always, OF | AF | CF, "SDM vol.2 AAM, AAD: Flags Affected; APM vol.3 AAM, AAD: rFLAGS Affected"),
        new("ascii-add-flags", [Mnemonic.Aaa, Mnemonic.Aas], UndefinedCondition.Always, OF | SF | ZF | PF, "SDM vol.2 AAA, AAS: Flags Affected; APM vol.3 AAA, AAS: rFLAGS Affected"),
        new(
            "repeat-prefix-on-loop",
            [Mnemonic.Loope, Mnemonic.Loopne],
            UndefinedCondition.RepeatPrefix,
            0,
            "SDM vol.2A 2.1.1: repeat prefixes with other than string instructions are reserved and may cause unpredictable behavior; APM vol.3 1.2.6",
            UndefinedTarget.Everything),
        new("decimal-of", [Mnemonic.Daa, Mnemonic.Das], UndefinedCondition.Always, OF, "SDM vol.2 DAA, DAS: Flags Affected; APM vol.3 DAA, DAS: rFLAGS Affected"),
        new(
            "bswap-16",
            [Mnemonic.Bswap],
            UndefinedCondition.Always,
            0,
            "SDM vol.2 BSWAP: when the BSWAP instruction references a 16-bit register, the result is undefined; APM vol.3 BSWAP",
            UndefinedTarget.Destination,
            OperandBits: 16),
        new(
            "partial-writes",
            [Mnemonic.Enter, Mnemonic.Pusha, Mnemonic.Pushad, Mnemonic.Call],
            UndefinedCondition.Faulted,
            0,
            "SDM vol.3 7.5 (restartability says nothing of memory below the stack pointer): an instruction that writes several items and faults on a later one may have written the earlier; APM vol.2 8.1.2",
            UndefinedTarget.Memory),
    ];
}
