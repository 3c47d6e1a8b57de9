using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>MUL, IMUL with one, two or three operands, DIV and IDIV. Multiplications set CF and OF when the upper half matters; divisions define no flag.</summary>
/// <remarks>
/// The one-operand forms work on a pair of registers: AH:AL for 8 bits, else rDX:rAX. Undefined flags (SF, ZF, AF and PF after a multiplication, all six after a
/// division) keep their value.
/// </remarks>
internal static unsafe class MultiplyDivide
{
    /// <summary>Works on the register pair and one source; may raise #DE.</summary>
    private interface IPairOp
    {
        /// <summary>Computes and commits.</summary>
        static abstract void Apply<T>(ref CpuState cpu, T source)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
    }

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        Group<Multiply>(table, Code.Mul_rm8, Code.Mul_rm16);
        Group<MultiplySigned>(table, Code.Imul_rm8, Code.Imul_rm16);
        Group<Divide>(table, Code.Div_rm8, Code.Div_rm16);
        Group<DivideSigned>(table, Code.Idiv_rm8, Code.Idiv_rm16);
        table.Add(Code.Imul_r16_rm16, &Binary.RegReg<MultiplyLow, ushort>, &Binary.RegMem<MultiplyLow, ushort>);
        table.Add(Code.Imul_r32_rm32, &Binary.RegReg<MultiplyLow, uint>, &Binary.RegMem<MultiplyLow, uint>);
        table.Add(Code.Imul_r64_rm64, &Binary.RegReg<MultiplyLow, ulong>, &Binary.RegMem<MultiplyLow, ulong>);
        Immediates<ushort>(table, Code.Imul_r16_rm16_imm16, Code.Imul_r16_rm16_imm8);
        Immediates<uint>(table, Code.Imul_r32_rm32_imm32, Code.Imul_r32_rm32_imm8);
        Immediates<ulong>(table, Code.Imul_r64_rm64_imm32, Code.Imul_r64_rm64_imm8);
    }

    /// <summary>The unsigned product.</summary>
    /// <returns>Its lower half.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Product<T>(T a, T b, out T high)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (Unsafe.SizeOf<T>() == sizeof(ulong))
        {
            high = T.CreateTruncating(Math.BigMul(ulong.CreateTruncating(a), ulong.CreateTruncating(b), out ulong low));
            return T.CreateTruncating(low);
        }

        ulong product = ulong.CreateTruncating(a) * ulong.CreateTruncating(b);
        high = T.CreateTruncating(product >> Width.Bits<T>());
        return T.CreateTruncating(product);
    }

    /// <summary>The four widths of a one-operand form. In Iced's numbering the forms of 32 and 64 bits follow the one of 16.</summary>
    private static void Group<TOp>(OpTable table, Code rm8, Code rm16)
        where TOp : struct, IPairOp
    {
        table.Add(rm8, &Reg<TOp, byte>, &Mem<TOp, byte>);
        table.Add(rm16, &Reg<TOp, ushort>, &Mem<TOp, ushort>);
        table.Add(rm16 + 1, &Reg<TOp, uint>, &Mem<TOp, uint>);
        table.Add(rm16 + 2, &Reg<TOp, ulong>, &Mem<TOp, ulong>);
    }

    private static void Immediates<T>(OpTable table, Code full, Code short8)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        table.Add(full, &ThreeOperand.RegRegImm<MultiplyLow, T>, &ThreeOperand.RegMemImm<MultiplyLow, T>);
        table.Add(short8, &ThreeOperand.RegRegImm<MultiplyLow, T>, &ThreeOperand.RegMemImm<MultiplyLow, T>);
    }

    private static void Reg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IPairOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        TOp.Apply(ref cpu, cpu.Read<T>(op.Destination));

    private static void Mem<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IPairOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            TOp.Apply(ref cpu, source);
        }
    }

    /// <summary>Register of the upper half of the pair.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte Upper<T>()
        where T : unmanaged =>
        Unsafe.SizeOf<T>() == 1 ? Gpr.Ah : Gpr.Rdx;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint With(uint status, bool upperMatters) =>
        upperMatters ? status | Flags.Carry | Flags.Overflow : status & ~(Flags.Carry | Flags.Overflow);

    /// <summary>The signed product: the unsigned one, less the other factor shifted up for each negative factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T SignedProduct<T>(T a, T b, out T high)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T low = Product(a, b, out high);
        T correction = unchecked((IsNegative(a) ? b : T.Zero) + (IsNegative(b) ? a : T.Zero));
        high = unchecked(high - correction);
        return low;
    }

    /// <summary>True when a product does not fit into its lower half as a signed number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Overflows<T>(T high, T low)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        high != (IsNegative(low) ? ~T.Zero : T.Zero);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsNegative<T>(T value)
        where T : unmanaged, IBinaryInteger<T> =>
        Flags.TopBit(value) != 0;

    /// <summary>Divides a double-width number.</summary>
    /// <returns>False when the divisor is 0 or the quotient does not fit, which is one test: the upper half is not below the divisor.</returns>
    private static bool TryDivide<T>(T high, T low, T divisor, out T quotient, out T remainder)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (high >= divisor)
        {
            quotient = T.Zero;
            remainder = T.Zero;
            return false;
        }

        if (Unsafe.SizeOf<T>() == sizeof(ulong))
        {
            UInt128 dividend = new(ulong.CreateTruncating(high), ulong.CreateTruncating(low));
            quotient = T.CreateTruncating(dividend / ulong.CreateTruncating(divisor));
        }
        else
        {
            ulong dividend = (ulong.CreateTruncating(high) << Width.Bits<T>()) | ulong.CreateTruncating(low);
            quotient = T.CreateTruncating(dividend / ulong.CreateTruncating(divisor));
        }

        remainder = unchecked(low - (quotient * divisor));
        return true;
    }

    [Spec("SDM", "vol.2B MUL")]
    [Spec("APM", "vol.3 MUL")]
    private readonly struct Multiply : IPairOp
    {
        public static void Apply<T>(ref CpuState cpu, T source)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T low = Product(cpu.Read<T>(Gpr.Rax), source, out T high);
            cpu.Status = With(cpu.Status, high != T.Zero);
            cpu.Write(Gpr.Rax, low);
            cpu.Write(Upper<T>(), high);
        }
    }

    [Spec("SDM", "vol.2A IMUL (one-operand form)")]
    [Spec("APM", "vol.3 IMUL")]
    private readonly struct MultiplySigned : IPairOp
    {
        public static void Apply<T>(ref CpuState cpu, T source)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T low = SignedProduct(cpu.Read<T>(Gpr.Rax), source, out T high);
            cpu.Status = With(cpu.Status, Overflows(high, low));
            cpu.Write(Gpr.Rax, low);
            cpu.Write(Upper<T>(), high);
        }
    }

    [Spec("SDM", "vol.2A IMUL (two- and three-operand forms)")]
    [Spec("APM", "vol.3 IMUL")]
    private readonly struct MultiplyLow : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T low = SignedProduct(a, b, out T high);
            status = With(status, Overflows(high, low));
            return low;
        }
    }

    [Spec("SDM", "vol.2A DIV; vol.3A 6.15 Interrupt 0, Divide Error Exception (#DE)")]
    [Spec("APM", "vol.3 DIV")]
    private readonly struct Divide : IPairOp
    {
        public static void Apply<T>(ref CpuState cpu, T source)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            if (!TryDivide(cpu.Read<T>(Upper<T>()), cpu.Read<T>(Gpr.Rax), source, out T quotient, out T remainder))
            {
                cpu.Raise(0);
                return;
            }

            cpu.Write(Gpr.Rax, quotient);
            cpu.Write(Upper<T>(), remainder);
        }
    }

    /// <summary>Divides magnitudes. The quotient is truncated towards zero and the remainder has the dividend's sign.</summary>
    [Spec("SDM", "vol.2A IDIV; vol.3A 6.15 Interrupt 0, Divide Error Exception (#DE)")]
    [Spec("APM", "vol.3 IDIV")]
    private readonly struct DivideSigned : IPairOp
    {
        public static void Apply<T>(ref CpuState cpu, T source)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T high = cpu.Read<T>(Upper<T>());
            T low = cpu.Read<T>(Gpr.Rax);
            bool negativeDividend = IsNegative(high);
            bool negativeQuotient = negativeDividend != IsNegative(source);
            if (negativeDividend)
            {
                high = unchecked(~high + (low == T.Zero ? T.One : T.Zero));
                low = unchecked(T.Zero - low);
            }

            T divisor = IsNegative(source) ? unchecked(T.Zero - source) : source;
            T minimum = T.One << (Width.Bits<T>() - 1);
            if (!TryDivide(high, low, divisor, out T quotient, out T remainder) || quotient > minimum || (quotient == minimum && !negativeQuotient))
            {
                cpu.Raise(0);
                return;
            }

            cpu.Write(Gpr.Rax, negativeQuotient ? unchecked(T.Zero - quotient) : quotient);
            cpu.Write(Upper<T>(), negativeDividend ? unchecked(T.Zero - remainder) : remainder);
        }
    }
}
