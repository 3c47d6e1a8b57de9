using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>BMI1, BMI2 and ADX: ANDN, BEXTR, BLSI, BLSMSK, BLSR, BZHI, MULX, PDEP, PEXT, RORX, SARX, SHLX, SHRX, ADCX and ADOX.</summary>
/// <remarks>
/// ANDN, BEXTR, BLS* and BZHI define CF, ZF, OF and (except BEXTR) SF; AF, PF and SF of BEXTR are undefined and keep their value. ADCX changes CF only, ADOX OF only, the
/// others nothing. Widths are 32 and 64 bits; in Iced's numbering the form of 64 follows the one of 32. TBM, which no processor with a current profile has, is #UD.
/// </remarks>
internal static unsafe class Bmi
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        RegisterMemory<AndNot>(table, Code.VEX_Andn_r32_r32_rm32);
        RegisterMemory<Deposit>(table, Code.VEX_Pdep_r32_r32_rm32);
        RegisterMemory<Extract>(table, Code.VEX_Pext_r32_r32_rm32);
        MemoryRegister<BitField>(table, Code.VEX_Bextr_r32_rm32_r32);
        MemoryRegister<ZeroHighBits>(table, Code.VEX_Bzhi_r32_rm32_r32);
        MemoryRegister<ShiftArithmeticRight>(table, Code.VEX_Sarx_r32_rm32_r32);
        MemoryRegister<ShiftLeft>(table, Code.VEX_Shlx_r32_rm32_r32);
        MemoryRegister<ShiftRight>(table, Code.VEX_Shrx_r32_rm32_r32);
        OneSource<IsolateLowest>(table, Code.VEX_Blsi_r32_rm32);
        OneSource<MaskToLowest>(table, Code.VEX_Blsmsk_r32_rm32);
        OneSource<ResetLowest>(table, Code.VEX_Blsr_r32_rm32);
        table.Add(Code.VEX_Rorx_r32_rm32_imm8, &ThreeOperand.RegRegImm<RotateRight, uint>, &ThreeOperand.RegMemImm<RotateRight, uint>);
        table.Add(Code.VEX_Rorx_r64_rm64_imm8, &ThreeOperand.RegRegImm<RotateRight, ulong>, &ThreeOperand.RegMemImm<RotateRight, ulong>);
        table.Add(Code.VEX_Mulx_r32_r32_rm32, &MultiplyRegister<uint>, &MultiplyMemory<uint>);
        table.Add(Code.VEX_Mulx_r64_r64_rm64, &MultiplyRegister<ulong>, &MultiplyMemory<ulong>);
        table.Add(Code.Adcx_r32_rm32, &Binary.RegReg<AddWithCarry, uint>, &Binary.RegMem<AddWithCarry, uint>);
        table.Add(Code.Adcx_r64_rm64, &Binary.RegReg<AddWithCarry, ulong>, &Binary.RegMem<AddWithCarry, ulong>);
        table.Add(Code.Adox_r32_rm32, &Binary.RegReg<AddWithOverflow, uint>, &Binary.RegMem<AddWithOverflow, uint>);
        table.Add(Code.Adox_r64_rm64, &Binary.RegReg<AddWithOverflow, ulong>, &Binary.RegMem<AddWithOverflow, ulong>);
        for (Code tbm = Code.XOP_Blcfill_r32_rm32; tbm <= Code.XOP_Blci_r64_rm64; tbm++)
        {
            table.Add(tbm, &OpTable.Undefined);
        }

        table.Add(Code.XOP_Bextr_r32_rm32_imm32, &OpTable.Undefined);
        table.Add(Code.XOP_Bextr_r64_rm64_imm32, &OpTable.Undefined);
    }

    private static void RegisterMemory<TOp>(OpTable table, Code form32)
        where TOp : struct, IBinaryOp
    {
        table.Add(form32, &ThreeOperand.RegRegReg<TOp, uint>, &ThreeOperand.RegRegMem<TOp, uint>);
        table.Add(form32 + 1, &ThreeOperand.RegRegReg<TOp, ulong>, &ThreeOperand.RegRegMem<TOp, ulong>);
    }

    private static void MemoryRegister<TOp>(OpTable table, Code form32)
        where TOp : struct, IBinaryOp
    {
        table.Add(form32, &ThreeOperand.RegRegReg<TOp, uint>, &ThreeOperand.RegMemReg<TOp, uint>);
        table.Add(form32 + 1, &ThreeOperand.RegRegReg<TOp, ulong>, &ThreeOperand.RegMemReg<TOp, ulong>);
    }

    private static void OneSource<TOp>(OpTable table, Code form32)
        where TOp : struct, IUnaryOp
    {
        table.Add(form32, &Transfer.RegReg<TOp, uint>, &Transfer.RegMem<TOp, uint>);
        table.Add(form32 + 1, &Transfer.RegReg<TOp, ulong>, &Transfer.RegMem<TOp, ulong>);
    }

    /// <summary>SF and ZF of the result, OF clear, CF as given.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint With<T>(uint status, T result, bool carry)
        where T : unmanaged, IBinaryInteger<T> =>
        (status & (Flags.Parity | Flags.Adjust)) | (Flags.OfResult(result) & (Flags.Sign | Flags.Zero)) | (carry ? Flags.Carry : 0);

    [Spec("SDM", "vol.2B MULX")]
    private static void MultiplyRegister<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Multiply(ref cpu, in op, cpu.Read<T>(op.Third));

    [Spec("SDM", "vol.2B MULX")]
    private static void MultiplyMemory<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            Multiply(ref cpu, in op, source);
        }
    }

    /// <summary>rDX times the source, high half first: when both destinations are one register, it holds the high half.</summary>
    [Spec("SDM", "vol.2B MULX")]
    [Spec("APM", "vol.3 MULX")]
    private static void Multiply<T>(ref CpuState cpu, in MicroOp op, T source)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T low = MultiplyDivide.Product(cpu.Read<T>(Gpr.Rdx), source, out T high);
        cpu.Write(op.Source, low);
        cpu.Write(op.Destination, high);
    }

    [Spec("SDM", "vol.2A ANDN")]
    [Spec("APM", "vol.3 ANDN")]
    private readonly struct AndNot : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = ~a & b;
            status = With(status, result, carry: false);
            return result;
        }
    }

    /// <summary>Bits 7:0 of the control give the first bit, bits 15:8 how many.</summary>
    [Spec("SDM", "vol.2A BEXTR")]
    [Spec("APM", "vol.3 BEXTR (register form)")]
    private readonly struct BitField : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            int start = byte.CreateTruncating(b);
            int length = byte.CreateTruncating(b >> 8);
            T shifted = start < Width.Bits<T>() ? a >> start : T.Zero;
            T result = KeepLow(shifted, length);
            status = (status & (Flags.Parity | Flags.Adjust | Flags.Sign)) | (result == T.Zero ? Flags.Zero : 0);
            return result;
        }
    }

    /// <summary>CF tells that the index exceeds the number of the top bit.</summary>
    [Spec("SDM", "vol.2A BZHI")]
    [Spec("APM", "vol.3 BZHI")]
    private readonly struct ZeroHighBits : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            int index = byte.CreateTruncating(b);
            T result = KeepLow(a, index);
            status = With(status, result, carry: index >= Width.Bits<T>());
            return result;
        }
    }

    [Spec("SDM", "vol.2A BLSI")]
    [Spec("APM", "vol.3 BLSI")]
    private readonly struct IsolateLowest : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = Lowest(a);
            status = With(status, result, carry: a != T.Zero);
            return result;
        }
    }

    [Spec("SDM", "vol.2A BLSMSK")]
    [Spec("APM", "vol.3 BLSMSK")]
    private readonly struct MaskToLowest : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = a ^ unchecked(a - T.One);
            status = With(status, result, carry: a == T.Zero);
            return result;
        }
    }

    [Spec("SDM", "vol.2A BLSR")]
    [Spec("APM", "vol.3 BLSR")]
    private readonly struct ResetLowest : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = a & unchecked(a - T.One);
            status = With(status, result, carry: a == T.Zero);
            return result;
        }
    }

    /// <summary>Puts the low bits of <c>a</c> where the mask <c>b</c> has ones.</summary>
    [Spec("SDM", "vol.2B PDEP")]
    [Spec("APM", "vol.3 PDEP")]
    private readonly struct Deposit : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.Zero;
            for (T left = b; left != T.Zero; left ^= Lowest(left))
            {
                result |= (a & T.One) != T.Zero ? Lowest(left) : T.Zero;
                a >>= 1;
            }

            return result;
        }
    }

    /// <summary>Collects the bits of <c>a</c> where the mask <c>b</c> has ones.</summary>
    [Spec("SDM", "vol.2B PEXT")]
    [Spec("APM", "vol.3 PEXT")]
    private readonly struct Extract : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.Zero;
            T next = T.One;
            for (T left = b; left != T.Zero; left ^= Lowest(left))
            {
                result |= (a & Lowest(left)) != T.Zero ? next : T.Zero;
                next <<= 1;
            }

            return result;
        }
    }

    [Spec("SDM", "vol.2B RORX")]
    [Spec("APM", "vol.3 RORX")]
    private readonly struct RotateRight : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            T.RotateRight(a, Count(b));
    }

    [Spec("SDM", "vol.2B SARX/SHLX/SHRX")]
    [Spec("APM", "vol.3 SARX")]
    private readonly struct ShiftArithmeticRight : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            T.CreateTruncating(Width.Signed(a) >> Count(b));
    }

    [Spec("SDM", "vol.2B SARX/SHLX/SHRX")]
    [Spec("APM", "vol.3 SHLX")]
    private readonly struct ShiftLeft : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            a << Count(b);
    }

    [Spec("SDM", "vol.2B SARX/SHLX/SHRX")]
    [Spec("APM", "vol.3 SHRX")]
    private readonly struct ShiftRight : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            a >> Count(b);
    }

    /// <summary>Adds with CF as carry in and out.</summary>
    [Spec("SDM", "vol.2A ADCX")]
    [Spec("APM", "vol.3 ADCX")]
    private readonly struct AddWithCarry : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            Add(a, b, Flags.Carry, ref status);
    }

    /// <summary>Adds with OF as carry in and out.</summary>
    [Spec("SDM", "vol.2A ADOX")]
    [Spec("APM", "vol.3 ADOX")]
    private readonly struct AddWithOverflow : IBinaryOp
    {
        public static bool WritesDestination => true;

        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            Add(a, b, Flags.Overflow, ref status);
    }

    private static T Add<T>(T a, T b, uint flag, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T partial = unchecked(a + b);
        T result = unchecked(partial + ((status & flag) != 0 ? T.One : T.Zero));
        status = partial < a || result < partial ? status | flag : status & ~flag;
        return result;
    }

    /// <summary>The value with its bits from number <paramref name="bits"/> upwards cleared.</summary>
    private static T KeepLow<T>(T value, int bits)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        bits < Width.Bits<T>() ? value & unchecked((T.One << bits) - T.One) : value;

    /// <summary>The lowest set bit alone; 0 for 0.</summary>
    private static T Lowest<T>(T value)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        value & unchecked(T.Zero - value);

    private static int Count<T>(T count)
        where T : unmanaged, IBinaryInteger<T> =>
        int.CreateTruncating(count) & (Width.Bits<T>() - 1);
}
