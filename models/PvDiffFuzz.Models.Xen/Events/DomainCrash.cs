using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>What brings the domain down.</summary>
internal static class DomainCrash
{
    /// <summary>There is no handler: terminal, similar to a triple fault.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: failure to configure handlers")]
    public static void NoHandler(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: there is no handler for an event");

    /// <summary>The frame of an event cannot be stored.</summary>
    [Spec("Xen facts", "Event and exception delivery: stores of the frame")]
    public static void FrameNotStored(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: the frame of an event cannot be stored");

    /// <summary>The stack for the frame lies in the range that Xen keeps.</summary>
    [Spec("Xen facts", "Event and exception delivery: stack in Xen's range")]
    public static void StackOfXen(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: the stack for the frame of an event lies in Xen's range");

    /// <summary>The frame of HYPERVISOR_iret cannot be read.</summary>
    [Spec("Xen facts", "iret hypercall: frame that cannot be read")]
    public static void FrameNotRead(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: the frame of HYPERVISOR_iret cannot be read");

    /// <summary>User code has no page tables.</summary>
    [Spec("Xen facts", "iret hypercall: no user page tables")]
    public static void NoUserRoot(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: HYPERVISOR_iret to user mode without page tables for it");

    /// <summary>A SYSCALL of user code without a callback, in releases that do not turn it into a fault.</summary>
    [Spec("Xen PV traps", "PV Guest's configuration: warning, prior to Xen 4.15")]
    public static void NoSyscallCallback(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: SYSCALL of user code without a callback");

    /// <summary>A 32-bit guest asks for a code selector of Xen's.</summary>
    [Spec("Xen facts", "PV32: selectors of ring 0")]
    public static void SelectorOfXen(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: a selector of ring 0 for code of a guest");
}
