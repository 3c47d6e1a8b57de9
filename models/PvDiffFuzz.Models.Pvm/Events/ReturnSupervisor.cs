using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>EVENT_RETURN_SUPERVISOR: back to supervisor mode by the frame that an event pushed.</summary>
internal static class ReturnSupervisor
{
    /// <summary>Quadwords of the frame: error code with vector, RIP, CS, RFLAGS, RSP, SS, RCX, R11.</summary>
    public const int FrameWords = 8;

    /// <summary>Reads the frame at RSP and returns by it.</summary>
    [Spec("PVM rfc1", "Synthetic Instruction: EVENT_RETURN_SUPERVISOR")]
    [Spec("pvm-readings", "frame-that-cannot-be-read")]
    public static void Execute<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        const int size = FrameWords * sizeof(ulong);
        ulong at = cpu.Read<ulong>(Gpr.Rsp);
        if (!cpu.Canonical(at) || !cpu.Canonical(at + size - 1) || !vcpu.Memory.CanRead(at, size, out _, out _))
        {
            TripleFault.Raise(vcpu, "triple fault: the frame of a return cannot be read");
            return;
        }

        Span<ulong> frame = stackalloc ulong[FrameWords];
        for (int i = 0; i < FrameWords; i++)
        {
            frame[i] = vcpu.Memory.Read<ulong>(at + ((ulong)i * sizeof(ulong)));
        }

        Load<TAbi>(ref cpu, vcpu, frame);
    }

    /// <summary>Loads RIP, RFLAGS, RSP, RCX and R11. CS, SS and the error code are ignored. RFLAGS.IF is the structure's interrupt flag.</summary>
    [Spec("PVM rfc1", "Synthetic Instruction: EVENT_RETURN_SUPERVISOR")]
    [Spec("PVM rfc1", "PVCS::event_flags")]
    [Spec("pvm-readings", "event-return-hypervisor")]
    public static void Load<TAbi>(ref CpuState cpu, Vcpu vcpu, scoped ReadOnlySpan<ulong> frame)
        where TAbi : struct, IPvmAbi
    {
        Injections.UnmaskNmi(vcpu);
        ulong rflags = frame[3];
        if (vcpu.HasPvcs)
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            pvcs[SystemRegister.PvcsEventFlags] = (pvcs[SystemRegister.PvcsEventFlags] & ~(Vcpu.InterruptFlag | TAbi.InterruptPending)) | (rflags & Vcpu.InterruptFlag);
        }

        cpu.Rip = frame[1];
        cpu.Write(Gpr.Rsp, frame[4]);
        cpu.Write(Gpr.Rcx, frame[6]);
        cpu.Write(Gpr.R11, frame[7]);
        vcpu.LooksOutside = true;
        Delivery.Resume(ref cpu, UnderlyingStates.Standardize(rflags));
    }
}
