using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_vm_assist.</summary>
internal static class Assists
{
    private const ulong Known = 0x1_0000_003f;

    /// <summary>Enables or disables an assist. A 32-bit guest has those that fit its words.</summary>
    [Spec("Xen facts", "Structures: VM assists")]
    public static long Execute<TGuest>(Vcpu vcpu, ulong command, ulong number)
        where TGuest : struct, IXenGuest
    {
        const uint enable = 0;
        const uint disable = 1;
        uint bit = (uint)number;
        if (bit >= TGuest.PointerSize * 8 || (Known >> (int)bit & 1) == 0)
        {
            return Errno.EINVAL;
        }

        switch ((uint)command)
        {
            case enable:
                vcpu[SystemRegister.XenVmAssist] |= 1UL << (int)bit;
                return 0;
            case disable:
                vcpu[SystemRegister.XenVmAssist] &= ~(1UL << (int)bit);
                return 0;
            default:
                return Errno.ENOSYS;
        }
    }
}
