using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG and NOT: integer arithmetic and logic with all status flags.</summary>
/// <remarks>AF is undefined after AND, OR, XOR and TEST; the model clears it.</remarks>
internal static unsafe class Arithmetic
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        Group<Add>(table, Code.Add_rm8_r8, Code.Add_rm8_imm8, Code.Add_rm16_imm16, Code.Add_rm32_imm32, Code.Add_rm64_imm32, Code.Add_rm8_imm8_82, Code.Add_rm16_imm8, Code.Add_rm32_imm8, Code.Add_rm64_imm8);
        Group<Or>(table, Code.Or_rm8_r8, Code.Or_rm8_imm8, Code.Or_rm16_imm16, Code.Or_rm32_imm32, Code.Or_rm64_imm32, Code.Or_rm8_imm8_82, Code.Or_rm16_imm8, Code.Or_rm32_imm8, Code.Or_rm64_imm8);
        Group<Adc>(table, Code.Adc_rm8_r8, Code.Adc_rm8_imm8, Code.Adc_rm16_imm16, Code.Adc_rm32_imm32, Code.Adc_rm64_imm32, Code.Adc_rm8_imm8_82, Code.Adc_rm16_imm8, Code.Adc_rm32_imm8, Code.Adc_rm64_imm8);
        Group<Sbb>(table, Code.Sbb_rm8_r8, Code.Sbb_rm8_imm8, Code.Sbb_rm16_imm16, Code.Sbb_rm32_imm32, Code.Sbb_rm64_imm32, Code.Sbb_rm8_imm8_82, Code.Sbb_rm16_imm8, Code.Sbb_rm32_imm8, Code.Sbb_rm64_imm8);
        Group<And>(table, Code.And_rm8_r8, Code.And_rm8_imm8, Code.And_rm16_imm16, Code.And_rm32_imm32, Code.And_rm64_imm32, Code.And_rm8_imm8_82, Code.And_rm16_imm8, Code.And_rm32_imm8, Code.And_rm64_imm8);
        Group<Sub>(table, Code.Sub_rm8_r8, Code.Sub_rm8_imm8, Code.Sub_rm16_imm16, Code.Sub_rm32_imm32, Code.Sub_rm64_imm32, Code.Sub_rm8_imm8_82, Code.Sub_rm16_imm8, Code.Sub_rm32_imm8, Code.Sub_rm64_imm8);
        Group<Xor>(table, Code.Xor_rm8_r8, Code.Xor_rm8_imm8, Code.Xor_rm16_imm16, Code.Xor_rm32_imm32, Code.Xor_rm64_imm32, Code.Xor_rm8_imm8_82, Code.Xor_rm16_imm8, Code.Xor_rm32_imm8, Code.Xor_rm64_imm8);
        Group<Cmp>(table, Code.Cmp_rm8_r8, Code.Cmp_rm8_imm8, Code.Cmp_rm16_imm16, Code.Cmp_rm32_imm32, Code.Cmp_rm64_imm32, Code.Cmp_rm8_imm8_82, Code.Cmp_rm16_imm8, Code.Cmp_rm32_imm8, Code.Cmp_rm64_imm8);

        table.Add(Code.Test_rm8_r8, &Binary.RegReg<Test, byte>, &Binary.MemReg<Test, byte>);
        table.Add(Code.Test_rm16_r16, &Binary.RegReg<Test, ushort>, &Binary.MemReg<Test, ushort>);
        table.Add(Code.Test_rm32_r32, &Binary.RegReg<Test, uint>, &Binary.MemReg<Test, uint>);
        table.Add(Code.Test_rm64_r64, &Binary.RegReg<Test, ulong>, &Binary.MemReg<Test, ulong>);
        table.Add(Code.Test_AL_imm8, &Binary.RegImm<Test, byte>);
        table.Add(Code.Test_AX_imm16, &Binary.RegImm<Test, ushort>);
        table.Add(Code.Test_EAX_imm32, &Binary.RegImm<Test, uint>);
        table.Add(Code.Test_RAX_imm32, &Binary.RegImm<Test, ulong>);
        Immediates<Test, byte>(table, Code.Test_rm8_imm8, Code.Test_rm8_imm8_F6r1);
        Immediates<Test, ushort>(table, Code.Test_rm16_imm16, Code.Test_rm16_imm16_F7r1);
        Immediates<Test, uint>(table, Code.Test_rm32_imm32, Code.Test_rm32_imm32_F7r1);
        Immediates<Test, ulong>(table, Code.Test_rm64_imm32, Code.Test_rm64_imm32_F7r1);

        OneOperand<Increment>(table, Code.Inc_rm8, Code.Inc_rm16, Code.Inc_rm32, Code.Inc_rm64);
        OneOperand<Decrement>(table, Code.Dec_rm8, Code.Dec_rm16, Code.Dec_rm32, Code.Dec_rm64);
        OneOperand<Negate>(table, Code.Neg_rm8, Code.Neg_rm16, Code.Neg_rm32, Code.Neg_rm64);
        OneOperand<Not>(table, Code.Not_rm8, Code.Not_rm16, Code.Not_rm32, Code.Not_rm64);
        table.Add(Code.Inc_r16, &Unary.Reg<Increment, ushort>);
        table.Add(Code.Inc_r32, &Unary.Reg<Increment, uint>);
        table.Add(Code.Dec_r16, &Unary.Reg<Decrement, ushort>);
        table.Add(Code.Dec_r32, &Unary.Reg<Decrement, uint>);
    }

    /// <summary>The seventeen encodings that ADD and its seven sisters share. The twelve from opcodes 00 to 05 follow each other in Iced's numbering.</summary>
    private static void Group<TOp>(OpTable table, Code first, Code imm8, Code imm16, Code imm32, Code imm64, Code imm8At82, Code short16, Code short32, Code short64)
        where TOp : struct, IBinaryOp
    {
        table.Add(first, &Binary.RegReg<TOp, byte>, &Binary.MemReg<TOp, byte>);
        table.Add(first + 1, &Binary.RegReg<TOp, ushort>, &Binary.MemReg<TOp, ushort>);
        table.Add(first + 2, &Binary.RegReg<TOp, uint>, &Binary.MemReg<TOp, uint>);
        table.Add(first + 3, &Binary.RegReg<TOp, ulong>, &Binary.MemReg<TOp, ulong>);
        table.Add(first + 4, &Binary.RegReg<TOp, byte>, &Binary.RegMem<TOp, byte>);
        table.Add(first + 5, &Binary.RegReg<TOp, ushort>, &Binary.RegMem<TOp, ushort>);
        table.Add(first + 6, &Binary.RegReg<TOp, uint>, &Binary.RegMem<TOp, uint>);
        table.Add(first + 7, &Binary.RegReg<TOp, ulong>, &Binary.RegMem<TOp, ulong>);
        table.Add(first + 8, &Binary.RegImm<TOp, byte>);
        table.Add(first + 9, &Binary.RegImm<TOp, ushort>);
        table.Add(first + 10, &Binary.RegImm<TOp, uint>);
        table.Add(first + 11, &Binary.RegImm<TOp, ulong>);
        Immediates<TOp, byte>(table, imm8, imm8At82);
        Immediates<TOp, ushort>(table, imm16, short16);
        Immediates<TOp, uint>(table, imm32, short32);
        Immediates<TOp, ulong>(table, imm64, short64);
    }

    private static void Immediates<TOp, T>(OpTable table, Code one, Code other)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        table.Add(one, &Binary.RegImm<TOp, T>, &Binary.MemImm<TOp, T>);
        table.Add(other, &Binary.RegImm<TOp, T>, &Binary.MemImm<TOp, T>);
    }

    private static void OneOperand<TOp>(OpTable table, Code rm8, Code rm16, Code rm32, Code rm64)
        where TOp : struct, IUnaryOp
    {
        table.Add(rm8, &Unary.Reg<TOp, byte>, &Unary.Mem<TOp, byte>);
        table.Add(rm16, &Unary.Reg<TOp, ushort>, &Unary.Mem<TOp, ushort>);
        table.Add(rm32, &Unary.Reg<TOp, uint>, &Unary.Mem<TOp, uint>);
        table.Add(rm64, &Unary.Reg<TOp, ulong>, &Unary.Mem<TOp, ulong>);
    }

    [Spec("SDM", "vol.2A ADD")]
    private readonly struct Add : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = unchecked(a + b);
            status = Flags.OfSum(a, b, result, carry: result < a);
            return result;
        }
    }

    [Spec("SDM", "vol.2A ADC")]
    private readonly struct Adc : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T partial = unchecked(a + b);
            T result = unchecked(partial + T.CreateTruncating(status & Flags.Carry));
            status = Flags.OfSum(a, b, result, carry: partial < a || result < partial);
            return result;
        }
    }

    [Spec("SDM", "vol.2B SUB")]
    private readonly struct Sub : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = unchecked(a - b);
            status = Flags.OfDifference(a, b, result, borrow: a < b);
            return result;
        }
    }

    [Spec("SDM", "vol.2B SBB")]
    private readonly struct Sbb : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T partial = unchecked(a - b);
            T result = unchecked(partial - T.CreateTruncating(status & Flags.Carry));
            status = Flags.OfDifference(a, b, result, borrow: a < b || partial < result);
            return result;
        }
    }

    [Spec("SDM", "vol.2A CMP")]
    private readonly struct Cmp : IBinaryOp
    {
        public static bool WritesDestination => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            Sub.Apply(a, b, ref status);
    }

    [Spec("SDM", "vol.2A AND")]
    private readonly struct And : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = a & b;
            status = Flags.OfResult(result);
            return result;
        }
    }

    [Spec("SDM", "vol.2B TEST")]
    private readonly struct Test : IBinaryOp
    {
        public static bool WritesDestination => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            And.Apply(a, b, ref status);
    }

    [Spec("SDM", "vol.2B OR")]
    private readonly struct Or : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = a | b;
            status = Flags.OfResult(result);
            return result;
        }
    }

    [Spec("SDM", "vol.2C XOR")]
    private readonly struct Xor : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = a ^ b;
            status = Flags.OfResult(result);
            return result;
        }
    }

    /// <summary>INC keeps CF.</summary>
    [Spec("SDM", "vol.2A INC")]
    private readonly struct Increment : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = unchecked(a + T.One);
            status = Flags.OfSum(a, T.One, result, carry: (status & Flags.Carry) != 0);
            return result;
        }
    }

    /// <summary>DEC keeps CF.</summary>
    [Spec("SDM", "vol.2A DEC")]
    private readonly struct Decrement : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = unchecked(a - T.One);
            status = Flags.OfDifference(a, T.One, result, borrow: (status & Flags.Carry) != 0);
            return result;
        }
    }

    [Spec("SDM", "vol.2B NEG")]
    private readonly struct Negate : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = unchecked(T.Zero - a);
            status = Flags.OfDifference(T.Zero, a, result, borrow: a != T.Zero);
            return result;
        }
    }

    /// <summary>NOT changes no flag.</summary>
    [Spec("SDM", "vol.2B NOT")]
    private readonly struct Not : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            ~a;
    }
}
