using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>ROL, ROR, RCL and RCR. They change CF and OF only, and neither when the masked count is 0.</summary>
/// <remarks>OF is undefined for counts other than 1; the model rotates bit by bit, so that OF is that of the last step.</remarks>
// SAFETY: only addresses of managed static methods are taken.
internal static unsafe class Rotates
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        Shifts.Group<RotateLeft>(table, Code.Rol_rm8_imm8, Code.Rol_rm16_imm8, Code.Rol_rm8_1, Code.Rol_rm16_1, Code.Rol_rm8_CL, Code.Rol_rm16_CL);
        Shifts.Group<RotateRight>(table, Code.Ror_rm8_imm8, Code.Ror_rm16_imm8, Code.Ror_rm8_1, Code.Ror_rm16_1, Code.Ror_rm8_CL, Code.Ror_rm16_CL);
        Shifts.Group<RotateCarryLeft>(table, Code.Rcl_rm8_imm8, Code.Rcl_rm16_imm8, Code.Rcl_rm8_1, Code.Rcl_rm16_1, Code.Rcl_rm8_CL, Code.Rcl_rm16_CL);
        Shifts.Group<RotateCarryRight>(table, Code.Rcr_rm8_imm8, Code.Rcr_rm16_imm8, Code.Rcr_rm8_1, Code.Rcr_rm16_1, Code.Rcr_rm8_CL, Code.Rcr_rm16_CL);
    }

    /// <summary>The flags with CF and OF replaced.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint With(uint status, uint carry, uint overflow) => (status & ~(Flags.Carry | Flags.Overflow)) | carry | (overflow << 11);

    /// <summary>CF is the bit that came round to the bottom, even when a multiple of the width left the value as it was.</summary>
    [Spec("SDM", "vol.2B RCL/RCR/ROL/ROR")]
    [Spec("APM", "vol.3 ROL")]
    private readonly struct RotateLeft : IShiftOp
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.RotateLeft(value, count);
            uint carry = uint.CreateTruncating(result) & 1;
            status = With(status, carry, Flags.TopBit(result) ^ carry);
            return result;
        }
    }

    /// <summary>CF is the bit that came round to the top; OF after a rotation by one is the exclusive or of the two top bits.</summary>
    [Spec("SDM", "vol.2B RCL/RCR/ROL/ROR")]
    [Spec("APM", "vol.3 ROR")]
    private readonly struct RotateRight : IShiftOp
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.RotateRight(value, count);
            status = With(status, Flags.TopBit(result), Flags.TopBit(result ^ (result << 1)));
            return result;
        }
    }

    /// <summary>Rotates CF and the value as one number, so counts go modulo 9 and 17 for 8 and 16 bits.</summary>
    [Spec("SDM", "vol.2B RCL/RCR/ROL/ROR")]
    [Spec("APM", "vol.3 RCL")]
    private readonly struct RotateCarryLeft : IShiftOp
    {
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            int left = count % (Width.Bits<T>() + 1);
            if (left == 0)
            {
                return value;
            }

            // The shift by (width + 1 - left) is done in two parts because it may be 64.
            ulong bits = ulong.CreateTruncating(value);
            int rest = Width.Bits<T>() - left;
            ulong carryIn = status & Flags.Carry;
            T result = T.CreateTruncating((bits << left) | (carryIn << (left - 1)) | (bits >> 1 >> rest));
            uint carry = (uint)(bits >> rest) & 1;
            status = With(status, carry, Flags.TopBit(result) ^ carry);
            return result;
        }
    }

    /// <summary>Rotates CF and the value as one number; OF after a rotation by one is the exclusive or of the two top bits.</summary>
    [Spec("SDM", "vol.2B RCL/RCR/ROL/ROR")]
    [Spec("APM", "vol.3 RCR")]
    private readonly struct RotateCarryRight : IShiftOp
    {
        public static T Apply<T>(T value, int count, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            int right = count % (Width.Bits<T>() + 1);
            if (right == 0)
            {
                return value;
            }

            ulong bits = ulong.CreateTruncating(value);
            int rest = Width.Bits<T>() - right;
            ulong carryIn = status & Flags.Carry;
            T result = T.CreateTruncating((bits >> right) | (carryIn << rest) | (bits << 1 << rest));
            status = With(status, (uint)(bits >> (right - 1)) & 1, Flags.TopBit(result ^ (result << 1)));
            return result;
        }
    }
}
