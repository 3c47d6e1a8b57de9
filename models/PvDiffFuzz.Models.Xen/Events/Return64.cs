using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>HYPERVISOR_iret of a 64-bit guest, and the last step by which Xen goes back to it.</summary>
internal static class Return64
{
    /// <summary>Quadwords of the frame: RAX, R11, RCX, flags, RIP, CS, RFLAGS, RSP, SS.</summary>
    public const int FrameWords = 9;

    private const ulong ReturnsFromSyscall = TestCase.XenIretInSyscall;
    private const int ArchitecturalIopl = 4;

    /// <summary>Bits of RFLAGS that are known.</summary>
    private const ulong Known = RflagsBits.Status | RflagsBits.TF | RflagsBits.IF | RflagsBits.DF | RflagsBits.IOPL | RflagsBits.NT | RflagsBits.RF | RflagsBits.VM | RflagsBits.AC
        | RflagsBits.VIF | RflagsBits.VIP | RflagsBits.ID | RflagsBits.Fixed1;

    /// <summary>Bits that the processor loads when Xen returns.</summary>
    private const ulong Loadable = Known & ~Vcpu.NeverLoaded;

    /// <summary>Reads the frame at RSP and returns by it.</summary>
    [Spec("Xen facts", "iret hypercall: PV64 frame")]
    public static void ByStack<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        const int length = FrameWords * sizeof(ulong);
        ulong at = cpu.Read<ulong>(Gpr.Rsp);
        if (!TGuest.IsGuestAddress(at) || !TGuest.IsGuestAddress(at + length - 1) || !vcpu.Memory.CanRead(at, length, out _, out _))
        {
            DomainCrash.FrameNotRead(vcpu);
            return;
        }

        Span<ulong> w = stackalloc ulong[FrameWords];
        for (int i = 0; i < FrameWords; i++)
        {
            w[i] = vcpu.Memory.Read<ulong>(at + ((ulong)i * sizeof(ulong)));
        }

        TGuest.Return(ref cpu, vcpu, new ReturnFrame(w[0], w[1], w[2], w[3], w[4], (ushort)w[5], w[6], w[7], (ushort)w[8]));
    }

    /// <summary>Loads the frame. RPL 3 of CS means user mode, any other the kernel.</summary>
    [Spec("Xen facts", "iret hypercall: mode")]
    [Spec("Xen facts", "iret hypercall: VGCF_in_syscall")]
    public static void Load<TGuest>(ref CpuState cpu, Vcpu vcpu, in ReturnFrame frame)
        where TGuest : struct, IXenGuest
    {
        if ((frame.Cs & 3) == 3)
        {
            if (vcpu.Case.Xen!.UserLayout is { Ranges.IsEmpty: true })
            {
                DomainCrash.NoUserRoot(vcpu);
                return;
            }

            vcpu.SwitchMode<TGuest>(ref cpu, kernel: false);
        }

        cpu.Rip = frame.Rip;
        cpu.Selector[Seg.Cs] = (ushort)(frame.Cs | 3);
        cpu.Selector[Seg.Ss] = (ushort)(frame.Ss | 3);
        cpu.Write(Gpr.Rsp, frame.Rsp);
        cpu.Write(Gpr.Rax, frame.Rax);
        LoadFlags(vcpu, frame.Rflags);
        vcpu.ReturnsFromSyscall = (frame.Flags & ReturnsFromSyscall) != 0;
        if (!vcpu.ReturnsFromSyscall)
        {
            cpu.Write(Gpr.Rcx, frame.Rcx);
            cpu.Write(Gpr.R11, frame.R11);
        }
    }

    /// <summary>IF becomes the inverse of the upcall mask and is set underneath; IOPL is the virtual one's where the guest has asked for that.</summary>
    [Spec("Xen facts", "iret hypercall: RFLAGS")]
    [Spec("Xen facts", "Version table: iret clamps RFLAGS")]
    public static void LoadFlags(Vcpu vcpu, ulong rflags)
    {
        if (vcpu.Assists(ArchitecturalIopl))
        {
            vcpu[SystemRegister.XenIopl] = rflags >> 12 & 3;
        }

        vcpu.UpcallMask = (byte)((rflags & RflagsBits.IF) == 0 ? 1 : 0);
        ulong kept = vcpu.Release.ClampsIretFlags ? (rflags & Known) | RflagsBits.Fixed1 : rflags;
        vcpu.Rflags = (kept & ~Vcpu.NeverLoaded) | RflagsBits.IF;
    }

    /// <summary>By SYSRET after system calls and into handlers, else by IRET.</summary>
    /// <returns>False after a fault of the IRET, which the guest gets as if it had happened where it was to go on.</returns>
    [Spec("Xen facts", "iret hypercall: bad selectors")]
    public static bool TryLeave<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        bool fromSyscall = vcpu.ReturnsFromSyscall;
        if (fromSyscall)
        {
            LeaveFromSyscall<TDelivery>(ref cpu, vcpu);
        }

        if (ReturnChecks.Find(ref cpu, vcpu, ring: 3) is (byte vector, uint error))
        {
            vcpu.ReturnsFromSyscall = false;
            TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector, error));
            return false;
        }

        if (vcpu.Verdict != Verdict.Running)
        {
            return true;
        }

        if (fromSyscall && (vcpu.Rflags & RflagsBits.TF) != 0)
        {
            StepAfterSysret<TGuest>(ref cpu, vcpu);
            return false;
        }

        vcpu.ReturnsFromSyscall = false;
        X86.Delivery.Resume(ref cpu, (vcpu.Rflags & Loadable) | RflagsBits.Fixed1);
        return true;
    }

    /// <summary>RCX is RIP and R11 RFLAGS, CS and SS are flat: 32-bit code for exactly that selector. A RIP that is not canonical is left to IRET, with the selectors as they are.</summary>
    [Spec("Xen facts", "iret hypercall: VGCF_in_syscall")]
    [Spec("Xen facts", "Event and exception delivery: RCX and R11")]
    [Spec("Xen FRED", "SYSCALL and ERETU: preserve the legacy behaviour for RCX and R11")]
    [Spec("xen-readings", "selectors-after-syscall-under-fred")]
    private static void LeaveFromSyscall<TDelivery>(ref CpuState cpu, Vcpu vcpu)
        where TDelivery : struct, IDelivery
    {
        if (TDelivery.LoadsRcx(vcpu.Release))
        {
            cpu.Write(Gpr.Rcx, cpu.Rip);
            cpu.Write(Gpr.R11, vcpu.Rflags);
        }

        if (cpu.Canonical(cpu.Rip))
        {
            cpu.Selector[Seg.Cs] = cpu.Selector[Seg.Cs] == XenMap.FlatCode32 ? XenMap.FlatCode32 : XenMap.FlatCode64;
            cpu.Selector[Seg.Ss] = XenMap.FlatData;
        }
    }

    /// <summary>SYSRET with TF traps at once, before an instruction of the guest. RFLAGS have been loaded then.</summary>
    [Spec("xen-readings", "single-step-over-sysret")]
    private static void StepAfterSysret<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        vcpu.ReturnsFromSyscall = false;
        vcpu.Rflags = (vcpu.Rflags & Loadable) | RflagsBits.Fixed1;
        Exceptions.SingleStep<TGuest>(ref cpu, vcpu);
    }
}
