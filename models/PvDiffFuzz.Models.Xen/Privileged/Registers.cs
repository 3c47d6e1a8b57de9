using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Hypercalls;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>MOV to and from control and debug registers.</summary>
internal static class Registers
{
    /// <summary>Carries a MOV out.</summary>
    /// <returns>False for #GP(0).</returns>
    public static bool TryMove<TGuest>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
    {
        switch (op.Form)
        {
            case Code.Mov_r64_cr or Code.Mov_r32_cr:
                if (!ControlRegisters.TryRead(vcpu, op.Source, out ulong control))
                {
                    return false;
                }

                cpu.Write(op.Destination, control);
                return true;
            case Code.Mov_cr_r64 or Code.Mov_cr_r32:
                return ControlRegisters.TryWrite<TGuest>(ref cpu, vcpu, op.Destination, ReadRegister(ref cpu, op.Source));
            case Code.Mov_r64_dr or Code.Mov_r32_dr:
                if (!DebugRegisterFile.TryGet(vcpu, op.Source, out ulong value))
                {
                    Missing(ref cpu);
                    return true;
                }

                cpu.Write(op.Destination, value);
                return true;
            case Code.Mov_dr_r64 or Code.Mov_dr_r32:
                return TryWriteDebug<TGuest>(ref cpu, vcpu, op.Destination, ReadRegister(ref cpu, op.Source));
            default:
                return false;
        }
    }

    private static ulong ReadRegister(ref CpuState cpu, byte register) => cpu.Compatibility ? cpu.Read<uint>(register) : cpu.Read<ulong>(register);

    /// <summary>What HYPERVISOR_set_debugreg refuses is #GP(0).</summary>
    [Spec("Xen facts", "Privileged instructions: debug registers")]
    private static bool TryWriteDebug<TGuest>(ref CpuState cpu, Vcpu vcpu, int number, ulong value)
        where TGuest : struct, IXenGuest
    {
        switch (DebugRegisterFile.Set<TGuest>(ref cpu, vcpu, (uint)number, value))
        {
            case 0:
                return true;
            case Errno.ENODEV:
                Missing(ref cpu);
                return true;
            default:
                return false;
        }
    }

    /// <summary>DR4 and DR5 are #UD where the guest's CR4.DE says so.</summary>
    [Spec("Xen facts", "Privileged instructions: DR4 and DR5")]
    private static void Missing(ref CpuState cpu) => cpu.Raise(6);
}
