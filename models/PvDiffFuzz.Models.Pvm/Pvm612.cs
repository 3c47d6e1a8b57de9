using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>The revision on Linux 6.12, as docs/pvm-612.md states it: what is not the same as in the first specification.</summary>
internal readonly struct Pvm612 : IPvmAbi
{
    private const ulong Eio = 5;
    private const ulong HighEntry = 512;

    /// <summary>Marks in the upper byte of the event vector: a standard vector, an NMI.</summary>
    private const ulong Standard = 0x100;
    private const ulong Nmi = 0x200;
    private const ulong Marks = 0xff00;

    private static readonly (uint, SystemRegister)[] Numbers =
    [
        (0x4b56_4df0, SystemRegister.PvmLinearAddressRange), (0x4b56_4df1, SystemRegister.PvmVcpuStruct), (0x4b56_4df4, SystemRegister.PvmEventEntry),
        (0x4b56_4df5, SystemRegister.PvmRetuRip),
    ];

    public static Abi Revision => Abi.Pvm612;

    public static bool ClaimsBehaviour => true;

    public static ulong InterruptPending => 1UL << 8;

    public static ReadOnlySpan<(uint Index, SystemRegister Register)> PvmMsrs => Numbers;

    /// <summary>Supervisor code cannot execute user pages.</summary>
    public static ViewRights SupervisorRights => ViewRights.SupervisorPages | ViewRights.SupervisorCode | ViewRights.NoUserFetch;

    public static bool HasSmep => true;

    public static bool SwitchesRoots => false;

    public static bool MasksNmi => false;

    public static bool AllowsInt4 => true;

    public static bool OwnCallsTakeR10AsRcx => false;

    public static ulong WrmsrFailure => unchecked(0 - Eio);

    public static ulong? TlsIndex => null;

    public static ulong RootBits => 0x000f_ffff_ffff_ffff;

    [Spec("PVM 612", "Instructions")]
    public static uint ErrorOfRefusedInt(byte vector) => 0;

    /// <summary>By the address after it alone.</summary>
    [Spec("PVM 612", "Return to user mode")]
    public static bool IsSyntheticReturn(ulong start, ulong next, ulong address) => next == address + 2;

    /// <summary>As a supervisor event, with CS, SS and GS base saved as well and PKRU as 0, to the event entry. RSP and CR3 do not change.</summary>
    [Spec("PVM 612", "Events in user mode")]
    public static void UserEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
    {
        if (TripleFault.NeedsPvcs(vcpu))
        {
            SaveEvent(vcpu, in what);
            Pvcs<Pvm612> pvcs = vcpu.Pvcs<Pvm612>();
            pvcs[SystemRegister.PvcsPkru] = 0;
            ToSupervisor(ref cpu, vcpu, what.Rflags, vcpu[SystemRegister.PvmEventEntry], EntryPoint.PvmUser);
        }
    }

    /// <summary>All vectors by the structure, to one entry; nothing is pushed. While the structure holds an event an NMI is marked in it, and anything else is a triple fault.</summary>
    [Spec("PVM 612", "Events in supervisor mode")]
    public static void SupervisorEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what)
    {
        if (!TripleFault.NeedsPvcs(vcpu))
        {
            return;
        }

        Pvcs<Pvm612> pvcs = vcpu.Pvcs<Pvm612>();
        if ((pvcs[SystemRegister.PvcsEventVector] & Marks) == 0)
        {
            UserEvents.SaveCommon<Pvm612>(ref cpu, vcpu, UnderlyingStates.SupervisorRflags<Pvm612>(vcpu, what.Rflags));
            SaveEvent(vcpu, in what);
            SupervisorEvents.ClearInterruptFlag<Pvm612>(vcpu);
            UnderlyingStates.Enter(ref cpu, vcpu, vcpu[SystemRegister.PvmEventEntry] + HighEntry, EntryPoint.PvmSupervisor);
        }
        else if (IsNmi(in what))
        {
            pvcs[SystemRegister.PvcsEventVector] |= Nmi;
        }
        else
        {
            TripleFault.Raise(vcpu, "triple fault: the structure still holds an event");
        }
    }

    /// <summary>Vector, error code, CR2 and PKRU of the structure stay as they are.</summary>
    [Spec("PVM 612", "Events in user mode")]
    public static void UserSyscall(ref CpuState cpu, Vcpu vcpu)
    {
        if (TripleFault.NeedsPvcs(vcpu))
        {
            ToSupervisor(ref cpu, vcpu, cpu.Read<ulong>(Gpr.R11), vcpu[SystemRegister.Lstar], EntryPoint.Lstar);
        }
    }

    /// <summary>Loads the context; the event vector becomes the mark of a standard vector alone, and an NMI that was marked there comes again. Neither RSP nor the pending flag changes.</summary>
    [Spec("PVM 612", "Return to user mode")]
    public static void ReturnUser(ref CpuState cpu, Vcpu vcpu)
    {
        if (TripleFault.NeedsPvcs(vcpu) && Events.ReturnUser.LoadSegments<Pvm612>(ref cpu, vcpu))
        {
            Pvcs<Pvm612> pvcs = vcpu.Pvcs<Pvm612>();
            bool nmi = (pvcs[SystemRegister.PvcsEventVector] & Nmi) != 0;
            pvcs[SystemRegister.PvcsEventVector] = Standard;
            if (nmi)
            {
                Injections.Add(vcpu, new Injection(InjectionKind.Nmi, Injection.NmiVector));
            }

            Events.ReturnUser.ToUser<Pvm612>(ref cpu, vcpu);
        }
    }

    /// <summary>There is none: supervisor code returns by IRETQ.</summary>
    public static void ReturnSupervisor(ref CpuState cpu, Vcpu vcpu) => Hypercalls.Execute<Pvm612>(ref cpu, vcpu);

    /// <summary>The supervisor's selectors become those that are written.</summary>
    [Spec("PVM 612", "Control registers and MSRs")]
    public static MsrAccess WriteStar(Vcpu vcpu, ulong value)
    {
        if ((value >> 48 | 3) != Selectors.UserCode32 || (value >> 32 & 0xfffc) == 0)
        {
            return MsrAccess.Refused;
        }

        vcpu[SystemRegister.Star] = value;
        return MsrAccess.Done;
    }

    /// <summary>TS can be set.</summary>
    [Spec("PVM 612", "Control registers and MSRs")]
    public static bool AllowsCr0(ulong value)
    {
        const ulong taskSwitched = 8;
        return (value & ~taskSwitched) == UnderlyingStates.Cr0;
    }

    public static bool AllowsCr4(ulong value, ulong now) => ControlRegisters.AllowsCr4Of612(value);

    [Spec("PVM 612", "Control registers and MSRs")]
    public static MsrAccess RefuseEventEntry(Vcpu vcpu)
    {
        TripleFault.Raise(vcpu, "triple fault: the event entry is not canonical");
        return MsrAccess.Ended;
    }

    /// <summary>KVM's signature, and no leaf of PVM's.</summary>
    [Spec("PVM 612", "Instructions")]
    public static CpuidLeaf HypervisorLeaf(uint leaf)
    {
        const uint highest = 0x4000_0001;
        return leaf == highest - 1 ? CpuidLeaves.KvmSignature(highest) : new CpuidLeaf(leaf, null, 0, 0, 0, 0);
    }

    [Spec("PVM 612", "Events in user mode")]
    private static void ToSupervisor(ref CpuState cpu, Vcpu vcpu, ulong rflags, ulong entry, EntryPoint door)
    {
        UserEvents.SaveContext<Pvm612>(ref cpu, vcpu, rflags);
        vcpu.UserMode = false;
        vcpu.SelectView(SupervisorRights);
        cpu.SegmentBase[Seg.Gs] = vcpu[SystemRegister.KernelGsBase];
        SupervisorEvents.ClearInterruptFlag<Pvm612>(vcpu);
        UnderlyingStates.Enter(ref cpu, vcpu, entry, door);
    }

    /// <summary>Vector with the mark of a standard one; an NMI is its mark alone.</summary>
    [Spec("PVM 612", "The structure")]
    private static void SaveEvent(Vcpu vcpu, in VectorEvent what)
    {
        UserEvents.SaveEvent<Pvm612>(vcpu, in what);
        Pvcs<Pvm612> pvcs = vcpu.Pvcs<Pvm612>();
        pvcs[SystemRegister.PvcsEventVector] = IsNmi(in what) ? Nmi : Standard | what.Vector;
    }

    private static bool IsNmi(in VectorEvent what) => what is { Kind: EventKind.Interrupt, Vector: 2 };
}
