using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>SYSCALL and SYSENTER of a 64-bit guest.</summary>
internal static class SystemCalls64
{
    /// <summary>Length of a SYSCALL without prefixes.</summary>
    private const ulong PlainLength = 2;

    /// <summary>SYSCALL of 64-bit user code. The frame shows the flat selectors, whatever they were.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: callback type syscall")]
    [Spec("Xen facts", "SYSCALL and SYSENTER: PV64 user")]
    public static void User<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        ref XenCallback callback = ref vcpu.CallbackOf(XenCallbackKind.Syscall);
        if (callback.Address == 0)
        {
            Unregistered<TGuest, TDelivery>(ref cpu, vcpu, in op, XenMap.FlatCode64);
            return;
        }

        cpu.Selector[Seg.Cs] = XenMap.FlatCode64;
        cpu.Selector[Seg.Ss] = XenMap.FlatData;
        TGuest.Enter(ref cpu, vcpu, Bounce.ToCallback(in callback, EntryPoint.XenSyscall, EventKind.SystemCall));
        ClearDirection(vcpu);
    }

    /// <summary>SYSCALL of 32-bit user code, on AMD processors: RCX and R11 are loaded there too.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: callback type syscall32")]
    [Spec("Xen facts", "SYSCALL and SYSENTER: 32-bit user code")]
    public static void User32<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        ref XenCallback callback = ref vcpu.CallbackOf(XenCallbackKind.Syscall32);
        if (callback.Address == 0)
        {
            Unregistered<TGuest, TDelivery>(ref cpu, vcpu, in op, XenMap.FlatCode32);
            return;
        }

        cpu.Selector[Seg.Cs] = XenMap.FlatCode32;
        cpu.Selector[Seg.Ss] = XenMap.FlatData;
        Bounce bounce = Bounce.ToCallback(in callback, EntryPoint.XenSyscall32, EventKind.SystemCall);
        TGuest.Enter(ref cpu, vcpu, bounce with { MasksEvents = vcpu.CallbackOf(TDelivery.MaskOfSyscall32()).MaskEvents });
        ClearDirection(vcpu);
    }

    /// <summary>SYSENTER: the processor tells neither where it was executed nor the stack, so that the frame has zeros for both.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: callback type sysenter")]
    [Spec("Xen facts", "SYSCALL and SYSENTER: SYSENTER")]
    [Spec("xen-readings", "sysenter-under-fred")]
    [Spec("xen-readings", "flags-of-sysenter")]
    public static void Sysenter<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        ref XenCallback callback = ref vcpu.CallbackOf(XenCallbackKind.Sysenter);
        bool registered = callback.Address != 0;
        vcpu.Rflags &= ~RflagsBits.RF;
        if (registered || !TDelivery.TellsSysenter())
        {
            Lose(ref cpu, vcpu, keepsStack: TDelivery.TellsSysenter() && vcpu.KernelMode);
        }

        if (registered)
        {
            TGuest.Enter(ref cpu, vcpu, Bounce.ToCallback(in callback, EntryPoint.XenSysenter, EventKind.SystemCall));
        }
        else
        {
            Exceptions.GeneralProtection<TGuest>(ref cpu, vcpu, 0);
        }
    }

    private static void Lose(ref CpuState cpu, Vcpu vcpu, bool keepsStack)
    {
        const ushort nullCs = 3;
        cpu.Rip = 0;
        cpu.Selector[Seg.Cs] = nullCs;
        cpu.Selector[Seg.Ss] = XenMap.FlatData;
        if (!keepsStack)
        {
            cpu.Write(Gpr.Rsp, 0UL);
        }
    }

    /// <summary>Without a callback, a fault like that of a processor without SYSCALL: #UD at the instruction, as far as its length is known. RCX and R11 are lost.</summary>
    [Spec("Xen PV traps", "Notes: INT $0x80, SYSCALL, SYSENTER need turning back into faults")]
    [Spec("Xen facts", "Version table: SYSCALL with no callback")]
    [Spec("xen-readings", "selectors-of-unregistered-syscall")]
    private static void Unregistered<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op, ushort code)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        if (!vcpu.Release.FaultsUnregisteredSyscall)
        {
            DomainCrash.NoSyscallCallback(vcpu);
            return;
        }

        if (TDelivery.TellsLength())
        {
            cpu.Rip -= op.Length;
        }
        else
        {
            cpu.Rip -= PlainLength;
            cpu.Selector[Seg.Cs] = code;
            cpu.Selector[Seg.Ss] = XenMap.FlatData;
        }

        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, 6));
        if (!vcpu.Release.KeepsDirectionOnSyscallFault)
        {
            ClearDirection(vcpu);
        }
    }

    /// <summary>Handlers of system calls start with DF clear. The frame shows it as it was.</summary>
    [Spec("Xen facts", "SYSCALL and SYSENTER: live flags")]
    private static void ClearDirection(Vcpu vcpu) => vcpu.Rflags &= ~RflagsBits.DF;
}
