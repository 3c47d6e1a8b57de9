using System.Numerics;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Models.X86;

/// <summary>An operation on two values that sets status flags.</summary>
internal interface IBinaryOp
{
    /// <summary>False for CMP and TEST.</summary>
    static abstract bool WritesDestination { get; }

    /// <summary>Computes the result and updates the status flags.</summary>
    static abstract T Apply<T>(T a, T b, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
}

/// <summary>An operation on one value that may set status flags.</summary>
internal interface IUnaryOp
{
    /// <summary>Computes the result and updates the status flags.</summary>
    static abstract T Apply<T>(T a, ref uint status)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
}

/// <summary>The operand shapes of two-operand instructions, written once for every family.</summary>
internal static class Binary
{
    /// <summary>Register, register.</summary>
    public static void RegReg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T result = TOp.Apply(cpu.Read<T>(op.Destination), cpu.Read<T>(op.Source), ref cpu.Status);
        if (TOp.WritesDestination)
        {
            cpu.Write(op.Destination, result);
        }
    }

    /// <summary>Register, memory.</summary>
    public static void RegMem<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            T result = TOp.Apply(cpu.Read<T>(op.Destination), source, ref cpu.Status);
            if (TOp.WritesDestination)
            {
                cpu.Write(op.Destination, result);
            }
        }
    }

    /// <summary>Memory, register.</summary>
    public static void MemReg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, cpu.Read<T>(op.Source));

    /// <summary>Register, immediate.</summary>
    public static void RegImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T result = TOp.Apply(cpu.Read<T>(op.Destination), T.CreateTruncating(op.Immediate), ref cpu.Status);
        if (TOp.WritesDestination)
        {
            cpu.Write(op.Destination, result);
        }
    }

    /// <summary>Memory, immediate.</summary>
    public static void MemImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Memory<TOp, T>(ref cpu, in op, T.CreateTruncating(op.Immediate));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Memory<TOp, T>(ref CpuState cpu, in MicroOp op, T source)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (TOp.WritesDestination)
        {
            ulong address = cpu.LinearAddress(in op);
            if (cpu.LoadForUpdateAt(address, op.Segment, out T destination))
            {
                cpu.StoreAt(address, op.Segment, TOp.Apply(destination, source, ref cpu.Status));
            }
        }
        else if (cpu.Load(in op, out T destination))
        {
            TOp.Apply(destination, source, ref cpu.Status);
        }
    }
}

/// <summary>The operand shapes of one-operand read-modify-write instructions.</summary>
internal static class Unary
{
    /// <summary>Register.</summary>
    public static void Reg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        cpu.Write(op.Destination, TOp.Apply(cpu.Read<T>(op.Destination), ref cpu.Status));

    /// <summary>Memory.</summary>
    public static void Mem<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (cpu.LoadForUpdateAt(address, op.Segment, out T destination))
        {
            cpu.StoreAt(address, op.Segment, TOp.Apply(destination, ref cpu.Status));
        }
    }
}
