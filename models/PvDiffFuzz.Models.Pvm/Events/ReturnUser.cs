using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>EVENT_RETURN_USER: the only way to user mode.</summary>
internal static class ReturnUser
{
    /// <summary>Loads the context from the structure, exchanges the roots and saves RSP in its MSR.</summary>
    [Spec("PVM rfc1", "Synthetic Instruction: EVENT_RETURN_USER")]
    [Spec("PVM rfc1", "MSR_PVM_SUPERVISOR_RSP")]
    public static void Execute<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (!TripleFault.NeedsPvcs(vcpu) || !LoadSegments<TAbi>(ref cpu, vcpu))
        {
            return;
        }

        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        ClearPending<TAbi>(vcpu);
        Injections.UnmaskNmi(vcpu);
        vcpu[SystemRegister.PvmSupervisorRsp] = cpu.Read<ulong>(Gpr.Rsp);
        SaveKernelGsBase(ref cpu, vcpu);
        ProtectionKeys.ToUser<TAbi>(ref cpu, vcpu);
        cpu.Write(Gpr.Rsp, pvcs[SystemRegister.PvcsRsp]);
        Paging.SwitchRoots(vcpu);
        ToUser<TAbi>(ref cpu, vcpu);
    }

    /// <summary>Goes on in user mode with RIP, RFLAGS, RCX, R11 and GS base of the structure. A bad RIP faults there, in user mode.</summary>
    [Spec("PVM rfc1", "PVCS::user_cs, PVCS::user_ss, PVCS::user_gsbase, PVCS::pkru, PVCS::rsp, PVCS::eflags, PVCS::rip, PVCS::rcx, PVCS::r11")]
    [Spec("pvm-readings", "return-to-a-bad-rip")]
    public static void ToUser<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        cpu.SegmentBase[Seg.Gs] = Canonicalize(pvcs[SystemRegister.PvcsUserGsBase], cpu.Profile.LinearBits);
        cpu.Rip = pvcs[SystemRegister.PvcsRip];
        cpu.Write(Gpr.Rcx, pvcs[SystemRegister.PvcsRcx]);
        cpu.Write(Gpr.R11, pvcs[SystemRegister.PvcsR11]);
        vcpu.UserMode = true;
        vcpu.LooksOutside = true;
        vcpu.SelectView(TAbi.SupervisorRights);
        Delivery.Resume(ref cpu, UnderlyingStates.Standardize(pvcs[SystemRegister.PvcsEflags]));
    }

    /// <summary>Loads CS and SS, which are user segments of the host whatever RPL they were given. What others do is not said.</summary>
    /// <returns>False when the run ends here.</returns>
    [Spec("PVM rfc1", "Underlying states")]
    [Spec("pvm-readings", "user-segments")]
    public static bool LoadSegments<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        ushort cs = (ushort)(pvcs[SystemRegister.PvcsUserCs] | 3);
        ushort ss = (ushort)(pvcs[SystemRegister.PvcsUserSs] | 3);
        if (cs is not (Selectors.UserCode64 or Selectors.UserCode32) || ss != Selectors.UserData)
        {
            vcpu.End(Verdict.Unsupported, "PVM does not define a return to user mode with these segments");
            return false;
        }

        cpu.Selector[Seg.Cs] = cs;
        cpu.Selector[Seg.Ss] = ss;
        return true;
    }

    /// <summary>The hypervisor clears the pending flag; the interrupt flag does not change.</summary>
    [Spec("PVM rfc1", "PVCS::event_flags")]
    private static void ClearPending<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsEventFlags] &= ~TAbi.InterruptPending;
    }

    /// <summary>MSR_KERNEL_GS_BASE is normally set to the GS base, but the hypervisor may omit it.</summary>
    [Spec("PVM rfc1", "MSR_GS_BASE/MSR_KERNEL_GS_BASE")]
    private static void SaveKernelGsBase(ref CpuState cpu, Vcpu vcpu)
    {
        ulong gsBase = cpu.SegmentBase[Seg.Gs];
        if (gsBase == vcpu[SystemRegister.KernelGsBase])
        {
            return;
        }

        vcpu.Touched |= Choices.KernelGsBaseKept;
        if ((vcpu.Choices & Choices.KernelGsBaseKept) == 0)
        {
            vcpu[SystemRegister.KernelGsBase] = gsBase;
        }
    }

    /// <summary>Bits 63:N become the value of bit N-1, where N is the width of linear addresses.</summary>
    [Spec("PVM rfc1", "PVCS::user_cs, PVCS::user_ss, PVCS::user_gsbase, PVCS::pkru, PVCS::rsp, PVCS::eflags, PVCS::rip, PVCS::rcx, PVCS::r11")]
    public static ulong Canonicalize(ulong address, int bits) => (ulong)((long)(address << (64 - bits)) >> (64 - bits));
}
