using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_fpu_taskswitch.</summary>
internal static class Fpu
{
    /// <summary>Sets or clears TS of the virtual CR0.</summary>
    [Spec("Xen facts", "Hypercall ABI: fpu_taskswitch")]
    public static long Taskswitch(Vcpu vcpu, uint set)
    {
        if (vcpu.Knows(SystemRegister.Cr0))
        {
            ulong cr0 = vcpu[SystemRegister.Cr0];
            vcpu[SystemRegister.Cr0] = set == 0 ? cr0 & ~Vcpu.TaskSwitched : cr0 | Vcpu.TaskSwitched;
        }

        return 0;
    }
}
