using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>SETcc and CMOVcc. No flag changes.</summary>
internal static unsafe class Conditional
{
    private const int Conditions = 16;
    private const int CmovWidths = 3;

    /// <summary>Adds this family's rows. In Iced's numbering the conditions follow each other in encoding order, CMOVcc with its three widths together.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        for (int condition = 0; condition < Conditions; condition++)
        {
            table.Add(Code.Seto_rm8 + condition, &SetRegister, &SetMemory);
            Code cmov = Code.Cmovo_r16_rm16 + (condition * CmovWidths);
            table.Add(cmov, &MoveRegister<ushort>, &MoveMemory<ushort>);
            table.Add(cmov + 1, &MoveRegister<uint>, &MoveMemory<uint>);
            table.Add(cmov + 2, &MoveRegister<ulong>, &MoveMemory<ulong>);
        }
    }

    [Spec("SDM", "vol.2B SETcc")]
    [Spec("APM", "vol.3 SETcc")]
    private static void SetRegister(ref CpuState cpu, in MicroOp op) => cpu.Write(op.Destination, SetValue(ref cpu, in op));

    [Spec("SDM", "vol.2B SETcc")]
    [Spec("APM", "vol.3 SETcc")]
    private static void SetMemory(ref CpuState cpu, in MicroOp op) => cpu.Store(in op, SetValue(ref cpu, in op));

    private static byte SetValue(ref CpuState cpu, in MicroOp op) =>
        Flags.Holds(op.Code - (int)Code.Seto_rm8, cpu.Status) ? (byte)1 : (byte)0;

    /// <summary>A false condition still writes: the upper half of a 32-bit destination becomes zero.</summary>
    [Spec("SDM", "vol.2A CMOVcc")]
    [Spec("APM", "vol.3 CMOVcc")]
    private static void MoveRegister<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, cpu.Read<T>(MoveHolds(ref cpu, in op) ? op.Source : op.Destination));

    /// <summary>A false condition still loads, so it faults like a true one.</summary>
    [Spec("SDM", "vol.2A CMOVcc")]
    [Spec("APM", "vol.3 CMOVcc")]
    private static void MoveMemory<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Load(in op, out T source))
        {
            cpu.Write(op.Destination, MoveHolds(ref cpu, in op) ? source : cpu.Read<T>(op.Destination));
        }
    }

    private static bool MoveHolds(ref CpuState cpu, in MicroOp op) =>
        Flags.Holds((op.Code - (int)Code.Cmovo_r16_rm16) / CmovWidths, cpu.Status);
}
