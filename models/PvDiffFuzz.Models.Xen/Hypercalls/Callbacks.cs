using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_callback_op, and the older set_callbacks and nmi_op.</summary>
internal static class Callbacks
{
    private const uint Register = 0;
    private const uint Unregister = 1;
    private const ushort MaskEvents = 1;
    private const ushort NmiType = 4;

    /// <summary>Registers a callback, or takes the NMI's back.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: HYPERVISOR_callback_op")]
    [Spec("Xen facts", "Hypercall ABI: callback_op")]
    [Spec("Xen facts", "Structures: callback_register")]
    public static long Execute<TGuest>(ref CpuState cpu, Vcpu vcpu, uint command, ulong at)
        where TGuest : struct, IXenGuest
    {
        bool narrow = TGuest.PointerSize == sizeof(uint);
        if (command > Unregister)
        {
            return narrow ? Errno.EINVAL : Errno.ENOSYS;
        }

        if (!GuestCopy.TryRead<TGuest, uint>(vcpu, at, out uint head))
        {
            return Errno.EFAULT;
        }

        ushort type = (ushort)head;
        if (command == Unregister)
        {
            return TakeBack(vcpu, type);
        }

        uint cs = 0;
        if ((narrow && !GuestCopy.TryRead<TGuest, uint>(vcpu, at + 4, out cs)) || !GuestCopy.TryReadLong<TGuest>(vcpu, at + 8, out ulong address))
        {
            return Errno.EFAULT;
        }

        if (!TGuest.IsHandler(ref cpu, address))
        {
            return Errno.EINVAL;
        }

        return Set<TGuest>(vcpu, type, (ushort)(head >> 16), (ushort)cs, address);
    }

    /// <summary>Event, failsafe and, in a 64-bit guest, system call callback at once, none of which masks events. A 32-bit guest states selectors too.</summary>
    [Spec("Xen facts", "Hypercall numbers: set_callbacks")]
    public static long SetAll<TGuest>(ref CpuState cpu, Vcpu vcpu, scoped ReadOnlySpan<ulong> arguments)
        where TGuest : struct, IXenGuest
    {
        if (TGuest.PointerSize == sizeof(uint))
        {
            Set<TGuest>(vcpu, 0, 0, (ushort)arguments[0], arguments[1]);
            Set<TGuest>(vcpu, 1, 0, (ushort)arguments[2], arguments[3]);
            return 0;
        }

        for (int i = 0; i < 3; i++)
        {
            if (TGuest.IsHandler(ref cpu, arguments[i]))
            {
                Set<TGuest>(vcpu, (ushort)i, 0, 0, arguments[i]);
            }
        }

        return 0;
    }

    /// <summary>Registers the NMI callback or takes it back.</summary>
    [Spec("Xen facts", "Event and exception delivery: NMI callback")]
    [Spec("Xen facts", "Structures: nmi_op callback")]
    public static long ExecuteNmiOp<TGuest>(ref CpuState cpu, Vcpu vcpu, uint command, ulong at)
        where TGuest : struct, IXenGuest
    {
        if (command > Unregister)
        {
            return Errno.ENOSYS;
        }

        if (command == Unregister)
        {
            return TakeBack(vcpu, NmiType);
        }

        // The address, and a word that has no meaning.
        int size = 2 * TGuest.PointerSize;
        return !GuestCopy.CanRead<TGuest>(vcpu, at, size) || !GuestCopy.TryReadLong<TGuest>(vcpu, at, out ulong address) ? Errno.EFAULT
            : !TGuest.IsHandler(ref cpu, address) ? Errno.EINVAL
            : Set<TGuest>(vcpu, NmiType, 0, TGuest.KernelCode(), address);
    }

    private static long Set<TGuest>(Vcpu vcpu, ushort type, ushort flags, ushort cs, ulong address)
        where TGuest : struct, IXenGuest
    {
        ushort code = TrapTable.FixSelector<TGuest>(cs);
        if (type == NmiType)
        {
            SetNmi(vcpu, new XenTrap(Injection.NmiVector, XenTrap.MaskEvents, TGuest.KernelCode(), address));
            return 0;
        }

        if (KindOf(type) is not XenCallbackKind kind)
        {
            return Errno.ENOSYS;
        }

        vcpu.CallbackOf(kind) = new XenCallback(kind, (flags & MaskEvents) != 0, code, address);
        return 0;
    }

    /// <summary>Nothing but the NMI's can be taken back.</summary>
    [Spec("Xen facts", "Hypercall ABI: callback_op")]
    private static long TakeBack(Vcpu vcpu, ushort type)
    {
        if (type == NmiType)
        {
            SetNmi(vcpu, new XenTrap(Injection.NmiVector, 0, 0, 0));
            return 0;
        }

        return KindOf(type) is null ? Errno.ENOSYS : Errno.EINVAL;
    }

    /// <summary>The NMI callback is entry 2 of the trap table, and masks events.</summary>
    [Spec("Xen facts", "Event and exception delivery: NMI callback")]
    private static void SetNmi(Vcpu vcpu, XenTrap trap) => vcpu.SetTrap(trap);

    private static XenCallbackKind? KindOf(ushort type) => type switch
    {
        0 => XenCallbackKind.Event,
        1 => XenCallbackKind.Failsafe,
        2 => XenCallbackKind.Syscall,
        5 => XenCallbackKind.Sysenter,
        7 => XenCallbackKind.Syscall32,
        _ => null,
    };
}
