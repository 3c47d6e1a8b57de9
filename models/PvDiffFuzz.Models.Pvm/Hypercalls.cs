using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>SYSCALL of supervisor code that is no synthetic instruction. RAX is the request, arguments are RBX, R10 and RDX.</summary>
internal static class Hypercalls
{
    /// <summary>The first of PVM's own requests.</summary>
    public const ulong Base = 0x1708_8200;

    /// <summary>How many numbers are kept for them.</summary>
    public const ulong Reserved = 256;

    public const ulong LoadPgtbl = Base;
    public const ulong IrqWin = Base + 1;
    public const ulong IrqHlt = Base + 2;
    public const ulong TlbFlush = Base + 3;
    public const ulong TlbFlushCurrent = Base + 4;
    public const ulong TlbInvlpg = Base + 5;
    public const ulong LoadGs = Base + 6;
    public const ulong Rdmsr = Base + 7;
    public const ulong Wrmsr = Base + 8;
    public const ulong LoadTls = Base + 9;

    /// <summary>The first of three entries of the host's GDT for thread-local storage.</summary>
    public const int TlsEntry = 12;

    private const byte R10 = 10 * 8;

    /// <summary>-KVM_ENOSYS.</summary>
    private const ulong NoSuchCall = unchecked((ulong)-1000);

    /// <summary>Carries a request out. RCX is the return address already, as SYSCALL leaves it.</summary>
    [Spec("PVM rfc1", "Hypercall event in supervisor mode")]
    [Spec("pvm-readings", "hypercall-arguments")]
    [Spec("pvm-readings", "calls-without-a-result")]
    public static void Execute<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        ulong request = cpu.Read<ulong>(Gpr.Rax);
        bool own = request - Base < Reserved;
        if (!own || TAbi.OwnCallsTakeR10AsRcx)
        {
            CopyR10(ref cpu);
        }

        switch (request)
        {
            case LoadPgtbl:
                ExecuteLoadPgtbl<TAbi>(ref cpu, vcpu);
                break;
            case IrqWin:
                ExecuteIrqWin<TAbi>(vcpu);
                break;
            case IrqHlt:
                ExecuteIrqHlt<TAbi>(vcpu);
                break;
            case TlbFlush or TlbFlushCurrent or TlbInvlpg:
                Flush();
                break;
            case LoadGs:
                ExecuteLoadGs(ref cpu);
                break;
            case Rdmsr:
                ExecuteRdmsr<TAbi>(ref cpu, vcpu);
                break;
            case Wrmsr:
                ExecuteWrmsr<TAbi>(ref cpu, vcpu);
                break;
            case LoadTls:
                ExecuteLoadTls<TAbi>(ref cpu);
                break;
            default:
                Kvm(ref cpu, vcpu, request, own);
                break;
        }
    }

    /// <summary>The hypervisor takes R10 for RCX, and at the end gives RCX to R10: both have the value of R10 then.</summary>
    [Spec("PVM rfc1", "HYPERCALL be issued in supervisor software")]
    [Spec("pvm-readings", "rcx-after-a-hypercall")]
    private static void CopyR10(ref CpuState cpu) => cpu.Write(Gpr.Rcx, cpu.Read<ulong>(R10));

    /// <summary>Flags, the supervisor's root, the user's root. Bit 1 of the flags asks for five levels, where linear addresses have 57 bits.</summary>
    [Spec("PVM rfc1", "PVM_HC_LOAD_PGTBL")]
    [Spec("pvm-readings", "bits-of-a-root")]
    private static void ExecuteLoadPgtbl<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        const ulong fiveLevels = 2;
        const ulong la57 = 1UL << 12;
        bool five = cpu.Profile.LinearBits == 57;
        bool wanted = five && (cpu.Read<ulong>(Gpr.Rbx) & fiveLevels) != 0;
        if (five && vcpu.Knows(SystemRegister.Cr4) && wanted != ((vcpu[SystemRegister.Cr4] & la57) != 0))
        {
            vcpu.End(Verdict.Unsupported, "the number of levels of the page tables changes, and the case has tables of one kind");
            return;
        }

        ulong supervisor = cpu.Read<ulong>(R10) & TAbi.RootBits;
        vcpu[SystemRegister.Cr3] = supervisor;
        vcpu.Root = vcpu.RootOf(supervisor, switching: false);
        if (TAbi.SwitchesRoots)
        {
            ulong user = cpu.Read<ulong>(Gpr.Rdx);
            vcpu[SystemRegister.PvmSwitchCr3] = user;
            vcpu.SwitchRoot = vcpu.RootOf(user, switching: true);
        }

        vcpu.SelectView(TAbi.SupervisorRights);
    }

    /// <summary>The guest has enabled interrupts: the pending flag is cleared, and what waits is taken if it still can be.</summary>
    [Spec("PVM rfc1", "PVM_HC_IRQ_WIN")]
    [Spec("PVM rfc1", "PVCS::event_flags")]
    private static void ExecuteIrqWin<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        SetFlags<TAbi>(vcpu, set: 0);
        vcpu.LooksOutside = true;
    }

    /// <summary>STI and HLT in one.</summary>
    [Spec("PVM rfc1", "PVM_HC_IRQ_HLT")]
    [Spec("PVM rfc1", "PVCS::event_flags")]
    private static void ExecuteIrqHlt<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        SetFlags<TAbi>(vcpu, Vcpu.InterruptFlag);
        if (Injections.CanTake<TAbi>(vcpu))
        {
            vcpu.LooksOutside = true;
        }
        else
        {
            vcpu.End(Verdict.Halt, "halted");
        }
    }

    /// <summary>Nothing of what a TLB keeps can be seen, since the tables of a case do not change.</summary>
    [Spec("PVM rfc1", "PVM_HC_TLB_FLUSH")]
    [Spec("PVM rfc1", "PVM_HC_TLB_FLUSH_CURRENT")]
    [Spec("PVM rfc1", "PVM_HC_TLB_INVLPG")]
    private static void Flush()
    {
    }

    /// <summary>Loads GS with a selector, or with a null one when that fails, and returns the base. A null selector loads with any RPL, as on X86.</summary>
    [Spec("PVM rfc1", "PVM_HC_LOAD_GS")]
    [Spec("pvm-readings", "base-after-load-gs")]
    private static void ExecuteLoadGs(ref CpuState cpu)
    {
        ushort selector = cpu.Read<ushort>(Gpr.Rbx);
        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        bool loads = found is { Present: true, Dpl: 3 } && Descriptors.IsReadable(found);
        cpu.Selector[Seg.Gs] = loads || (selector & 0xfffc) == 0 ? selector : (ushort)0;
        cpu.Write(Gpr.Rax, (ulong)(loads ? found!.Base : 0));
    }

    /// <summary>The value, or 0 for an MSR that there is not.</summary>
    [Spec("PVM rfc1", "PVM_HC_RDMSR")]
    private static void ExecuteRdmsr<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (Msrs.Read<TAbi>(ref cpu, vcpu, cpu.Read<uint>(Gpr.Rbx), out ulong value) != MsrAccess.Ended)
        {
            cpu.Write(Gpr.Rax, value);
        }
    }

    /// <summary>0, or -EINVAL.</summary>
    [Spec("PVM rfc1", "PVM_HC_WRMSR")]
    private static void ExecuteWrmsr<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        MsrAccess access = Msrs.Write<TAbi>(ref cpu, vcpu, cpu.Read<uint>(Gpr.Rbx), cpu.Read<ulong>(R10));
        if (access != MsrAccess.Ended)
        {
            cpu.Write(Gpr.Rax, access == MsrAccess.Done ? 0 : TAbi.WrmsrFailure);
        }
    }

    /// <summary>Three descriptors for the host's GDT, each made one of present data for CPL3 or none at all; returns the first one's index.</summary>
    [Spec("PVM rfc1", "PVM_HC_LOAD_TLS")]
    [Spec("pvm-readings", "tls-descriptors")]
    private static void ExecuteLoadTls<TAbi>(ref CpuState cpu)
        where TAbi : struct, IPvmAbi
    {
        ReadOnlySpan<ulong> entries = [cpu.Read<ulong>(Gpr.Rbx), cpu.Read<ulong>(R10), cpu.Read<ulong>(Gpr.Rdx)];
        List<SegmentDescriptor> descriptors = [.. cpu.Profile.Descriptors.Where(d => d.Index is < TlsEntry or >= TlsEntry + 3)];
        for (int i = 0; i < entries.Length; i++)
        {
            if (Rectify(entries[i], TlsEntry + i) is SegmentDescriptor descriptor)
            {
                descriptors.Add(descriptor);
            }
        }

        cpu.Profile = cpu.Profile with { Descriptors = [.. descriptors] };
        if (TAbi.TlsIndex is ulong index)
        {
            cpu.Write(Gpr.Rax, index);
        }
    }

    private static SegmentDescriptor? Rectify(ulong entry, int index)
    {
        const ulong present = 1UL << 47;
        const ulong code = 1UL << 43;
        const ulong big = 1UL << 54;
        const ulong granular = 1UL << 55;
        const ulong available = 1UL << 52;
        const byte accessed = 1;
        if ((entry & (present | code | big)) != (present | big))
        {
            return null;
        }

        bool scaled = (entry & granular) != 0;
        uint limit = (uint)(entry & 0xffff) | (uint)(entry >> 32 & 0xf0000);
        uint start = (uint)(entry >> 16 & 0xff_ffff) | (uint)(entry >> 32 & 0xff00_0000);
        return new SegmentDescriptor(
            index, (byte)((entry >> 40 & 0xf) | accessed), System: false, 3, Present: true, Long: false, Big: true, scaled, (entry & available) != 0, start, scaled ? (limit << 12) | 0xfff : limit);
    }

    /// <summary>KVM's own calls are not of this document: one has no effect, those that KVM does not have fail, the others are the host's affair.</summary>
    [Spec("PVM rfc1", "Hypercall event in supervisor mode")]
    [Spec("pvm-readings", "kvm-hypercalls")]
    private static void Kvm(ref CpuState cpu, Vcpu vcpu, ulong request, bool own)
    {
        const ulong pollIrq = 1;
        const ulong highest = 12;
        if (!own && request is not (0 or pollIrq) and <= highest)
        {
            vcpu.End(Verdict.Unsupported, "a hypercall of KVM's, which PVM does not define");
            return;
        }

        cpu.Write(Gpr.Rax, request == pollIrq ? 0 : NoSuchCall);
    }

    private static void SetFlags<TAbi>(Vcpu vcpu, ulong set)
        where TAbi : struct, IPvmAbi
    {
        if (vcpu.HasPvcs)
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            pvcs[SystemRegister.PvcsEventFlags] = (pvcs[SystemRegister.PvcsEventFlags] & ~TAbi.InterruptPending) | set;
        }
    }
}
