using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>BT, BTS, BTR, BTC, BSF, BSR, BSWAP, POPCNT, LZCNT and TZCNT.</summary>
/// <remarks>
/// BT and its sisters define CF and keep ZF; BSF and BSR define ZF; LZCNT and TZCNT define CF and ZF; POPCNT defines all six. Undefined flags keep their value.
/// BSWAP of 16 bits has an undefined result; the model writes 0. BSF and BSR of 0 keep the whole destination.
/// </remarks>
internal static unsafe class BitOps
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        Group<Test>(table, Code.Bt_rm16_r16, Code.Bt_rm16_imm8);
        Group<Set>(table, Code.Bts_rm16_r16, Code.Bts_rm16_imm8);
        Group<Reset>(table, Code.Btr_rm16_r16, Code.Btr_rm16_imm8);
        Group<Complement>(table, Code.Btc_rm16_r16, Code.Btc_rm16_imm8);
        Scans<ScanForward>(table, Code.Bsf_r16_rm16);
        Scans<ScanReverse>(table, Code.Bsr_r16_rm16);
        Counts<CountOnes>(table, Code.Popcnt_r16_rm16);
        if (profile.Has(nameof(CpuidFeature.LZCNT)))
        {
            Counts<CountLeadingZeros>(table, Code.Lzcnt_r16_rm16);
        }
        else
        {
            Scans<ScanReverse>(table, Code.Lzcnt_r16_rm16);
        }

        if (profile.Has(nameof(CpuidFeature.BMI1)))
        {
            Counts<CountTrailingZeros>(table, Code.Tzcnt_r16_rm16);
        }
        else
        {
            Scans<ScanForward>(table, Code.Tzcnt_r16_rm16);
        }

        table.Add(Code.Bswap_r16, &Swap16);
        table.Add(Code.Bswap_r32, &Swap32);
        table.Add(Code.Bswap_r64, &Swap64);
    }

    /// <summary>True for LZCNT and TZCNT, which are BSR and BSF where the feature is missing: the F3 prefix has no meaning there.</summary>
    [Spec("SDM", "vol.2A LZCNT; vol.2B TZCNT (processors that do not support them)")]
    [Spec("APM", "vol.3 LZCNT, TZCNT")]
    public static bool IsHint(Code code) => code is (>= Code.Lzcnt_r16_rm16 and <= Code.Lzcnt_r64_rm64) or (>= Code.Tzcnt_r16_rm16 and <= Code.Tzcnt_r64_rm64);

    /// <summary>The six encodings of a bit test. In Iced's numbering the forms of 32 and 64 bits follow the one of 16.</summary>
    private static void Group<TOp>(OpTable table, Code register16, Code immediate16)
        where TOp : struct, IBinaryOp
    {
        table.Add(register16, &Binary.RegReg<TOp, ushort>, &BitString<TOp, ushort>);
        table.Add(register16 + 1, &Binary.RegReg<TOp, uint>, &BitString<TOp, uint>);
        table.Add(register16 + 2, &Binary.RegReg<TOp, ulong>, &BitString<TOp, ulong>);
        table.Add(immediate16, &Binary.RegImm<TOp, ushort>, &Binary.MemImm<TOp, ushort>);
        table.Add(immediate16 + 1, &Binary.RegImm<TOp, uint>, &Binary.MemImm<TOp, uint>);
        table.Add(immediate16 + 2, &Binary.RegImm<TOp, ulong>, &Binary.MemImm<TOp, ulong>);
    }

    private static void Scans<TOp>(OpTable table, Code form16)
        where TOp : struct, IUnaryOp
    {
        table.Add(form16, &ScanRegister<TOp, ushort>, &ScanMemory<TOp, ushort>);
        table.Add(form16 + 1, &ScanRegister<TOp, uint>, &ScanMemory<TOp, uint>);
        table.Add(form16 + 2, &ScanRegister<TOp, ulong>, &ScanMemory<TOp, ulong>);
    }

    private static void Counts<TOp>(OpTable table, Code form16)
        where TOp : struct, IUnaryOp
    {
        table.Add(form16, &Transfer.RegReg<TOp, ushort>, &Transfer.RegMem<TOp, ushort>);
        table.Add(form16 + 1, &Transfer.RegReg<TOp, uint>, &Transfer.RegMem<TOp, uint>);
        table.Add(form16 + 2, &Transfer.RegReg<TOp, ulong>, &Transfer.RegMem<TOp, ulong>);
    }

    /// <summary>Memory and a register: the register is a signed bit offset from the operand's address, so the operand accessed may lie anywhere.</summary>
    [Spec("SDM", "vol.2A 3.1.1.9 Operation Section (Bit(BitBase, BitOffset)); BT")]
    [Spec("APM", "vol.3 BT, BTC, BTR, BTS")]
    private static void BitString<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T offset = cpu.Read<T>(op.Source);
        ulong bytes = (ulong)(Width.Signed(offset) >> 3) & ~((ulong)Unsafe.SizeOf<T>() - 1);
        ulong effective = (cpu.EffectiveAddress(in op) + bytes) & op.AddressMask;
        ulong address = (effective + cpu.SegmentBase[op.Segment]) & cpu.LinearMask;
        if (!TOp.WritesDestination)
        {
            if (cpu.LoadAt(address, op.Segment, out T value))
            {
                TOp.Apply(value, offset, ref cpu.Status);
            }
        }
        else if (cpu.LoadForUpdateAt(address, op.Segment, out T value))
        {
            cpu.StoreAt(address, op.Segment, TOp.Apply(value, offset, ref cpu.Status));
        }
    }

    private static void ScanRegister<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Scan<TOp, T>(ref cpu, in op, cpu.Read<T>(op.Source));

    private static void ScanMemory<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            Scan<TOp, T>(ref cpu, in op, source);
        }
    }

    /// <summary>A source of 0 sets ZF and keeps the whole destination: APM says so, SDM calls the destination undefined and later unmodified.</summary>
    [Spec("SDM", "vol.2A BSF, BSR")]
    [Spec("APM", "vol.3 BSF, BSR (the destination is not modified)")]
    private static void Scan<TOp, T>(ref CpuState cpu, in MicroOp op, T source)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (source == T.Zero)
        {
            cpu.Status |= Flags.Zero;
            return;
        }

        cpu.Status &= ~Flags.Zero;
        cpu.Write(op.Destination, TOp.Apply(source, ref cpu.Status));
    }

    [Spec("SDM", "vol.2A BSWAP (undefined for 16-bit registers)")]
    [Spec("APM", "vol.3 BSWAP (undefined for 16-bit registers)")]
    private static void Swap16(ref CpuState cpu, in MicroOp op) => cpu.Write<ushort>(op.Destination, 0);

    [Spec("SDM", "vol.2A BSWAP")]
    private static void Swap32(ref CpuState cpu, in MicroOp op) => cpu.Write(op.Destination, BinaryPrimitives.ReverseEndianness(cpu.Read<uint>(op.Destination)));

    [Spec("SDM", "vol.2A BSWAP")]
    private static void Swap64(ref CpuState cpu, in MicroOp op) => cpu.Write(op.Destination, BinaryPrimitives.ReverseEndianness(cpu.Read<ulong>(op.Destination)));

    /// <summary>Puts the selected bit, its number taken modulo the width, into CF.</summary>
    /// <returns>A value with only that bit set.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Select<T>(T value, T number, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T bit = T.One << (int.CreateTruncating(number) & (Width.Bits<T>() - 1));
        status = (status & ~Flags.Carry) | ((value & bit) != T.Zero ? Flags.Carry : 0);
        return bit;
    }

    [Spec("SDM", "vol.2A BT")]
    [Spec("APM", "vol.3 BT")]
    private readonly struct Test : IBinaryOp
    {
        public static bool WritesDestination => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            Select(a, b, ref status);
            return a;
        }
    }

    [Spec("SDM", "vol.2A BTS")]
    [Spec("APM", "vol.3 BTS")]
    private readonly struct Set : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T bit = Select(a, b, ref status);
            return a | bit;
        }
    }

    [Spec("SDM", "vol.2A BTR")]
    [Spec("APM", "vol.3 BTR")]
    private readonly struct Reset : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T bit = Select(a, b, ref status);
            return a & ~bit;
        }
    }

    [Spec("SDM", "vol.2A BTC")]
    [Spec("APM", "vol.3 BTC")]
    private readonly struct Complement : IBinaryOp
    {
        public static bool WritesDestination => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Apply<T>(T a, T b, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T bit = Select(a, b, ref status);
            return a ^ bit;
        }
    }

    /// <summary>Number of the lowest set bit of a value other than 0.</summary>
    [Spec("SDM", "vol.2A BSF")]
    [Spec("APM", "vol.3 BSF")]
    private readonly struct ScanForward : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            T.TrailingZeroCount(a);
    }

    /// <summary>Number of the highest set bit of a value other than 0.</summary>
    [Spec("SDM", "vol.2A BSR")]
    [Spec("APM", "vol.3 BSR")]
    private readonly struct ScanReverse : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            T.Log2(a);
    }

    /// <summary>ZF tells a source of 0; the other five flags are cleared.</summary>
    [Spec("SDM", "vol.2B POPCNT")]
    [Spec("APM", "vol.3 POPCNT")]
    private readonly struct CountOnes : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            status = a == T.Zero ? Flags.Zero : 0;
            return T.PopCount(a);
        }
    }

    [Spec("SDM", "vol.2A LZCNT")]
    [Spec("APM", "vol.3 LZCNT")]
    private readonly struct CountLeadingZeros : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.LeadingZeroCount(a);
            status = OfCount(a, result, status);
            return result;
        }
    }

    [Spec("SDM", "vol.2B TZCNT")]
    [Spec("APM", "vol.3 TZCNT")]
    private readonly struct CountTrailingZeros : IUnaryOp
    {
        public static T Apply<T>(T a, ref uint status)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            T result = T.TrailingZeroCount(a);
            status = OfCount(a, result, status);
            return result;
        }
    }

    /// <summary>CF tells a source of 0, ZF a result of 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint OfCount<T>(T source, T result, uint status)
        where T : unmanaged, IBinaryInteger<T> =>
        (status & ~(Flags.Carry | Flags.Zero)) | (source == T.Zero ? Flags.Carry : 0) | (result == T.Zero ? Flags.Zero : 0);
}
