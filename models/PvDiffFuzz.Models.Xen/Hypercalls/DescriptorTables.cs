using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_set_gdt and HYPERVISOR_update_descriptor. Both name machine memory, so that only what needs none of it can be told.</summary>
internal static class DescriptorTables
{
    /// <summary>At most 14 pages of descriptors. With none the guest gives its part of the GDT up.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: HYPERVISOR_set_gdt")]
    [Spec("Xen facts", "Hypercall ABI: set_gdt")]
    [Spec("xen-readings", "machine-addresses")]
    public static long SetGdt<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong frames, ulong entries)
        where TGuest : struct, IXenGuest
    {
        const uint entriesInPage = 512;
        uint count = (uint)entries;
        if (count > GuestDescriptors.MaximumEntries)
        {
            return Errno.EINVAL;
        }

        if (count == 0)
        {
            vcpu.DropDescriptors<TGuest>(ref cpu);
            return 0;
        }

        int pages = (int)((count + entriesInPage - 1) / entriesInPage);
        return GuestCopy.CanRead<TGuest>(vcpu, frames, pages * TGuest.PointerSize)
            ? Dispatcher.NotModelled(vcpu, "the guest gives Xen frames for its GDT, and machine addresses are no part of a case")
            : Errno.EFAULT;
    }

    /// <summary>An address that is not a multiple of 8, and a descriptor that the audit refuses, are -EINVAL.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: HYPERVISOR_update_descriptor")]
    [Spec("Xen facts", "Hypercall ABI: update_descriptor")]
    [Spec("xen-readings", "machine-addresses")]
    public static long Update<TGuest>(Vcpu vcpu, scoped ReadOnlySpan<ulong> arguments)
        where TGuest : struct, IXenGuest
    {
        bool narrow = TGuest.PointerSize == sizeof(uint);
        ulong descriptor = narrow ? arguments[2] | (arguments[3] << 32) : arguments[1];
        return (arguments[0] & 7) != 0 || !GuestDescriptors.TryAudit(descriptor, TGuest.KernelRing(), out _)
            ? Errno.EINVAL
            : Dispatcher.NotModelled(vcpu, "the guest updates a descriptor, and machine addresses are no part of a case");
    }
}
