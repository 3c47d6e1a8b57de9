using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>INT n, INT3, INTO, INT1, UD0 to UD2, BOUND, SYSCALL, SYSENTER and their returns: instructions that are there to enter the system.</summary>
/// <remarks>No flag changes.</remarks>
internal static unsafe class Entry
{
    /// <summary>IDT bit of an error code.</summary>
    private const uint Idt = 2;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        bool amd = profile.Vendor == CpuVendor.Amd;
        table.Add(Code.Int_imm8, &Interrupt);
        table.Add(Code.Int3, &Breakpoint);
        table.Add(Code.Into, &InterruptOnOverflow);
        table.Add(Code.Int1, &DebugTrap);
        foreach (Code code in (ReadOnlySpan<Code>)[
            Code.Ud0, Code.Ud0_r16_rm16, Code.Ud0_r32_rm32, Code.Ud0_r64_rm64, Code.Ud1_r16_rm16, Code.Ud1_r32_rm32, Code.Ud1_r64_rm64, Code.Ud2, Code.Rsm])
        {
            // UD0 has a ModRM byte for Intel only; the decoder knows.
            table.Add(code, &OpTable.Undefined);
        }

        table.Add(Code.Bound_r16_m1616, &Bound<short>);
        table.Add(Code.Bound_r32_m3232, &Bound<int>);
        table.Add(Code.Syscall, &SystemCall);
        if (amd)
        {
            table.Add(Code.Sysenter, &OpTable.Undefined);
            table.Add(Code.Sysretd, &OpTable.Privileged);
        }
        else
        {
            table.Add(Code.Sysenter, &OpTable.NotModelled);
            table.Add(Code.Sysretd, &SystemReturn);
        }

        table.Add(Code.Sysretq, &OpTable.Privileged);
        table.Add(Code.Sysexitd, &SystemExit);
        table.Add(Code.Sysexitq, &SystemExit);
    }

    /// <summary>A gate with DPL 3 traps; any other raises #GP with the gate's number.</summary>
    [Spec("SDM", "vol.2A INT n/INTO/INT3/INT1; vol.3A 6.12.1.2 Protection of Exception- and Interrupt-Handler Procedures")]
    private static void Interrupt(ref CpuState cpu, in MicroOp op) => Enter(ref cpu, (byte)op.Immediate);

    [Spec("SDM", "vol.2A INT n/INTO/INT3/INT1")]
    private static void Breakpoint(ref CpuState cpu, in MicroOp op) => Enter(ref cpu, 3);

    [Spec("SDM", "vol.2A INT n/INTO/INT3/INT1")]
    private static void InterruptOnOverflow(ref CpuState cpu, in MicroOp op)
    {
        if ((cpu.Status & Flags.Overflow) != 0)
        {
            Enter(ref cpu, 4);
        }
    }

    /// <summary>INT1 counts as a hardware event: the gate's DPL is not looked at.</summary>
    [Spec("SDM", "vol.2A INT n/INTO/INT3/INT1; vol.3A 6.15 Interrupt 1")]
    private static void DebugTrap(ref CpuState cpu, in MicroOp op) => cpu.Trap(1);

    private static void Enter(ref CpuState cpu, byte vector)
    {
        if (cpu.Profile.UserGates.Contains(vector))
        {
            cpu.Trap(vector);
        }
        else
        {
            cpu.Raise(13, ((uint)vector << 3) | Idt);
        }
    }

    /// <summary>Signed bounds, lower first in memory; the limits are inclusive.</summary>
    [Spec("SDM", "vol.2A BOUND")]
    private static void Bound<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>, ISignedNumber<T>
    {
        ulong second = cpu.LinearAddress(in op, (uint)sizeof(T));
        if (cpu.Load(in op, out T lower) && cpu.LoadAt(second, op.Segment, out T upper))
        {
            T index = cpu.Read<T>(op.Destination);
            if (index < lower || index > upper)
            {
                cpu.Raise(5);
            }
        }
    }

    /// <summary>In compatibility mode Intel raises #UD and AMD enters where CSTAR says, which is the system's affair.</summary>
    [Spec("SDM", "vol.2B SYSCALL")]
    [Spec("APM", "vol.3 SYSCALL")]
    private static void SystemCall(ref CpuState cpu, in MicroOp op)
    {
        if (!cpu.Compatibility)
        {
            if (!cpu.SyscallKeepsRegisters)
            {
                cpu.Write(Gpr.Rcx, cpu.Rip);
                cpu.Write(Gpr.R11, cpu.Rflags & ~Core.RflagsBits.RF);
            }

            cpu.Stop(PendingKind.SystemCall);
        }
        else if (cpu.Profile.Vendor == CpuVendor.Intel)
        {
            cpu.Raise(6);
        }
        else
        {
            OpTable.NotModelled(ref cpu, in op);
        }
    }

    /// <summary>Intel: #UD outside 64-bit mode comes before the privilege check.</summary>
    [Spec("SDM", "vol.2B SYSRET")]
    private static void SystemReturn(ref CpuState cpu, in MicroOp op) => cpu.Raise(cpu.Compatibility ? (byte)6 : (byte)13);

    /// <summary>#GP(0). For AMD #UD applies as well, since SYSEXIT does not exist in long mode; the privilege check is taken to come first.</summary>
    [Spec("SDM", "vol.2B SYSEXIT")]
    [Spec("APM", "vol.3 SYSEXIT; vol.2 4.11 Control-Transfer Privilege Checks")]
    [Spec("x86-readings", "sysexit-order")]
    private static void SystemExit(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);
}
