using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_set_trap_table.</summary>
internal static class TrapTable
{
    /// <summary>Takes entries up to one with address 0; a null pointer empties the table. An address that the guest cannot have ends the list with -EINVAL, and what came before stays.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: trap table")]
    [Spec("Xen facts", "Hypercall ABI: set_trap_table")]
    [Spec("Xen facts", "Structures: trap_info")]
    public static long Set<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong list)
        where TGuest : struct, IXenGuest
    {
        if (list == 0)
        {
            vcpu.ClearTraps();
            return 0;
        }

        ulong size = 4 + (uint)TGuest.PointerSize + (TGuest.PointerSize == sizeof(ulong) ? 4u : 0);
        for (ulong at = list; ; at += size)
        {
            if (!GuestCopy.TryRead<TGuest, uint>(vcpu, at, out uint head) || !GuestCopy.TryReadLong<TGuest>(vcpu, at + size - (uint)TGuest.PointerSize, out ulong address))
            {
                return Errno.EFAULT;
            }

            if (address == 0)
            {
                return 0;
            }

            if (!TGuest.IsHandler(ref cpu, address))
            {
                return Errno.EINVAL;
            }

            vcpu.SetTrap(new XenTrap((byte)head, (byte)(head >> 8), FixSelector<TGuest>((ushort)(head >> 16)), address));
        }
    }

    /// <summary>RPL of a selector becomes at least the ring of the guest's kernel.</summary>
    [Spec("Xen facts", "Hypercall ABI: set_trap_table")]
    public static ushort FixSelector<TGuest>(ushort selector)
        where TGuest : struct, IXenGuest =>
        (selector & 3) < TGuest.KernelRing() ? (ushort)((selector & ~3) | TGuest.KernelRing()) : selector;
}
