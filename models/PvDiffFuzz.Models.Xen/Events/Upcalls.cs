using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>Event upcalls: all that a PV guest gets of external interrupts.</summary>
internal static class Upcalls
{
    /// <summary>Delivers one if something is pending and not masked, whenever Xen would go back to the guest. The handler always starts masked. What is pending stays so until the guest clears it.</summary>
    [Spec("Xen facts", "Event and exception delivery: event upcall")]
    [Spec("Xen PV traps", "External interrupts are routed to PV guests via the event channel interface")]
    public static void DeliverDue<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        if (vcpu.UpcallDue)
        {
            Bounce bounce = Bounce.ToCallback(in vcpu.CallbackOf(XenCallbackKind.Event), EntryPoint.XenEvent, EventKind.Upcall);
            TGuest.Enter(ref cpu, vcpu, bounce with { MasksEvents = true });
        }
    }
}
