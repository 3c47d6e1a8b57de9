using System.Numerics;

namespace PvDiffFuzz.Models.X86;

/// <summary>The operand shapes of instructions that put a function of one source into another register.</summary>
internal static class Transfer
{
    /// <summary>Register from register.</summary>
    public static void RegReg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        cpu.Write(op.Destination, TOp.Apply(cpu.Read<T>(op.Source), ref cpu.Status));

    /// <summary>Register from memory.</summary>
    public static void RegMem<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IUnaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            cpu.Write(op.Destination, TOp.Apply(source, ref cpu.Status));
        }
    }
}

/// <summary>The operand shapes of instructions that put a function of two sources into another register.</summary>
internal static class ThreeOperand
{
    /// <summary>Register from two registers.</summary>
    public static void RegRegReg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        cpu.Write(op.Destination, TOp.Apply(cpu.Read<T>(op.Source), cpu.Read<T>(op.Third), ref cpu.Status));

    /// <summary>Register from register and memory, as ANDN.</summary>
    public static void RegRegMem<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T last))
        {
            cpu.Write(op.Destination, TOp.Apply(cpu.Read<T>(op.Source), last, ref cpu.Status));
        }
    }

    /// <summary>Register from memory and register, as SHLX.</summary>
    public static void RegMemReg<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T first))
        {
            cpu.Write(op.Destination, TOp.Apply(first, cpu.Read<T>(op.Third), ref cpu.Status));
        }
    }

    /// <summary>Register from register and immediate.</summary>
    public static void RegRegImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        cpu.Write(op.Destination, TOp.Apply(cpu.Read<T>(op.Source), T.CreateTruncating(op.Immediate), ref cpu.Status));

    /// <summary>Register from memory and immediate.</summary>
    public static void RegMemImm<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IBinaryOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T first))
        {
            cpu.Write(op.Destination, TOp.Apply(first, T.CreateTruncating(op.Immediate), ref cpu.Status));
        }
    }
}
