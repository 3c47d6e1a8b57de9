using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>INT3, INTO and <c>INT n</c>: gates of Xen's IDT that are open, and the guest's choice for those that are not.</summary>
internal static class SoftwareInterrupts
{
    private const byte SystemCallVector = 0x80;

    /// <summary>Length of an INT n without prefixes.</summary>
    private const ulong PlainLength = 2;

    /// <summary>A gate that is open: 3, 4 and 80h. The first two are as exceptions, whatever DPL the guest chose.</summary>
    [Spec("Xen PV traps", "Xen's configuration: vectors 3 and 4")]
    [Spec("Xen PV traps", "Notes: INT3 vs INT $3 and INTO vs INT $4")]
    public static void Deliver<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        if (vector == SystemCallVector)
        {
            SystemCall<TGuest, TDelivery>(ref cpu, vcpu, in op);
        }
        else
        {
            TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector));
        }
    }

    /// <summary>The fast path of INT 80h needs a handler. Without one it is turned back into a fault: RIP goes back by what is known of the instruction's length.</summary>
    [Spec("Xen PV traps", "Xen's configuration: vector 0x80")]
    [Spec("Xen PV traps", "Notes: INT $0x80, SYSCALL, SYSENTER need turning back into faults")]
    [Spec("Xen facts", "Software interrupts: INT 80h")]
    private static void SystemCall<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        XenTrap trap = vcpu.TrapOf(SystemCallVector);
        if (trap.Address == 0 || (TDelivery.ChecksInt80() && !MayReach(vcpu, trap)))
        {
            cpu.Rip -= TDelivery.TellsLength() ? op.Length : PlainLength;
            vcpu.Rflags &= ~RflagsBits.RF;
            Exceptions.GeneralProtection<TGuest>(ref cpu, vcpu, ErrorOf(SystemCallVector));
            return;
        }

        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, SystemCallVector));
    }

    /// <summary>Any other vector: #GP in Xen, which looks at the guest's virtual DPL. What is delivered then is a trap without an error code, whatever the vector.</summary>
    [Spec("Xen PV traps", "Xen's configuration: most gates DPL0, INT $N")]
    [Spec("Xen facts", "Software interrupts: other INT n")]
    public static void Emulate<TGuest, TDelivery>(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector)
        where TGuest : struct, IXenGuest
        where TDelivery : struct, IDelivery
    {
        XenTrap trap = vcpu.TrapOf(vector);
        if (!TDelivery.FaultsOnInt())
        {
            vcpu.Rflags &= ~RflagsBits.RF;
        }

        if (trap.Address == 0 || !MayReach(vcpu, trap))
        {
            Exceptions.GeneralProtection<TGuest>(ref cpu, vcpu, ErrorOf(vector));
            return;
        }

        cpu.Rip = (cpu.Rip + LengthOf<TDelivery>(vcpu, in op)) & cpu.LinearMask;
        TGuest.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector));
    }

    /// <summary>Where an emulated INT n ends: releases that do not look at the instruction take it for one without prefixes, and the guest resumes inside it.</summary>
    [Spec("Xen facts", "Version table: INT n emulation")]
    private static ulong LengthOf<TDelivery>(Vcpu vcpu, in MicroOp op)
        where TDelivery : struct, IDelivery =>
        TDelivery.TellsLength() || vcpu.Release.CountsPrefixesOfInt ? op.Length : PlainLength;

    /// <summary>The kernel counts as ring 1, user code as ring 3.</summary>
    [Spec("Xen facts", "Software interrupts: virtual DPL")]
    private static bool MayReach(Vcpu vcpu, XenTrap trap) => trap.Dpl >= (vcpu.KernelMode ? 1 : 3);

    /// <summary>The gate's number with the IDT bit, as the processor has it.</summary>
    [Spec("Xen facts", "Software interrupts: error code")]
    private static uint ErrorOf(byte vector) => ((uint)vector << 3) | 2;
}
