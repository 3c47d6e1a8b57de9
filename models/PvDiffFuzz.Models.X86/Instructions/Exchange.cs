using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>XCHG, XADD, CMPXCHG, CMPXCHG8B and CMPXCHG16B.</summary>
/// <remarks>XADD sets flags as ADD, CMPXCHG as CMP, the wide ones ZF only. A memory operand must be writable even when the comparison fails.</remarks>
internal static unsafe class Exchange
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Xchg_rm8_r8, &SwapReg<byte>, &SwapMem<byte>);
        table.Add(Code.Xchg_rm16_r16, &SwapReg<ushort>, &SwapMem<ushort>);
        table.Add(Code.Xchg_rm32_r32, &SwapReg<uint>, &SwapMem<uint>);
        table.Add(Code.Xchg_rm64_r64, &SwapReg<ulong>, &SwapMem<ulong>);
        table.Add(Code.Xchg_r16_AX, &SwapReg<ushort>);
        table.Add(Code.Xchg_r32_EAX, &SwapReg<uint>);
        table.Add(Code.Xchg_r64_RAX, &SwapReg<ulong>);
        table.Add(Code.Xadd_rm8_r8, &AddReg<byte>, &AddMem<byte>);
        table.Add(Code.Xadd_rm16_r16, &AddReg<ushort>, &AddMem<ushort>);
        table.Add(Code.Xadd_rm32_r32, &AddReg<uint>, &AddMem<uint>);
        table.Add(Code.Xadd_rm64_r64, &AddReg<ulong>, &AddMem<ulong>);
        table.Add(Code.Cmpxchg_rm8_r8, &CompareReg<byte>, &CompareMem<byte>);
        table.Add(Code.Cmpxchg_rm16_r16, &CompareReg<ushort>, &CompareMem<ushort>);
        table.Add(Code.Cmpxchg_rm32_r32, &CompareReg<uint>, &CompareMem<uint>);
        table.Add(Code.Cmpxchg_rm64_r64, &CompareReg<ulong>, &CompareMem<ulong>);
        table.Add(Code.Cmpxchg8b_m64, &Compare8Bytes);
        table.Add(Code.Cmpxchg16b_m128, &Compare16Bytes);
    }

    [Spec("SDM", "vol.2C XCHG")]
    private static void SwapReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        T first = cpu.Read<T>(op.Destination);
        cpu.Write(op.Destination, cpu.Read<T>(op.Source));
        cpu.Write(op.Source, first);
    }

    [Spec("SDM", "vol.2C XCHG")]
    private static void SwapMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        ulong address = cpu.LinearAddress(in op);
        if (cpu.LoadForUpdateAt(address, op.Segment, out T old))
        {
            cpu.StoreAt(address, op.Segment, cpu.Read<T>(op.Source));
            cpu.Write(op.Source, old);
        }
    }

    /// <summary>The source is written first, so that XADD of a register with itself doubles it.</summary>
    [Spec("SDM", "vol.2C XADD")]
    private static void AddReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T old = cpu.Read<T>(op.Destination);
        T sum = Add(ref cpu, old, cpu.Read<T>(op.Source));
        cpu.Write(op.Source, old);
        cpu.Write(op.Destination, sum);
    }

    [Spec("SDM", "vol.2C XADD")]
    private static void AddMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (cpu.LoadForUpdateAt(address, op.Segment, out T old))
        {
            cpu.StoreAt(address, op.Segment, Add(ref cpu, old, cpu.Read<T>(op.Source)));
            cpu.Write(op.Source, old);
        }
    }

    private static T Add<T>(ref CpuState cpu, T a, T b)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T sum = unchecked(a + b);
        cpu.Status = Flags.OfSum(a, b, sum, carry: sum < a);
        return sum;
    }

    /// <summary>Either the destination or the accumulator is written, so that with 32 bits only that one is zero-extended.</summary>
    [Spec("SDM", "vol.2A CMPXCHG")]
    private static void CompareReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T destination = cpu.Read<T>(op.Destination);
        if (Matches(ref cpu, destination))
        {
            cpu.Write(op.Destination, cpu.Read<T>(op.Source));
        }
        else
        {
            cpu.Write(Gpr.Rax, destination);
        }
    }

    [Spec("SDM", "vol.2A CMPXCHG")]
    private static void CompareMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (!cpu.LoadForUpdateAt(address, op.Segment, out T destination))
        {
            return;
        }

        if (Matches(ref cpu, destination))
        {
            cpu.StoreAt(address, op.Segment, cpu.Read<T>(op.Source));
        }
        else
        {
            cpu.Write(Gpr.Rax, destination);
        }
    }

    private static bool Matches<T>(ref CpuState cpu, T destination)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        T accumulator = cpu.Read<T>(Gpr.Rax);
        cpu.Status = Flags.OfDifference(accumulator, destination, unchecked(accumulator - destination), borrow: accumulator < destination);
        return accumulator == destination;
    }

    [Spec("SDM", "vol.2A CMPXCHG8B/CMPXCHG16B")]
    private static void Compare8Bytes(ref CpuState cpu, in MicroOp op)
    {
        ulong address = cpu.LinearAddress(in op);
        if (!cpu.LoadForUpdateAt(address, op.Segment, out ulong old))
        {
            return;
        }

        if (old == (((ulong)cpu.Read<uint>(Gpr.Rdx) << 32) | cpu.Read<uint>(Gpr.Rax)))
        {
            cpu.Status |= Flags.Zero;
            cpu.StoreAt(address, op.Segment, ((ulong)cpu.Read<uint>(Gpr.Rcx) << 32) | cpu.Read<uint>(Gpr.Rbx));
        }
        else
        {
            cpu.Status &= ~Flags.Zero;
            cpu.Write(Gpr.Rax, (uint)old);
            cpu.Write(Gpr.Rdx, (uint)(old >> 32));
        }
    }

    /// <summary>An operand that is not 16-byte aligned raises #GP(0), through SS too, before anything else is looked at.</summary>
    [Spec("SDM", "vol.2A CMPXCHG8B/CMPXCHG16B")]
    private static void Compare16Bytes(ref CpuState cpu, in MicroOp op)
    {
        ulong address = cpu.LinearAddress(in op);
        if ((address & 15) != 0)
        {
            cpu.Raise(13);
            return;
        }

        if (!cpu.LoadForUpdateAt(address, op.Segment, out UInt128 old))
        {
            return;
        }

        if (old == new UInt128(cpu.Read<ulong>(Gpr.Rdx), cpu.Read<ulong>(Gpr.Rax)))
        {
            cpu.Status |= Flags.Zero;
            cpu.StoreAt(address, op.Segment, new UInt128(cpu.Read<ulong>(Gpr.Rcx), cpu.Read<ulong>(Gpr.Rbx)));
        }
        else
        {
            cpu.Status &= ~Flags.Zero;
            cpu.Write(Gpr.Rax, (ulong)old);
            cpu.Write(Gpr.Rdx, (ulong)(old >> 64));
        }
    }
}
