using System.Numerics;
using System.Runtime.CompilerServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>A shift or rotation of one value.</summary>
internal interface IShiftOp
{
    /// <summary>Computes the result and updates the status flags.</summary>
    /// <param name="value">What is shifted.</param>
    /// <param name="count">Masked count, never 0: up to 31, or 63 for 64-bit operands, so it may exceed the width of 8- and 16-bit ones.</param>
    /// <param name="status">The status flags.</param>
    static abstract T Apply<T>(T value, int count, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
}

/// <summary>A shift of one value that takes the vacated bits from another.</summary>
internal interface IDoubleShiftOp
{
    /// <summary>Computes the result and updates the status flags.</summary>
    /// <param name="value">What is shifted.</param>
    /// <param name="filler">Where the vacated bits come from.</param>
    /// <param name="count">Masked count, never 0: up to 31, or 63 for 64-bit operands, so it may exceed the width of 16-bit ones.</param>
    /// <param name="status">The status flags.</param>
    static abstract T Apply<T>(T value, T filler, int count, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
}

/// <summary>The operand shapes of shifts and rotations. The forms that shift by one carry it as their immediate.</summary>
internal static class Shift
{
    /// <summary>Register, immediate count.</summary>
    public static void RegImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Register<TOp, T>(ref cpu, in op, (uint)op.Immediate);

    /// <summary>Memory, immediate count.</summary>
    public static void MemImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, (uint)op.Immediate);

    /// <summary>Register, count in CL.</summary>
    public static void RegCl<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Register<TOp, T>(ref cpu, in op, cpu.Read<byte>(Gpr.Rcx));

    /// <summary>Memory, count in CL.</summary>
    public static void MemCl<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, cpu.Read<byte>(Gpr.Rcx));

    /// <summary>The count that takes effect: its low 5 bits, or 6 for 64-bit operands.</summary>
    [Spec("SDM", "vol.2B SAL/SAR/SHL/SHR (the count is masked)")]
    [Spec("APM", "vol.3 SHL, SAR, SHR, ROL, ROR, RCL, RCR")]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Mask<T>(uint count)
        where T : unmanaged =>
        (int)count & (Unsafe.SizeOf<T>() == 8 ? 63 : 31);

    /// <summary>A count of 0 changes no flag, but still writes the register, which zeroes the upper half for 32-bit operands.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Register<TOp, T>(ref CpuState cpu, in MicroOp op, uint count)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T value = cpu.Read<T>(op.Destination);
        int masked = Mask<T>(count);
        cpu.Write(op.Destination, masked == 0 ? value : TOp.Apply(value, masked, ref cpu.Status));
    }

    /// <summary>A count of 0 changes nothing, but still needs a writable destination.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Memory<TOp, T>(ref CpuState cpu, in MicroOp op, uint count)
        where TOp : struct, IShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (cpu.LoadForUpdateAt(address, op.Segment, out T value))
        {
            int masked = Mask<T>(count);
            cpu.StoreAt(address, op.Segment, masked == 0 ? value : TOp.Apply(value, masked, ref cpu.Status));
        }
    }
}

/// <summary>The operand shapes of SHLD and SHRD.</summary>
internal static class DoubleShift
{
    /// <summary>Register, register, immediate count.</summary>
    public static void RegRegImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Register<TOp, T>(ref cpu, in op, (uint)op.Immediate);

    /// <summary>Memory, register, immediate count.</summary>
    public static void MemRegImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, (uint)op.Immediate);

    /// <summary>Register, register, count in CL.</summary>
    public static void RegRegCl<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Register<TOp, T>(ref cpu, in op, cpu.Read<byte>(Gpr.Rcx));

    /// <summary>Memory, register, count in CL.</summary>
    public static void MemRegCl<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, cpu.Read<byte>(Gpr.Rcx));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Register<TOp, T>(ref CpuState cpu, in MicroOp op, uint count)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T value = cpu.Read<T>(op.Destination);
        int masked = Shift.Mask<T>(count);
        cpu.Write(op.Destination, masked == 0 ? value : TOp.Apply(value, cpu.Read<T>(op.Source), masked, ref cpu.Status));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Memory<TOp, T>(ref CpuState cpu, in MicroOp op, uint count)
        where TOp : struct, IDoubleShiftOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (cpu.LoadForUpdateAt(address, op.Segment, out T value))
        {
            int masked = Shift.Mask<T>(count);
            cpu.StoreAt(address, op.Segment, masked == 0 ? value : TOp.Apply(value, cpu.Read<T>(op.Source), masked, ref cpu.Status));
        }
    }
}
