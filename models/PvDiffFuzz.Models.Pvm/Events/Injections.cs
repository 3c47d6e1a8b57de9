using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>What comes from outside: when it is taken, and what tells the guest that it waits.</summary>
internal static class Injections
{
    private const byte NmiVector = 2;

    /// <summary>Makes something pending.</summary>
    public static void Add(Vcpu vcpu, Injection injection)
    {
        if (injection.Kind == InjectionKind.Nmi)
        {
            vcpu.NmiPending = true;
        }
        else
        {
            vcpu.Interrupts.Add(injection.Vector);
        }

        vcpu.LooksOutside = true;
    }

    /// <summary>Tells whether something pending would be taken now.</summary>
    public static bool CanTake<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi =>
        (vcpu.NmiPending && !vcpu.NmiMasked) || (!vcpu.Interrupts.IsEmpty && AreEnabled<TAbi>(vcpu));

    /// <summary>Looks for something pending where the hypervisor has control. There is no shadow after STI or MOV SS.</summary>
    /// <param name="vcpu">The virtual CPU.</param>
    /// <param name="taken">What is to be delivered, with the vector alone.</param>
    /// <returns>False when nothing is to be delivered.</returns>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("pvm-readings", "where-interrupts-are-taken")]
    [Spec("pvm-readings", "order-of-interrupts")]
    public static bool TryTake<TAbi>(Vcpu vcpu, out byte taken)
        where TAbi : struct, IPvmAbi
    {
        vcpu.LooksOutside = false;
        taken = NmiVector;
        if (vcpu.NmiPending && !vcpu.NmiMasked)
        {
            MaskNmi<TAbi>(vcpu);
            return true;
        }

        if (vcpu.Interrupts.IsEmpty)
        {
            return false;
        }

        if (!AreEnabled<TAbi>(vcpu))
        {
            TellPending<TAbi>(vcpu);
            return false;
        }

        taken = vcpu.Interrupts.TakeHighest();
        return true;
    }

    /// <summary>NMIs are held back until a synthetic return.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    public static void UnmaskNmi(Vcpu vcpu) => vcpu.NmiMasked = false;

    /// <summary>Always in user mode; in supervisor mode as the structure's flag says, and not without the structure.</summary>
    [Spec("PVM rfc1", "PVCS::event_flags")]
    private static bool AreEnabled<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi =>
        vcpu.UserMode || (vcpu.HasPvcs && (vcpu.Pvcs<TAbi>()[SystemRegister.PvcsEventFlags] & Vcpu.InterruptFlag) != 0);

    [Spec("PVM rfc1", "States or registers on PVM modes")]
    private static void MaskNmi<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        vcpu.NmiPending = false;
        vcpu.NmiMasked = TAbi.MasksNmi;
    }

    /// <summary>The pending flag is set when an interrupt cannot be taken because the guest has them off.</summary>
    [Spec("PVM rfc1", "PVCS::event_flags")]
    private static void TellPending<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (vcpu.HasPvcs)
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            pvcs[SystemRegister.PvcsEventFlags] |= TAbi.InterruptPending;
        }
    }
}
