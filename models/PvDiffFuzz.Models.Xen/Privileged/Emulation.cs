using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Events;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>Privileged instructions: the processor refuses them with #GP(0) outside ring 0, and Xen does for the guest what it allows it.</summary>
internal static class Emulation
{
    /// <summary>Carries out an instruction that raised #GP(0).</summary>
    /// <returns>False when the fault is the guest's; nothing has changed then.</returns>
    [Spec("Xen facts", "Privileged instructions")]
    public static bool TryRun<TGuest>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
    {
        cpu.Pending = PendingKind.None;
        cpu.Attention &= ~Attention.Stop;
        if (!TryExecute<TGuest>(ref cpu, vcpu, in op))
        {
            cpu.Raise(13);
            return false;
        }

        if (cpu.Pending != PendingKind.None)
        {
            Exceptions.Deliver<TGuest>(ref cpu, vcpu);
        }
        else if (vcpu.Verdict == Verdict.Running)
        {
            Complete<TGuest>(ref cpu, vcpu, op.Length);
        }

        return true;
    }

    /// <summary>After success RF is clear, and a single step traps at once.</summary>
    [Spec("Xen facts", "Privileged instructions: after success")]
    public static void Complete<TGuest>(ref CpuState cpu, Vcpu vcpu, uint length)
        where TGuest : struct, IXenGuest
    {
        cpu.Rip = (cpu.InstructionRip + length) & cpu.LinearMask;
        vcpu.Rflags &= ~RflagsBits.RF;
        if ((vcpu.Rflags & RflagsBits.TF) != 0)
        {
            Exceptions.SingleStep<TGuest>(ref cpu, vcpu);
        }
    }

    /// <summary>Those of kernel and user code depend on the virtual IOPL; the others are for the kernel alone. What is not listed is refused: HLT, INVD, INVLPG, LGDT, SWAPGS and the like.</summary>
    [Spec("Xen facts", "Privileged instructions: user mode")]
    private static bool TryExecute<TGuest>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
    {
        switch (op.Form.Mnemonic())
        {
            case Mnemonic.Cli or Mnemonic.Sti:
                return Ports.PermitsInterruptFlag(vcpu);
            case Mnemonic.In or Mnemonic.Out or Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd or Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd:
                return Ports.TryAccess<TGuest>(ref cpu, vcpu, in op);
            case Mnemonic.Mov when vcpu.KernelMode:
                return Registers.TryMove<TGuest>(ref cpu, vcpu, in op);
            case Mnemonic.Clts when vcpu.KernelMode:
                return ControlRegisters.TryClearTaskSwitched(vcpu);
            case Mnemonic.Rdmsr when vcpu.KernelMode:
                return Msrs.TryRead<TGuest>(ref cpu, vcpu);
            case Mnemonic.Wrmsr when vcpu.KernelMode:
                return Msrs.TryWrite<TGuest>(ref cpu, vcpu);
            case Mnemonic.Wbinvd when vcpu.KernelMode:
                return Ignore();
            case Mnemonic.Xsetbv when vcpu.KernelMode:
                return TrySetExtendedControl(ref cpu, vcpu);
            default:
                return false;
        }
    }

    /// <summary>WBINVD does nothing for a guest without devices. Caches do not show.</summary>
    [Spec("Xen facts", "Privileged instructions: WBINVD")]
    private static bool Ignore() => true;

    /// <summary>XCR0 is no part of a case; there are no others.</summary>
    [Spec("Xen facts", "Privileged instructions: XSETBV")]
    private static bool TrySetExtendedControl(ref CpuState cpu, Vcpu vcpu)
    {
        if (cpu.Read<uint>(X86.Gpr.Rcx) != 0)
        {
            return false;
        }

        vcpu.End(Verdict.Unsupported, "the guest writes XCR0, which is no part of a case");
        return true;
    }
}
