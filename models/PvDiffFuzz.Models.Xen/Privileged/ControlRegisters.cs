using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>CR0, CR2, CR3 and CR4 of a guest. There is no CR8 for it.</summary>
internal static class ControlRegisters
{
    private const ulong Tsd = 1UL << 2;
    private const ulong De = 1UL << 3;
    private const ulong Fsgsbase = 1UL << 16;
    private const ulong Osxsave = 1UL << 18;

    /// <summary>Reads a control register.</summary>
    /// <returns>False for #GP(0).</returns>
    [Spec("Xen facts", "Privileged instructions: CR0")]
    [Spec("Xen facts", "Privileged instructions: CR2")]
    public static bool TryRead(Vcpu vcpu, int number, out ulong value)
    {
        value = 0;
        switch (number)
        {
            case 0:
                return TryReadStated(vcpu, SystemRegister.Cr0, out value);
            case 2:
                value = vcpu[SystemRegister.Cr2];
                return true;
            case 3:
                NameFrame(vcpu);
                return true;
            case 4:
                return TryReadStated(vcpu, SystemRegister.Cr4, out value);
            default:
                return false;
        }
    }

    /// <summary>Writes a control register.</summary>
    /// <returns>False for #GP(0).</returns>
    public static bool TryWrite<TGuest>(ref CpuState cpu, Vcpu vcpu, int number, ulong value)
        where TGuest : struct, IXenGuest
    {
        switch (number)
        {
            case 0:
                return TryWriteCr0(vcpu, value);
            case 2:
                vcpu[SystemRegister.Cr2] = value;
                return true;
            case 3:
                NameFrame(vcpu);
                return true;
            case 4:
                WriteCr4<TGuest>(ref cpu, vcpu, value);
                return true;
            default:
                return false;
        }
    }

    /// <summary>CLTS clears TS of the virtual CR0.</summary>
    [Spec("Xen facts", "Privileged instructions: CR0")]
    public static bool TryClearTaskSwitched(Vcpu vcpu)
    {
        if (vcpu.Knows(SystemRegister.Cr0))
        {
            vcpu[SystemRegister.Cr0] &= ~Vcpu.TaskSwitched;
        }

        return true;
    }

    /// <summary>Only TS can change.</summary>
    [Spec("Xen facts", "Privileged instructions: CR0")]
    private static bool TryWriteCr0(Vcpu vcpu, ulong value)
    {
        if (!TryReadStated(vcpu, SystemRegister.Cr0, out ulong now) || vcpu.Verdict != Verdict.Running)
        {
            return true;
        }

        if (((value ^ now) & ~Vcpu.TaskSwitched) != 0)
        {
            return false;
        }

        vcpu[SystemRegister.Cr0] = value;
        return true;
    }

    /// <summary>Never faults. TSD, DE, FSGSBASE and OSXSAVE are the guest's, as far as the processor has them; every other bit stays.</summary>
    [Spec("Xen facts", "Privileged instructions: CR4")]
    private static void WriteCr4<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong value)
        where TGuest : struct, IXenGuest
    {
        ulong guests = Tsd | De | (vcpu.Host.Has("FSGSBASE") ? Fsgsbase : 0) | (vcpu.Host.Has("OSXSAVE") ? Osxsave : 0);
        if (!TryReadStated(vcpu, SystemRegister.Cr4, out ulong now) || vcpu.Verdict != Verdict.Running)
        {
            return;
        }

        ulong next = (now & ~guests) | (value & guests);
        vcpu[SystemRegister.Cr4] = next;
        if (((now ^ next) & Fsgsbase) != 0)
        {
            vcpu.UpdateProcessor<TGuest>(ref cpu);
        }
    }

    /// <summary>CR3 names a frame of machine memory.</summary>
    [Spec("Xen facts", "Privileged instructions: CR3")]
    [Spec("xen-readings", "machine-addresses")]
    private static void NameFrame(Vcpu vcpu) => vcpu.End(Verdict.Unsupported, "the guest accesses CR3, and machine addresses are no part of a case");

    private static bool TryReadStated(Vcpu vcpu, SystemRegister register, out ulong value)
    {
        value = vcpu[register];
        if (!vcpu.Knows(register))
        {
            vcpu.End(Verdict.Unsupported, "the guest accesses a control register that the case does not state");
        }

        return true;
    }
}
