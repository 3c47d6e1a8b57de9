using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>CBW, CWDE, CDQE, CWD, CDQ and CQO: sign extension of the accumulator. No flag changes.</summary>
internal static unsafe class Conversions
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Cbw, &Cbw);
        table.Add(Code.Cwde, &Cwde);
        table.Add(Code.Cdqe, &Cdqe);
        table.Add(Code.Cwd, &Cwd);
        table.Add(Code.Cdq, &Cdq);
        table.Add(Code.Cqo, &Cqo);
    }

    [Spec("SDM", "vol.2A CBW/CWDE/CDQE")]
    private static void Cbw(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rax, (ushort)cpu.Read<sbyte>(Gpr.Rax));

    [Spec("SDM", "vol.2A CBW/CWDE/CDQE")]
    private static void Cwde(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rax, (uint)cpu.Read<short>(Gpr.Rax));

    [Spec("SDM", "vol.2A CBW/CWDE/CDQE")]
    private static void Cdqe(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rax, (ulong)cpu.Read<int>(Gpr.Rax));

    [Spec("SDM", "vol.2A CWD/CDQ/CQO")]
    private static void Cwd(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rdx, (ushort)(cpu.Read<short>(Gpr.Rax) >> 15));

    [Spec("SDM", "vol.2A CWD/CDQ/CQO")]
    private static void Cdq(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rdx, (uint)(cpu.Read<int>(Gpr.Rax) >> 31));

    [Spec("SDM", "vol.2A CWD/CDQ/CQO")]
    private static void Cqo(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rdx, (ulong)(cpu.Read<long>(Gpr.Rax) >> 63));
}
