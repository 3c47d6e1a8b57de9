using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>CRC32: one step of CRC-32C (polynomial 0x11edc6f41, reflected, no inversion) by 1, 2, 4 or 8 bytes. No flag changes.</summary>
/// <remarks>The result has 32 bits, zero-extended also where the destination is a 64-bit register.</remarks>
internal static unsafe class Crc32
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Crc32_r32_rm8, &Reg<byte>, &Mem<byte>);
        table.Add(Code.Crc32_r64_rm8, &Reg<byte>, &Mem<byte>);
        table.Add(Code.Crc32_r32_rm16, &Reg<ushort>, &Mem<ushort>);
        table.Add(Code.Crc32_r32_rm32, &Reg<uint>, &Mem<uint>);
        table.Add(Code.Crc32_r64_rm64, &Reg<ulong>, &Mem<ulong>);
    }

    [Spec("SDM", "vol.2A CRC32")]
    private static void Reg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
        Accumulate(ref cpu, in op, cpu.Read<T>(op.Source));

    [Spec("SDM", "vol.2A CRC32")]
    private static void Mem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        if (cpu.Load(in op, out T source))
        {
            Accumulate(ref cpu, in op, source);
        }
    }

    [Spec("SDM", "vol.2A CRC32")]
    [Spec("APM", "vol.3 CRC32")]
    private static void Accumulate<T>(ref CpuState cpu, in MicroOp op, T source)
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        uint crc = cpu.Read<uint>(op.Destination);
        ulong data = ulong.CreateTruncating(source);
        cpu.Write(op.Destination, Width.Bits<T>() switch
        {
            8 => BitOperations.Crc32C(crc, (byte)data),
            16 => BitOperations.Crc32C(crc, (ushort)data),
            32 => BitOperations.Crc32C(crc, (uint)data),
            _ => BitOperations.Crc32C(crc, data),
        });
    }
}
