using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>UMONITOR, UMWAIT, TPAUSE, MONITORX and MWAITX: waits at CPL3.</summary>
/// <remarks>A wait may end at any time, and here ends at once. UMWAIT and TPAUSE clear all six flags: CF would say that the system's limit ended the wait.</remarks>
internal static unsafe class Waits
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Umonitor_r16, &Monitor<ushort>);
        table.Add(Code.Umonitor_r32, &Monitor<uint>);
        table.Add(Code.Umonitor_r64, &Monitor<ulong>);
        table.Add(Code.Umwait_r32, &Wait);
        table.Add(Code.Umwait_r64, &Wait);
        table.Add(Code.Tpause_r32, &Wait);
        table.Add(Code.Tpause_r64, &Wait);
        table.Add(Code.Monitorxw, &MonitorExtended<ushort>);
        table.Add(Code.Monitorxd, &MonitorExtended<uint>);
        table.Add(Code.Monitorxq, &MonitorExtended<ulong>);
        table.Add(Code.Mwaitx, &WaitExtended);
    }

    /// <summary>The address is checked as for a load of a byte.</summary>
    [Spec("SDM", "vol.2B UMONITOR")]
    private static void Monitor<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        Watch<T>(ref cpu, op.Segment, op.Destination);

    private static void Watch<T>(ref CpuState cpu, byte segment, byte register)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.LoadAt((ulong.CreateTruncating(cpu.Read<T>(register)) + cpu.SegmentBase[segment]) & cpu.LinearMask, segment, out byte _);

    /// <summary>Bits of the operand but the lowest are reserved, 31:1 in either operand size.</summary>
    [Spec("SDM", "vol.2B UMWAIT; vol.2B TPAUSE")]
    private static void Wait(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Read<uint>(op.Destination) > 1)
        {
            cpu.Raise(13);
        }
        else
        {
            cpu.Status = 0;
        }
    }

    /// <summary>ECX holds extensions, of which there are none.</summary>
    [Spec("APM", "vol.3 MONITORX")]
    private static void MonitorExtended<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Read<uint>(Gpr.Rcx) != 0)
        {
            cpu.Raise(13);
        }
        else
        {
            Watch<T>(ref cpu, op.Segment, Gpr.Rax);
        }
    }

    /// <summary>ECX: bit 0 lets masked interrupts end the wait, bit 1 takes EBX as a limit; others are reserved.</summary>
    [Spec("APM", "vol.3 MWAITX")]
    private static void WaitExtended(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Read<uint>(Gpr.Rcx) > 3)
        {
            cpu.Raise(13);
        }
    }
}
