using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_stack_switch.</summary>
internal static class Stacks
{
    /// <summary>Selector and pointer of the stack with which the kernel is entered from user mode. The RPL becomes at least the ring of the kernel; nothing else is looked at.</summary>
    [Spec("Xen facts", "Hypercall ABI: stack_switch")]
    public static long Switch<TGuest>(Vcpu vcpu, ulong selector, ulong pointer)
        where TGuest : struct, IXenGuest
    {
        vcpu[SystemRegister.XenKernelSs] = TrapTable.FixSelector<TGuest>((ushort)selector);
        vcpu[SystemRegister.XenKernelSp] = pointer;
        return 0;
    }
}
