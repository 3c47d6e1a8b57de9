using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>SYSCALL and SYSENTER of a 32-bit guest, and INT 82h by which its kernel calls Xen.</summary>
internal static class SystemCalls32
{
    /// <summary>The vector of hypercalls.</summary>
    public const byte HypercallVector = 0x82;

    /// <summary>Length of a SYSCALL without prefixes.</summary>
    private const uint PlainLength = 2;

    /// <summary>Ring 1 reaches the gate; in ring 3 it is like any other INT n.</summary>
    [Spec("Xen PV traps", "Xen's configuration: vector 0x82")]
    [Spec("Xen hypercall ABI", "Mode transfer: 32bit PV")]
    public static bool IsHypercall(Vcpu vcpu, byte vector) => vector == HypercallVector && vcpu.KernelMode;

    /// <summary>A hypercall: the guest goes on after the instruction.</summary>
    public static void Hypercall(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        cpu.Rip = (cpu.Rip + op.Length) & cpu.LinearMask;
        vcpu.Rflags &= ~RflagsBits.RF;
        Hypercalls.Dispatcher.Execute<Pv32>(ref cpu, vcpu);
    }

    /// <summary>SYSCALL of user code, on AMD processors: ECX is the address after it, and the frame shows the flat selectors. Without a callback it is #GP(0) at the instruction.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: callback type syscall32")]
    [Spec("Xen facts", "PV32: SYSCALL")]
    [Spec("xen-readings", "flags-of-syscall-in-32-bit-guests")]
    public static void User(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        if (vcpu.KernelMode)
        {
            vcpu.End(Verdict.Unsupported, "no text says what a SYSCALL of the kernel of a 32-bit guest does");
            return;
        }

        cpu.Rip = (cpu.InstructionRip + op.Length) & cpu.LinearMask;
        vcpu.Rflags &= ~RflagsBits.RF;
        cpu.Write(Gpr.Rcx, (uint)cpu.Rip);
        ref XenCallback callback = ref vcpu.CallbackOf(XenCallbackKind.Syscall32);
        if (callback.Address == 0)
        {
            cpu.Rip -= PlainLength;
            Exceptions.GeneralProtection<Pv32>(ref cpu, vcpu, 0);
            return;
        }

        cpu.Selector[Seg.Cs] = XenMap.UserCode32;
        cpu.Selector[Seg.Ss] = XenMap.UserData32;
        BounceFrame32.Enter(ref cpu, vcpu, Bounce.ToCallback(in callback, EntryPoint.XenSyscall32, EventKind.SystemCall));
    }

    /// <summary>SYSENTER, on Intel processors: as for a 64-bit guest, the frame has zeros for what the processor does not tell.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: callback type sysenter")]
    [Spec("Xen facts", "SYSCALL and SYSENTER: SYSENTER")]
    [Spec("xen-readings", "flags-of-sysenter")]
    [Spec("xen-readings", "sysenter-of-32-bit-guests")]
    public static void Sysenter(ref CpuState cpu, Vcpu vcpu)
    {
        const ushort nullCs = 3;
        if (vcpu.KernelMode)
        {
            vcpu.End(Verdict.Unsupported, "no text says what a SYSENTER of the kernel of a 32-bit guest does");
            return;
        }

        vcpu.Rflags &= ~RflagsBits.RF;
        cpu.Rip = 0;
        cpu.Selector[Seg.Cs] = nullCs;
        cpu.Selector[Seg.Ss] = XenMap.UserData32;
        cpu.Write(Gpr.Rsp, 0UL);
        ref XenCallback callback = ref vcpu.CallbackOf(XenCallbackKind.Sysenter);
        if (callback.Address == 0)
        {
            Exceptions.GeneralProtection<Pv32>(ref cpu, vcpu, 0);
        }
        else
        {
            BounceFrame32.Enter(ref cpu, vcpu, Bounce.ToCallback(in callback, EntryPoint.XenSysenter, EventKind.SystemCall));
        }
    }
}
