using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_set_segment_base, which 64-bit guests have.</summary>
internal static class SegmentBases
{
    /// <summary>Base of FS, of GS in user mode, of GS in the kernel; or GS in user mode by a selector.</summary>
    [Spec("Xen facts", "Hypercall ABI: set_segment_base")]
    public static long Set(ref CpuState cpu, Vcpu vcpu, uint which, ulong value)
    {
        const uint userSelector = 3;
        if (which == userSelector)
        {
            LoadUserGs(ref cpu, vcpu, (ushort)value);
            return 0;
        }

        if (which > userSelector || !cpu.Canonical(value))
        {
            return Errno.EINVAL;
        }

        switch (which)
        {
            case 0:
                cpu.SegmentBase[Seg.Fs] = value;
                break;
            case 1:
                vcpu[SystemRegister.KernelGsBase] = value;
                break;
            default:
                cpu.SegmentBase[Seg.Gs] = value;
                break;
        }

        return 0;
    }

    /// <summary>The selector is loaded as user mode would have it, with RPL 3. One that cannot be becomes null; the call succeeds in any case.</summary>
    [Spec("Xen facts", "Hypercall ABI: set_segment_base")]
    [Spec("xen-readings", "base-of-a-null-selector")]
    private static void LoadUserGs(ref CpuState cpu, Vcpu vcpu, ushort selector)
    {
        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        bool loads = found is { Present: true, Dpl: 3 } && Descriptors.IsReadable(found);
        cpu.Selector[Seg.Gs] = loads ? (ushort)(selector | 3) : (selector & 0xfffc) == 0 ? selector : (ushort)0;
        vcpu[SystemRegister.KernelGsBase] = loads ? found!.Base : 0;
    }
}
