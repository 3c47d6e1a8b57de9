using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>What the processor checks when Xen returns to a guest by IRET.</summary>
internal static class ReturnChecks
{
    /// <summary>Finds the fault of Xen's IRET to CS:RIP and SS.</summary>
    /// <param name="cpu">State with what is to be loaded.</param>
    /// <param name="vcpu">The virtual CPU; the run ends where the model has no such segment.</param>
    /// <param name="ring">The privilege level that CS names.</param>
    /// <returns>Null when there is none.</returns>
    [Spec("SDM", "vol.2A IRET/IRETD/IRETQ (to an outer privilege level)")]
    public static (byte Vector, uint Error)? Find(ref CpuState cpu, Vcpu vcpu, int ring)
    {
        ushort cs = cpu.Selector[Seg.Cs];
        uint error = cs & 0xfffcu;
        if (Descriptors.Find(cpu.Profile, cs) is not { IsCode: true } code || (code.Long && code.Big) || (Descriptors.IsConforming(code) ? code.Dpl > ring : code.Dpl != ring))
        {
            return (13, error);
        }

        if (!code.Present)
        {
            return (11, error);
        }

        if (code.Long ? !cpu.Canonical(cpu.Rip) : cpu.Rip > code.Limit)
        {
            return (13, 0);
        }

        if (FindStack(ref cpu, ring) is (byte, uint) fault)
        {
            return fault;
        }

        EndWhereNotModelled(ref cpu, vcpu, code);
        return null;
    }

    private static (byte Vector, uint Error)? FindStack(ref CpuState cpu, int ring)
    {
        ushort ss = cpu.Selector[Seg.Ss];
        uint error = ss & 0xfffcu;
        if (Descriptors.Find(cpu.Profile, ss) is not SegmentDescriptor stack || !Descriptors.IsWritable(stack) || stack.Dpl != ring || (ss & 3) != ring)
        {
            return (13, error);
        }

        return stack.Present ? null : (12, error);
    }

    private static void EndWhereNotModelled(ref CpuState cpu, Vcpu vcpu, SegmentDescriptor code)
    {
        bool flat = code.Long || (code.Big && code.Base == 0 && code.Limit == uint.MaxValue);
        if (!flat || (!code.Long && Descriptors.Find(cpu.Profile, cpu.Selector[Seg.Ss]) is { Big: false }))
        {
            vcpu.End(Verdict.Unsupported, "the model has no 32-bit code in segments with a base, a limit or 16-bit defaults");
        }
    }
}
