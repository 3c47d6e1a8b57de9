using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>A revision of PVM: its constants, and what of its behaviour is not the same in all of them.</summary>
/// <remarks>Implemented by empty structs, so that a model is compiled for each revision and asks nothing at run time.</remarks>
internal interface IPvmAbi
{
    /// <summary>Which revision.</summary>
    static abstract Abi Revision { get; }

    /// <summary>False when a cited text gives constants and layouts only, so that no case can be run.</summary>
    static abstract bool ClaimsBehaviour { get; }

    /// <summary>The interrupt pending flag, a bit of the structure's <c>event_flags</c>.</summary>
    static abstract ulong InterruptPending { get; }

    /// <summary>The MSRs of this revision and what they are.</summary>
    static abstract ReadOnlySpan<(uint Index, SystemRegister Register)> PvmMsrs { get; }

    /// <summary>Rights of supervisor code.</summary>
    static abstract ViewRights SupervisorRights { get; }

    /// <summary>True when CR4.SMEP can be set and CPUID shows it.</summary>
    static abstract bool HasSmep { get; }

    /// <summary>True when user and supervisor mode have a root each, which are exchanged with the mode.</summary>
    static abstract bool SwitchesRoots { get; }

    /// <summary>True when an NMI holds back the next ones.</summary>
    static abstract bool MasksNmi { get; }

    /// <summary>True when <c>INT 4</c> is allowed as <c>INT 3</c> and <c>INT 80h</c> are.</summary>
    static abstract bool AllowsInt4 { get; }

    /// <summary>True when PVM's own hypercalls treat R10 as RCX as the other ones do.</summary>
    static abstract bool OwnCallsTakeR10AsRcx { get; }

    /// <summary>What the WRMSR hypercall returns when the MSR or its value is refused.</summary>
    static abstract ulong WrmsrFailure { get; }

    /// <summary>Result of the LOAD_TLS hypercall; null when it has none.</summary>
    static abstract ulong? TlsIndex { get; }

    /// <summary>The bits of a root that the LOAD_PGTBL hypercall keeps.</summary>
    static abstract ulong RootBits { get; }

    /// <summary>Error code of the #GP of an <c>INT n</c> that is not allowed.</summary>
    static abstract uint ErrorOfRefusedInt(byte vector);

    /// <summary>Tells whether a SYSCALL of supervisor code is the synthetic return of which the MSR holds the address.</summary>
    /// <param name="start">Its address.</param>
    /// <param name="next">The address after it.</param>
    /// <param name="address">Value of the MSR.</param>
    static abstract bool IsSyntheticReturn(ulong start, ulong next, ulong address);

    /// <summary>Delivers a vector event to user mode's entry.</summary>
    static abstract void UserEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what);

    /// <summary>Delivers a vector event that came in supervisor mode.</summary>
    static abstract void SupervisorEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what);

    /// <summary>Delivers SYSCALL of user mode; its hardware part is done.</summary>
    static abstract void UserSyscall(ref CpuState cpu, Vcpu vcpu);

    /// <summary>EVENT_RETURN_USER.</summary>
    static abstract void ReturnUser(ref CpuState cpu, Vcpu vcpu);

    /// <summary>EVENT_RETURN_SUPERVISOR, where there is one.</summary>
    static abstract void ReturnSupervisor(ref CpuState cpu, Vcpu vcpu);

    /// <summary>Checks a write to MSR_STAR and carries it out.</summary>
    static abstract MsrAccess WriteStar(Vcpu vcpu, ulong value);

    /// <summary>Checks a write to CR0.</summary>
    static abstract bool AllowsCr0(ulong value);

    /// <summary>Checks a write to CR4.</summary>
    /// <param name="value">What is written.</param>
    /// <param name="now">What is there.</param>
    static abstract bool AllowsCr4(ulong value, ulong now);

    /// <summary>A write of MSR_PVM_EVENT_ENTRY that is not canonical.</summary>
    static abstract MsrAccess RefuseEventEntry(Vcpu vcpu);

    /// <summary>What the synthetic CPUID answers for a leaf of the hypervisor's.</summary>
    static abstract CpuidLeaf HypervisorLeaf(uint leaf);
}
