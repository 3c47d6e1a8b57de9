using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>SHL (also as SAL, /6), SHR, SAR, SHLD and SHRD. A masked count of 0 changes no flag; any other sets CF, ZF, SF and PF by the result.</summary>
/// <remarks>
/// Undefined are AF, OF for counts other than 1, CF of SHL and SHR for counts of the width and above, and for SHLD and SHRD of 16 bits by more than 16 everything. The model clears AF and otherwise
/// shifts bit by bit, so that CF and OF are those of the last step; SHLD and SHRD go on with the destination's own bits after the source's.
/// </remarks>
internal static unsafe class Shifts
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        Group<ShiftLeft>(table, Code.Shl_rm8_imm8, Code.Shl_rm16_imm8, Code.Shl_rm8_1, Code.Shl_rm16_1, Code.Shl_rm8_CL, Code.Shl_rm16_CL);
        Group<ShiftLeft>(table, Code.Sal_rm8_imm8, Code.Sal_rm16_imm8, Code.Sal_rm8_1, Code.Sal_rm16_1, Code.Sal_rm8_CL, Code.Sal_rm16_CL);
        Group<ShiftRight>(table, Code.Shr_rm8_imm8, Code.Shr_rm16_imm8, Code.Shr_rm8_1, Code.Shr_rm16_1, Code.Shr_rm8_CL, Code.Shr_rm16_CL);
        Group<ShiftArithmeticRight>(table, Code.Sar_rm8_imm8, Code.Sar_rm16_imm8, Code.Sar_rm8_1, Code.Sar_rm16_1, Code.Sar_rm8_CL, Code.Sar_rm16_CL);
        DoubleGroup<ShiftLeftDouble>(table, Code.Shld_rm16_r16_imm8, Code.Shld_rm16_r16_CL);
        DoubleGroup<ShiftRightDouble>(table, Code.Shrd_rm16_r16_imm8, Code.Shrd_rm16_r16_CL);
    }

    /// <summary>The twelve encodings that every shift and rotation has. In Iced's numbering the forms of 32 and 64 bits follow the one of 16.</summary>
    public static void Group<TOp>(OpTable table, Code imm8, Code imm16, Code one8, Code one16, Code cl8, Code cl16)
        where TOp : struct, IShiftOp
    {
        Immediates<TOp>(table, imm8, imm16);
        Immediates<TOp>(table, one8, one16);
        table.Add(cl8, &Shift.RegCl<TOp, byte>, &Shift.MemCl<TOp, byte>);
        table.Add(cl16, &Shift.RegCl<TOp, ushort>, &Shift.MemCl<TOp, ushort>);
        table.Add(cl16 + 1, &Shift.RegCl<TOp, uint>, &Shift.MemCl<TOp, uint>);
        table.Add(cl16 + 2, &Shift.RegCl<TOp, ulong>, &Shift.MemCl<TOp, ulong>);
    }

    private static void Immediates<TOp>(OpTable table, Code imm8, Code imm16)
        where TOp : struct, IShiftOp
    {
        table.Add(imm8, &Shift.RegImm<TOp, byte>, &Shift.MemImm<TOp, byte>);
        table.Add(imm16, &Shift.RegImm<TOp, ushort>, &Shift.MemImm<TOp, ushort>);
        table.Add(imm16 + 1, &Shift.RegImm<TOp, uint>, &Shift.MemImm<TOp, uint>);
        table.Add(imm16 + 2, &Shift.RegImm<TOp, ulong>, &Shift.MemImm<TOp, ulong>);
    }

    private static void DoubleGroup<TOp>(OpTable table, Code imm16, Code cl16)
        where TOp : struct, IDoubleShiftOp
    {
        table.Add(imm16, &DoubleShift.RegRegImm<TOp, ushort>, &DoubleShift.MemRegImm<TOp, ushort>);
        table.Add(imm16 + 1, &DoubleShift.RegRegImm<TOp, uint>, &DoubleShift.MemRegImm<TOp, uint>);
        table.Add(imm16 + 2, &DoubleShift.RegRegImm<TOp, ulong>, &DoubleShift.MemRegImm<TOp, ulong>);
        table.Add(cl16, &DoubleShift.RegRegCl<TOp, ushort>, &DoubleShift.MemRegCl<TOp, ushort>);
        table.Add(cl16 + 1, &DoubleShift.RegRegCl<TOp, uint>, &DoubleShift.MemRegCl<TOp, uint>);
        table.Add(cl16 + 2, &DoubleShift.RegRegCl<TOp, ulong>, &DoubleShift.MemRegCl<TOp, ulong>);
    }

    /// <summary>Flags of a shift whose last step lost the bit <paramref name="carry"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint FlagsOf<T>(T result, uint carry, uint overflow)
        where T : unmanaged, IBinaryInteger<T> =>
        Flags.OfResult(result) | carry | (overflow << 11);

    /// <summary>CF is the bit lost last; OF after a shift by one tells that the sign changed.</summary>
    [Spec("SDM", "vol.2B SAL/SAR/SHL/SHR")]
    [Spec("APM", "vol.3 SAL, SHL")]
    private readonly struct ShiftLeft : IShiftOp
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            ulong beforeLast = ulong.CreateTruncating(value) << (count - 1);
            uint carry = Flags.TopBit(T.CreateTruncating(beforeLast));
            T result = T.CreateTruncating(beforeLast << 1);
            status = FlagsOf(result, carry, Flags.TopBit(result) ^ carry);
            return result;
        }
    }

    /// <summary>CF is the bit lost last; OF after a shift by one is the old sign.</summary>
    [Spec("SDM", "vol.2B SAL/SAR/SHL/SHR")]
    [Spec("APM", "vol.3 SHR")]
    private readonly struct ShiftRight : IShiftOp
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            ulong beforeLast = ulong.CreateTruncating(value) >> (count - 1);
            T result = T.CreateTruncating(beforeLast >> 1);
            status = FlagsOf(result, (uint)beforeLast & 1, Flags.TopBit(T.CreateTruncating(beforeLast)));
            return result;
        }
    }

    /// <summary>CF is the bit lost last; OF after a shift by one is clear.</summary>
    [Spec("SDM", "vol.2B SAL/SAR/SHL/SHR")]
    [Spec("APM", "vol.3 SAR")]
    private readonly struct ShiftArithmeticRight : IShiftOp
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            long beforeLast = Width.Signed(value) >> (count - 1);
            T result = T.CreateTruncating(beforeLast >> 1);
            status = FlagsOf(result, (uint)beforeLast & 1, overflow: 0);
            return result;
        }
    }

    /// <summary>CF is the bit lost last; OF after a shift by one tells that the sign changed.</summary>
    [Spec("SDM", "vol.2B SHLD")]
    [Spec("APM", "vol.3 SHLD")]
    private readonly struct ShiftLeftDouble : IDoubleShiftOp
    {
        public static T Apply<T>(T value, T filler, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            Wrap(ref value, ref filler, ref count);
            ulong high = ulong.CreateTruncating(value);
            int rest = Width.Bits<T>() - count;
            T result = T.CreateTruncating((high << count) | (ulong.CreateTruncating(filler) >> rest));
            uint carry = (uint)(high >> rest) & 1;
            status = FlagsOf(result, carry, Flags.TopBit(result) ^ carry);
            return result;
        }
    }

    /// <summary>CF is the bit lost last; OF after a shift by one tells that the sign changed.</summary>
    [Spec("SDM", "vol.2B SHRD")]
    [Spec("APM", "vol.3 SHRD")]
    private readonly struct ShiftRightDouble : IDoubleShiftOp
    {
        public static T Apply<T>(T value, T filler, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            Wrap(ref value, ref filler, ref count);
            ulong low = ulong.CreateTruncating(value);
            int rest = Width.Bits<T>() - count;
            T result = T.CreateTruncating((low >> count) | (ulong.CreateTruncating(filler) << rest));
            status = FlagsOf(result, (uint)(low >> (count - 1)) & 1, Flags.TopBit(result ^ (result << 1)));
            return result;
        }
    }

    /// <summary>A count above the width, possible for 16 bits only: the source has become the value, and the value refills it.</summary>
    private static void Wrap<T>(ref T value, ref T filler, ref int count)
        where T : unmanaged
    {
        if (count > Width.Bits<T>())
        {
            (value, filler) = (filler, value);
            count -= Width.Bits<T>();
        }
    }
}
