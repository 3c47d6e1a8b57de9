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

    /// <summary>The handler of a 32-bit guest has a null code selector.</summary>
    [Spec("Xen facts", "PV32: null code selector of a handler")]
    public static void NullCode(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: the code selector of a handler is null");

    /// <summary>HYPERVISOR_iret of a 32-bit guest to ring 0.</summary>
    [Spec("Xen facts", "PV32: iret to ring 0")]
    public static void ReturnToRing0(Vcpu vcpu) => vcpu.End(Verdict.Crash, "domain crash: HYPERVISOR_iret to ring 0");
}
