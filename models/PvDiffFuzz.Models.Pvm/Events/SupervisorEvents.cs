using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>Vector events in supervisor mode: below 32 by a frame on the current stack, from 32 by the structure. There are no other stacks.</summary>
internal static class SupervisorEvents
{
    private const ulong LowEntry = 256;
    private const ulong HighEntry = 512;

    /// <summary>Delivers one event.</summary>
    public static void Deliver<TAbi>(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
        where TAbi : struct, IPvmAbi
    {
        if (what.Vector < 32)
        {
            DeliverLow<TAbi>(ref cpu, vcpu, in what);
        }
        else
        {
            DeliverHigh<TAbi>(ref cpu, vcpu, in what);
        }
    }

    /// <summary>Below the red zone, aligned to 16: R11, RCX, SS, RSP, RFLAGS, CS, RIP, vector and error code. CS and SS do not change.</summary>
    [Spec("PVM rfc1", "Vector events in supervisor mode")]
    [Spec("PVM rfc1", "MSR_PVM_SUPERVISOR_REDZONE")]
    [Spec("pvm-readings", "frame-that-does-not-fit")]
    [Spec("pvm-readings", "no-error-code")]
    private static void DeliverLow<TAbi>(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
        where TAbi : struct, IPvmAbi
    {
        const int size = 64;
        ulong rsp = cpu.Read<ulong>(Gpr.Rsp);
        ulong at = AlignedStack(vcpu, rsp) - size;
        if (what.Cr2 is not null && !TripleFault.NeedsPvcs(vcpu))
        {
            return;
        }

        if (!cpu.Canonical(at) || !cpu.Canonical(at + size - 1) || !vcpu.Memory.CanWrite(at, size, out _, out _))
        {
            TripleFault.Raise(vcpu, "triple fault: the frame of an event does not fit on the stack");
            return;
        }

        ReadOnlySpan<ulong> words =
        [
            (what.Error ?? 0) | ((ulong)what.Vector << 32), cpu.Rip, vcpu.KernelCs, UnderlyingStates.SupervisorRflags<TAbi>(vcpu, what.Rflags), rsp, vcpu.KernelSs,
            cpu.Read<ulong>(Gpr.Rcx), cpu.Read<ulong>(Gpr.R11),
        ];
        for (int i = 0; i < words.Length; i++)
        {
            vcpu.Memory.Write(at + ((ulong)i * sizeof(ulong)), words[i]);
        }

        if (what.Cr2 is ulong address)
        {
            UserEvents.SaveCr2<TAbi>(vcpu, address);
        }

        cpu.Write(Gpr.Rsp, at);
        ClearInterruptFlag<TAbi>(vcpu);
        UnderlyingStates.Enter(ref cpu, vcpu, vcpu[SystemRegister.PvmEventEntry] + LowEntry, EntryPoint.PvmSupervisor);
    }

    /// <summary>RFLAGS, RIP, RSP, RCX and R11 go to the structure with the vector; nothing is pushed, RSP skips the red zone all the same.</summary>
    [Spec("PVM rfc1", "Vector events in supervisor mode")]
    [Spec("PVM rfc1", "PVCS::event_vector, PVCS::event_errcode")]
    private static void DeliverHigh<TAbi>(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
        where TAbi : struct, IPvmAbi
    {
        if (!TripleFault.NeedsPvcs(vcpu))
        {
            return;
        }

        UserEvents.SaveCommon<TAbi>(ref cpu, vcpu, UnderlyingStates.SupervisorRflags<TAbi>(vcpu, what.Rflags));
        UserEvents.SaveEvent<TAbi>(vcpu, in what);
        cpu.Write(Gpr.Rsp, AlignedStack(vcpu, cpu.Read<ulong>(Gpr.Rsp)));
        ClearInterruptFlag<TAbi>(vcpu);
        UnderlyingStates.Enter(ref cpu, vcpu, vcpu[SystemRegister.PvmEventEntry] + HighEntry, EntryPoint.PvmSupervisorHigh);
    }

    /// <summary>RSP below the red zone, aligned down to 16.</summary>
    [Spec("PVM rfc1", "MSR_PVM_SUPERVISOR_REDZONE")]
    private static ulong AlignedStack(Vcpu vcpu, ulong rsp) => (rsp - vcpu[SystemRegister.PvmSupervisorRedzone]) & ~0xfUL;

    /// <summary>Interrupts are off in the handler.</summary>
    [Spec("PVM rfc1", "Vector events in supervisor mode")]
    public static void ClearInterruptFlag<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (vcpu.HasPvcs)
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            pvcs[SystemRegister.PvcsEventFlags] &= ~Vcpu.InterruptFlag;
        }
    }
}
