using System.Buffers.Binary;
using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>MOV, MOVZX, MOVSX, MOVSXD, MOVBE, LEA and XLAT: copies between registers and memory.</summary>
/// <remarks>No flag changes. MOV with segment, control and debug registers lives with those registers.</remarks>
internal static unsafe class Moves
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Mov_rm8_r8, &RegReg<byte>, &MemReg<byte>);
        table.Add(Code.Mov_rm16_r16, &RegReg<ushort>, &MemReg<ushort>);
        table.Add(Code.Mov_rm32_r32, &RegReg<uint>, &MemReg<uint>);
        table.Add(Code.Mov_rm64_r64, &RegReg<ulong>, &MemReg<ulong>);
        table.Add(Code.Mov_r8_rm8, &RegReg<byte>, &RegMem<byte>);
        table.Add(Code.Mov_r16_rm16, &RegReg<ushort>, &RegMem<ushort>);
        table.Add(Code.Mov_r32_rm32, &RegReg<uint>, &RegMem<uint>);
        table.Add(Code.Mov_r64_rm64, &RegReg<ulong>, &RegMem<ulong>);
        table.Add(Code.Mov_AL_moffs8, &RegMem<byte>);
        table.Add(Code.Mov_AX_moffs16, &RegMem<ushort>);
        table.Add(Code.Mov_EAX_moffs32, &RegMem<uint>);
        table.Add(Code.Mov_RAX_moffs64, &RegMem<ulong>);
        table.Add(Code.Mov_moffs8_AL, &MemReg<byte>);
        table.Add(Code.Mov_moffs16_AX, &MemReg<ushort>);
        table.Add(Code.Mov_moffs32_EAX, &MemReg<uint>);
        table.Add(Code.Mov_moffs64_RAX, &MemReg<ulong>);
        table.Add(Code.Mov_r8_imm8, &RegImm<byte>);
        table.Add(Code.Mov_r16_imm16, &RegImm<ushort>);
        table.Add(Code.Mov_r32_imm32, &RegImm<uint>);
        table.Add(Code.Mov_r64_imm64, &RegImm<ulong>);
        table.Add(Code.Mov_rm8_imm8, &RegImm<byte>, &MemImm<byte>);
        table.Add(Code.Mov_rm16_imm16, &RegImm<ushort>, &MemImm<ushort>);
        table.Add(Code.Mov_rm32_imm32, &RegImm<uint>, &MemImm<uint>);
        table.Add(Code.Mov_rm64_imm32, &RegImm<ulong>, &MemImm<ulong>);

        table.Add(Code.Movzx_r16_rm8, &ZeroReg<byte, ushort>, &ZeroMem<byte, ushort>);
        table.Add(Code.Movzx_r32_rm8, &ZeroReg<byte, uint>, &ZeroMem<byte, uint>);
        table.Add(Code.Movzx_r64_rm8, &ZeroReg<byte, ulong>, &ZeroMem<byte, ulong>);
        table.Add(Code.Movzx_r16_rm16, &ZeroReg<ushort, ushort>, &ZeroMem<ushort, ushort>);
        table.Add(Code.Movzx_r32_rm16, &ZeroReg<ushort, uint>, &ZeroMem<ushort, uint>);
        table.Add(Code.Movzx_r64_rm16, &ZeroReg<ushort, ulong>, &ZeroMem<ushort, ulong>);
        table.Add(Code.Movsx_r16_rm8, &SignReg<sbyte, ushort>, &SignMem<sbyte, ushort>);
        table.Add(Code.Movsx_r32_rm8, &SignReg<sbyte, uint>, &SignMem<sbyte, uint>);
        table.Add(Code.Movsx_r64_rm8, &SignReg<sbyte, ulong>, &SignMem<sbyte, ulong>);
        table.Add(Code.Movsx_r16_rm16, &SignReg<short, ushort>, &SignMem<short, ushort>);
        table.Add(Code.Movsx_r32_rm16, &SignReg<short, uint>, &SignMem<short, uint>);
        table.Add(Code.Movsx_r64_rm16, &SignReg<short, ulong>, &SignMem<short, ulong>);
        table.Add(Code.Movsxd_r32_rm32, &SignReg<int, uint>, &SignMem<int, uint>);
        table.Add(Code.Movsxd_r64_rm32, &SignReg<int, ulong>, &SignMem<int, ulong>);
        if (profile.Vendor == CpuVendor.Amd)
        {
            table.Add(Code.Movsxd_r16_rm16, &MoveSignDoubleword16, &MoveSignDoubleword16Wide);
        }
        else
        {
            table.Add(Code.Movsxd_r16_rm16, &MoveSignDoubleword16, &RegMem<ushort>);
        }

        table.Add(Code.Movbe_r16_m16, &LoadSwapped<ushort>);
        table.Add(Code.Movbe_r32_m32, &LoadSwapped<uint>);
        table.Add(Code.Movbe_r64_m64, &LoadSwapped<ulong>);
        table.Add(Code.Movbe_m16_r16, &StoreSwapped<ushort>);
        table.Add(Code.Movbe_m32_r32, &StoreSwapped<uint>);
        table.Add(Code.Movbe_m64_r64, &StoreSwapped<ulong>);
        table.Add(Code.Lea_r16_m, &LoadAddress<ushort>);
        table.Add(Code.Lea_r32_m, &LoadAddress<uint>);
        table.Add(Code.Lea_r64_m, &LoadAddress<ulong>);
        table.Add(Code.Xlat_m8, &Translate);
    }

    [Spec("SDM", "vol.2B MOV")]
    private static void RegReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Write(op.Destination, cpu.Read<T>(op.Source));

    [Spec("SDM", "vol.2B MOV")]
    private static void RegMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        if (cpu.Load(in op, out T value))
        {
            cpu.Write(op.Destination, value);
        }
    }

    [Spec("SDM", "vol.2B MOV")]
    private static void MemReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Store(in op, cpu.Read<T>(op.Source));

    [Spec("SDM", "vol.2B MOV")]
    private static void RegImm<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, T.CreateTruncating(op.Immediate));

    [Spec("SDM", "vol.2B MOV")]
    private static void MemImm<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Store(in op, T.CreateTruncating(op.Immediate));

    [Spec("SDM", "vol.2B MOVZX")]
    private static void ZeroReg<TFrom, TTo>(ref CpuState cpu, in MicroOp op)
        where TFrom : unmanaged, IBinaryInteger<TFrom>
        where TTo : unmanaged, IBinaryInteger<TTo> =>
        cpu.Write(op.Destination, TTo.CreateTruncating(cpu.Read<TFrom>(op.Source)));

    [Spec("SDM", "vol.2B MOVZX")]
    private static void ZeroMem<TFrom, TTo>(ref CpuState cpu, in MicroOp op)
        where TFrom : unmanaged, IBinaryInteger<TFrom>
        where TTo : unmanaged, IBinaryInteger<TTo>
    {
        if (cpu.Load(in op, out TFrom value))
        {
            cpu.Write(op.Destination, TTo.CreateTruncating(value));
        }
    }

    /// <summary>The source type is signed, so that widening it extends the sign.</summary>
    [Spec("SDM", "vol.2B MOVSX/MOVSXD")]
    private static void SignReg<TFrom, TTo>(ref CpuState cpu, in MicroOp op)
        where TFrom : unmanaged, IBinaryInteger<TFrom>, ISignedNumber<TFrom>
        where TTo : unmanaged, IBinaryInteger<TTo>, IUnsignedNumber<TTo> =>
        cpu.Write(op.Destination, TTo.CreateTruncating(cpu.Read<TFrom>(op.Source)));

    [Spec("SDM", "vol.2B MOVSX/MOVSXD")]
    private static void SignMem<TFrom, TTo>(ref CpuState cpu, in MicroOp op)
        where TFrom : unmanaged, IBinaryInteger<TFrom>, ISignedNumber<TFrom>
        where TTo : unmanaged, IBinaryInteger<TTo>, IUnsignedNumber<TTo>
    {
        if (cpu.Load(in op, out TFrom value))
        {
            cpu.Write(op.Destination, TTo.CreateTruncating(value));
        }
    }

    /// <summary>With a 16-bit operand nothing is left to extend.</summary>
    [Spec("SDM", "vol.2B MOVSX/MOVSXD (63 /r with operand size 16)")]
    private static void MoveSignDoubleword16(ref CpuState cpu, in MicroOp op) => cpu.Write(op.Destination, cpu.Read<ushort>(op.Source));

    /// <summary>AMD's source operand is 32 bits wide whatever the operand size, so that all four bytes are read.</summary>
    [Spec("APM", "vol.3 MOVSXD (reg16/32/64, reg/mem32)")]
    private static void MoveSignDoubleword16Wide(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Load(in op, out uint value))
        {
            cpu.Write(op.Destination, (ushort)value);
        }
    }

    [Spec("SDM", "vol.2B MOVBE")]
    private static void LoadSwapped<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Load(in op, out T value))
        {
            cpu.Write(op.Destination, Swap(value));
        }
    }

    [Spec("SDM", "vol.2B MOVBE")]
    private static void StoreSwapped<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Store(in op, Swap(cpu.Read<T>(op.Source)));

    private static T Swap<T>(T value)
        where T : unmanaged, IBinaryInteger<T>
    {
        ulong wide = BinaryPrimitives.ReverseEndianness(ulong.CreateTruncating(value));
        return T.CreateTruncating(wide >> (64 - (sizeof(T) * 8)));
    }

    /// <summary>The offset without a segment base: truncated to the address size first, then to the operand size.</summary>
    [Spec("SDM", "vol.2A LEA")]
    private static void LoadAddress<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, T.CreateTruncating(cpu.EffectiveAddress(in op)));

    /// <summary>AL is an index of eight bits, so the usual address computation does not fit.</summary>
    [Spec("SDM", "vol.2C XLAT/XLATB")]
    private static void Translate(ref CpuState cpu, in MicroOp op)
    {
        ulong offset = (cpu.Read<ulong>(Gpr.Rbx) + cpu.Read<byte>(Gpr.Rax)) & op.AddressMask;
        if (cpu.LoadAt((offset + cpu.SegmentBase[op.Segment]) & cpu.LinearMask, op.Segment, out byte value))
        {
            cpu.Write(Gpr.Rax, value);
        }
    }
}
