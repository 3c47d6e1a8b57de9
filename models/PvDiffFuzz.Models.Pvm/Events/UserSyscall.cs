using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>SYSCALL in user mode: as a vector event, but without vector, error code and CR2, and to MSR_LSTAR.</summary>
internal static class UserSyscall
{
    /// <summary>Delivers it. The processor has put the next RIP into RCX and RFLAGS into R11; that is what is saved.</summary>
    [Spec("PVM rfc1", "User SYSCALL event")]
    [Spec("PVM rfc1", "MSR_SYSCALL_MASK")]
    public static void Deliver<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (TripleFault.NeedsPvcs(vcpu))
        {
            UserEvents.ToSupervisor<TAbi>(ref cpu, vcpu, cpu.Read<ulong>(Gpr.R11), vcpu[SystemRegister.Lstar], EntryPoint.Lstar);
        }
    }

    /// <summary>SYSCALL of compatibility mode where the processor has it. MSR_CSTAR is ignored, so it is a user SYSCALL event like others.</summary>
    [Spec("PVM rfc1", "MSR_CSTAR, MSR_IA32_SYSENTER_CS/EIP/ESP")]
    [Spec("pvm-readings", "compatibility-syscall")]
    public static void FromCompatibility(ref CpuState cpu, byte length)
    {
        cpu.Rip = cpu.InstructionRip + length;
        cpu.Write(Gpr.Rcx, cpu.Rip);
        cpu.Write(Gpr.R11, cpu.Rflags & ~RflagsBits.RF);
        cpu.Pending = PendingKind.SystemCall;
    }
}
