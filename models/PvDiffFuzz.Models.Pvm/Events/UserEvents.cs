using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Events;

/// <summary>Vector events in user mode: the context goes to the structure, the supervisor goes on at its event entry.</summary>
internal static class UserEvents
{
    /// <summary>Delivers one event.</summary>
    [Spec("PVM rfc1", "Vector events in user mode")]
    [Spec("PVM rfc1", "MSR_PVM_EVENT_ENTRY")]
    public static void Deliver<TAbi>(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
        where TAbi : struct, IPvmAbi
    {
        if (TripleFault.NeedsPvcs(vcpu))
        {
            if (what.Cr2 is ulong address && (what.Error & PageFault.Present) != 0)
            {
                Paging.NoteSupervisorPage(vcpu, address);
            }

            SaveEvent<TAbi>(vcpu, in what);
            ToSupervisor<TAbi>(ref cpu, vcpu, what.Rflags, vcpu[SystemRegister.PvmEventEntry], EntryPoint.PvmUser);
        }
    }

    /// <summary>The vector always, the error code when there is one, CR2 for a #PF. What an event does not have keeps its old value.</summary>
    [Spec("PVM rfc1", "PVCS::event_vector, PVCS::event_errcode")]
    public static void SaveEvent<TAbi>(Vcpu vcpu, in VectorEvent what)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsEventVector] = what.Vector;
        if (what.Error is uint error)
        {
            pvcs[SystemRegister.PvcsEventErrcode] = error;
        }

        if (what.Cr2 is ulong address)
        {
            SaveCr2<TAbi>(vcpu, address);
        }
    }

    /// <summary>The faulting linear address of a #PF, which CR2 has as well.</summary>
    [Spec("PVM rfc1", "PVCS::cr2")]
    public static void SaveCr2<TAbi>(Vcpu vcpu, ulong address)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsCr2] = address;
        vcpu[SystemRegister.Cr2] = address;
    }

    /// <summary>Saves the context in the structure and loads the supervisor's: root, GS base, RSP, then the registers of every entry.</summary>
    /// <remarks>The interrupt flag of <c>event_flags</c> is not changed; RFLAGS are loaded with bit 1 alone otherwise.</remarks>
    [Spec("PVM rfc1", "Vector events in user mode")]
    [Spec("PVM rfc1", "PVCS::user_cs, PVCS::user_ss, PVCS::user_gsbase, PVCS::pkru, PVCS::rsp, PVCS::eflags, PVCS::rip, PVCS::rcx, PVCS::r11")]
    [Spec("PVM rfc1", "MSR_PVM_SUPERVISOR_RSP")]
    [Spec("PVM rfc1", "MSR_GS_BASE/MSR_KERNEL_GS_BASE")]
    [Spec("pvm-readings", "user-event-if")]
    public static void ToSupervisor<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong rflags, ulong entry, EntryPoint door)
        where TAbi : struct, IPvmAbi
    {
        SaveContext<TAbi>(ref cpu, vcpu, rflags);
        ProtectionKeys.ToSupervisor<TAbi>(ref cpu, vcpu);
        vcpu.UserMode = false;
        Paging.SwitchRoots(vcpu);
        vcpu.SelectView(TAbi.SupervisorRights);
        cpu.SegmentBase[Seg.Gs] = vcpu[SystemRegister.KernelGsBase];
        cpu.Write(Gpr.Rsp, vcpu[SystemRegister.PvmSupervisorRsp]);
        UnderlyingStates.Enter(ref cpu, vcpu, entry, door);
    }

    /// <summary>Writes CS, SS, GS base, RFLAGS, RIP, RSP, RCX and R11.</summary>
    public static void SaveContext<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong rflags)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsUserCs] = cpu.Selector[Seg.Cs];
        pvcs[SystemRegister.PvcsUserSs] = cpu.Selector[Seg.Ss];
        pvcs[SystemRegister.PvcsUserGsBase] = cpu.SegmentBase[Seg.Gs];
        SaveCommon<TAbi>(ref cpu, vcpu, rflags);
    }

    /// <summary>Writes RFLAGS, RIP, RSP, RCX and R11.</summary>
    public static void SaveCommon<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong rflags)
        where TAbi : struct, IPvmAbi
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsEflags] = rflags;
        pvcs[SystemRegister.PvcsRip] = cpu.Rip;
        pvcs[SystemRegister.PvcsRsp] = cpu.Read<ulong>(Gpr.Rsp);
        pvcs[SystemRegister.PvcsRcx] = cpu.Read<ulong>(Gpr.Rcx);
        pvcs[SystemRegister.PvcsR11] = cpu.Read<ulong>(Gpr.R11);
    }
}
