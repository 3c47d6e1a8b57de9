using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_physdev_op: the guest's right to ports and to CLI and STI.</summary>
internal static class PhysicalDevices
{
    private const uint SetIopl = 6;
    private const uint SetIobitmap = 7;
    private const uint MaximumPorts = 0x1_0000;
    private const uint Highest = 31;

    /// <summary>Sets the virtual IOPL or the I/O bitmap; devices are no part of a case.</summary>
    [Spec("Xen facts", "Hypercall ABI: physdev set_iopl")]
    public static long Execute<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong command, ulong at)
        where TGuest : struct, IXenGuest
    {
        switch ((uint)command)
        {
            case SetIopl:
                return SetPrivilege<TGuest>(vcpu, at);
            case SetIobitmap:
                return SetBitmap<TGuest>(vcpu, at);
            default:
                return (uint)command > Highest ? Errno.ENOSYS : Dispatcher.NotModelled(vcpu, "a command of HYPERVISOR_physdev_op about devices");
        }
    }

    private static long SetPrivilege<TGuest>(Vcpu vcpu, ulong at)
        where TGuest : struct, IXenGuest
    {
        const uint highest = 3;
        if (!GuestCopy.TryRead<TGuest, uint>(vcpu, at, out uint iopl))
        {
            return Errno.EFAULT;
        }

        if (iopl > highest)
        {
            return Errno.EINVAL;
        }

        vcpu[SystemRegister.XenIopl] = iopl;
        return 0;
    }

    /// <summary>The bitmap stays in the guest's memory and is read at each access.</summary>
    [Spec("Xen facts", "Privileged instructions: I/O bitmap")]
    private static long SetBitmap<TGuest>(Vcpu vcpu, ulong at)
        where TGuest : struct, IXenGuest
    {
        // A pointer and a number of 32 bits, with the padding that makes it two pointers long.
        if (!GuestCopy.CanRead<TGuest>(vcpu, at, 2 * TGuest.PointerSize) || !GuestCopy.TryReadLong<TGuest>(vcpu, at, out ulong bitmap) || !GuestCopy.TryRead<TGuest, uint>(vcpu, at + (uint)TGuest.PointerSize, out uint ports))
        {
            return Errno.EFAULT;
        }

        if (ports > MaximumPorts || !TGuest.IsGuestAddress(bitmap))
        {
            return Errno.EINVAL;
        }

        vcpu.IoBitmap = bitmap;
        vcpu.IoBitmapPorts = ports;
        return 0;
    }
}
