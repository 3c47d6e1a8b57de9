using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>Exceptions of the processor that become those of the guest, with what the guest keeps of each.</summary>
internal static class Exceptions
{
    /// <summary>#GP(0) with RIP and RFLAGS as they are.</summary>
    public static void GeneralProtection<TGuest>(ref CpuState cpu, Vcpu vcpu, uint error)
        where TGuest : struct, IXenGuest =>
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 13, error));

    /// <summary>What is pending in the processor, when it is none of the things that Xen does something else with.</summary>
    [Spec("Xen PV traps", "Notes: UDn and BOUND are faults like others")]
    [Spec("Xen facts", "Event and exception delivery: trap table")]
    public static void Deliver<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        byte vector = cpu.PendingVector;
        switch (vector)
        {
            case 1:
                DebugException<TGuest>(ref cpu, vcpu);
                break;
            case 7:
                ClearTaskSwitched(vcpu);
                TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector));
                break;
            case 14:
                PageFault<TGuest>(ref cpu, vcpu, cpu.PendingError, cpu.PendingCr2);
                break;
            default:
                TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector, X86.Delivery.PushesError(ref cpu) ? cpu.PendingError : null));
                break;
        }
    }

    /// <summary>#PF: the address goes to the virtual CR2, which the vcpu_info shows; U of the error code tells the guest's mode.</summary>
    [Spec("Xen facts", "Event and exception delivery: #PF")]
    public static void PageFault<TGuest>(ref CpuState cpu, Vcpu vcpu, uint error, ulong address)
        where TGuest : struct, IXenGuest
    {
        vcpu[SystemRegister.Cr2] = address;
        uint shown = (error & ~X86.PageFault.User) | (vcpu.KernelMode ? 0 : X86.PageFault.User);
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 14, shown, address));
    }

    /// <summary>#NM: TS of the virtual CR0 is clear in the handler.</summary>
    [Spec("Xen facts", "Event and exception delivery: #NM")]
    private static void ClearTaskSwitched(Vcpu vcpu)
    {
        if (vcpu.Knows(SystemRegister.Cr0))
        {
            vcpu[SystemRegister.Cr0] &= ~Vcpu.TaskSwitched;
        }
    }

    /// <summary>A single step right where the guest would go on.</summary>
    public static void SingleStep<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        MergeDr6(vcpu, Breakpoints.SingleStep);
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 1));
    }

    /// <summary>INT1 reaches the handler of #DB from anywhere, and leaves DR6 alone.</summary>
    [Spec("Xen PV traps", "INT1 does not check DPL")]
    [Spec("Xen facts", "Software interrupts: ICEBP")]
    public static void Int1<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest =>
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 1));

    /// <summary>#DB: what was met is merged into the virtual DR6.</summary>
    [Spec("Xen facts", "Event and exception delivery: #DB")]
    private static void DebugException<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        MergeDr6(vcpu, cpu.DebugStatus);
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 1));
    }

    /// <summary>Bits are added; a breakpoint that is met takes the place of those met before, in releases with one way to do this.</summary>
    [Spec("Xen facts", "Version table: DR6 merge")]
    private static void MergeDr6(Vcpu vcpu, ulong met)
    {
        const ulong breakpoints = 0xf;
        ulong now = vcpu[SystemRegister.Dr6];
        vcpu[SystemRegister.Dr6] = (vcpu.Release.ReplacesMetBreakpoints && (met & breakpoints) != 0 ? now & ~breakpoints : now) | met;
    }
}
