using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>What became of an access to an MSR.</summary>
internal enum MsrAccess
{
    /// <summary>It was made.</summary>
    Done,

    /// <summary>There is no such MSR, or it cannot have the value.</summary>
    Refused,

    /// <summary>The run has ended: no text says what happens, or the case does not say what the MSR holds.</summary>
    Ended,
}

/// <summary>The MSRs that supervisor code reads and writes, by RDMSR and WRMSR or by hypercalls.</summary>
internal static class Msrs
{
    private const uint Efer = 0xc000_0080;
    private const uint Star = 0xc000_0081;
    private const uint Lstar = 0xc000_0082;
    private const uint Cstar = 0xc000_0083;
    private const uint SyscallMask = 0xc000_0084;
    private const uint FsBase = 0xc000_0100;
    private const uint GsBase = 0xc000_0101;
    private const uint KernelGsBase = 0xc000_0102;
    private const uint SysenterCs = 0x174;
    private const uint SysenterEsp = 0x175;
    private const uint SysenterEip = 0x176;
    private const uint Pkrs = 0x6e1;
    private const uint Xss = 0xda0;

    /// <summary>First index of PVM's block of sixteen.</summary>
    private const uint PvmBlock = 0x4b56_4df0;

    /// <summary>EFER.SCE, LME and LMA.</summary>
    private const ulong EferFixed = 0x501;
    private const ulong EferNxe = 0x800;

    /// <summary>Reads an MSR.</summary>
    public static MsrAccess Read<TAbi>(ref CpuState cpu, Vcpu vcpu, uint index, out ulong value)
        where TAbi : struct, IPvmAbi
    {
        value = 0;
        switch (index)
        {
            case FsBase:
                value = cpu.SegmentBase[Seg.Fs];
                return MsrAccess.Done;
            case GsBase:
                value = cpu.SegmentBase[Seg.Gs];
                return MsrAccess.Done;
            case Pkrs when !cpu.Profile.Has("PKU"):
                return MsrAccess.Refused;
            case Xss:
                return RefuseXss();
            default:
                return ReadState<TAbi>(vcpu, index, out value);
        }
    }

    /// <summary>Writes an MSR.</summary>
    public static MsrAccess Write<TAbi>(ref CpuState cpu, Vcpu vcpu, uint index, ulong value)
        where TAbi : struct, IPvmAbi
    {
        switch (index)
        {
            case FsBase or GsBase:
                return WriteBase(ref cpu, index == FsBase ? Seg.Fs : Seg.Gs, value);
            case Lstar or KernelGsBase:
                return WriteAddress(ref cpu, vcpu, index == Lstar ? SystemRegister.Lstar : SystemRegister.KernelGsBase, value);
            case Star:
                return TAbi.WriteStar(vcpu, value);
            case Efer:
                return WriteEfer(vcpu, value);
            case Pkrs:
                return WritePkrs(ref cpu, vcpu, value);
            case Xss:
                return RefuseXss();
            case SyscallMask:
                return WriteSyscallMask(vcpu, value);
            case Cstar or SysenterCs or SysenterEsp or SysenterEip:
                return WriteIgnored(vcpu, index, value);
            default:
                return Find<TAbi>(index) is SystemRegister register ? WritePvm<TAbi>(ref cpu, vcpu, register, value) : Other(vcpu, index);
        }
    }

    private static MsrAccess ReadState<TAbi>(Vcpu vcpu, uint index, out ulong value)
        where TAbi : struct, IPvmAbi
    {
        value = 0;
        SystemRegister? found = index switch
        {
            Efer => SystemRegister.Efer,
            Star => SystemRegister.Star,
            Lstar => SystemRegister.Lstar,
            Cstar => SystemRegister.Cstar,
            SyscallMask => SystemRegister.SyscallMask,
            KernelGsBase => SystemRegister.KernelGsBase,
            SysenterCs => SystemRegister.SysenterCs,
            SysenterEsp => SystemRegister.SysenterEsp,
            SysenterEip => SystemRegister.SysenterEip,
            Pkrs => SystemRegister.Pkrs,
            _ => Find<TAbi>(index),
        };
        if (found is not SystemRegister register)
        {
            return Other(vcpu, index);
        }

        if (!vcpu.Knows(register))
        {
            vcpu.End(Verdict.Unsupported, "supervisor code reads an MSR that the case does not state");
            return MsrAccess.Ended;
        }

        value = vcpu[register];
        return MsrAccess.Done;
    }

    private static SystemRegister? Find<TAbi>(uint index)
        where TAbi : struct, IPvmAbi
    {
        foreach ((uint candidate, SystemRegister register) in TAbi.PvmMsrs)
        {
            if (candidate == index)
            {
                return register;
            }
        }

        return null;
    }

    /// <summary>The bases of FS and GS are the underlying ones, and canonical.</summary>
    [Spec("PVM rfc1", "MSR_GS_BASE/MSR_KERNEL_GS_BASE")]
    private static MsrAccess WriteBase(ref CpuState cpu, byte segment, ulong value)
    {
        if (!cpu.Canonical(value))
        {
            return MsrAccess.Refused;
        }

        cpu.SegmentBase[segment] = value;
        Delivery.UpdateSegment(ref cpu, segment);
        return MsrAccess.Done;
    }

    [Spec("SDM", "vol.2C WRMSR (non-canonical addresses)")]
    [Spec("PVM rfc1", "X86 MSR")]
    private static MsrAccess WriteAddress(ref CpuState cpu, Vcpu vcpu, SystemRegister register, ulong value)
    {
        if (!cpu.Canonical(value))
        {
            return MsrAccess.Refused;
        }

        vcpu[register] = value;
        return MsrAccess.Done;
    }

    /// <summary>SCE, LMA and LME are 1, NXE is what the host has.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("pvm-readings", "fixed-bits")]
    private static MsrAccess WriteEfer(Vcpu vcpu, ulong value)
    {
        bool keepsNxe = !vcpu.Knows(SystemRegister.Efer) || ((value ^ vcpu[SystemRegister.Efer]) & EferNxe) == 0;
        if ((value & ~EferNxe) != EferFixed || !keepsNxe)
        {
            return MsrAccess.Refused;
        }

        vcpu[SystemRegister.Efer] = value;
        return MsrAccess.Done;
    }

    /// <summary>PVM keeps the value; supervisor code sees the underlying PKRU instead.</summary>
    [Spec("PVM rfc1", "MSR_IA32_PKRS")]
    private static MsrAccess WritePkrs(ref CpuState cpu, Vcpu vcpu, ulong value)
    {
        if (!cpu.Profile.Has("PKU") || value > uint.MaxValue)
        {
            return MsrAccess.Refused;
        }

        vcpu[SystemRegister.Pkrs] = value;
        return MsrAccess.Done;
    }

    /// <summary>MSR_IA32_XSS is not enabled, so that there is none.</summary>
    [Spec("PVM rfc1", "CPUID leaf")]
    private static MsrAccess RefuseXss() => MsrAccess.Refused;

    /// <summary>Kept, and of no effect: SYSCALL loads RFLAGS with a default value.</summary>
    [Spec("PVM rfc1", "MSR_SYSCALL_MASK")]
    private static MsrAccess WriteSyscallMask(Vcpu vcpu, ulong value)
    {
        vcpu[SystemRegister.SyscallMask] = value;
        return MsrAccess.Done;
    }

    /// <summary>Ignored; they keep what was written.</summary>
    [Spec("PVM rfc1", "MSR_CSTAR, MSR_IA32_SYSENTER_CS/EIP/ESP")]
    [Spec("pvm-readings", "ignored-msrs")]
    private static MsrAccess WriteIgnored(Vcpu vcpu, uint index, ulong value)
    {
        SystemRegister register = index switch
        {
            Cstar => SystemRegister.Cstar,
            SysenterCs => SystemRegister.SysenterCs,
            SysenterEsp => SystemRegister.SysenterEsp,
            _ => SystemRegister.SysenterEip,
        };
        vcpu[register] = value;
        return MsrAccess.Done;
    }

    private static MsrAccess WritePvm<TAbi>(ref CpuState cpu, Vcpu vcpu, SystemRegister register, ulong value)
        where TAbi : struct, IPvmAbi
    {
        switch (register)
        {
            case SystemRegister.PvmLinearAddressRange:
                return WriteRange(ref cpu, vcpu, value);
            case SystemRegister.PvmVcpuStruct:
                return WriteVcpuStruct(vcpu, value);
            case SystemRegister.PvmEventEntry when !cpu.Canonical(value) || !cpu.Canonical(value + 512):
                return TAbi.RefuseEventEntry(vcpu);
            case SystemRegister.PvmSwitchCr3:
                vcpu.SwitchRoot = vcpu.RootOf(value, switching: true);
                break;
        }

        vcpu[register] = value;
        return MsrAccess.Done;
    }

    /// <summary>Within the constraints, and a part of the ranges there were at reset.</summary>
    [Spec("PVM rfc1", "MSR_PVM_LINEAR_ADDRESS_RANGE")]
    [Spec("pvm-readings", "msr-constraints")]
    private static MsrAccess WriteRange(ref CpuState cpu, Vcpu vcpu, ulong value)
    {
        bool five = cpu.Profile.LinearBits == 57;
        if (!Paging.IsRange(value, five) || !Paging.IsWithin(value, vcpu.Case.System.TryGet(SystemRegister.PvmLinearAddressRange, out ulong widest) ? widest : Paging.Widest(five)))
        {
            return MsrAccess.Refused;
        }

        if (!ReferenceEquals(Paging.Confine(vcpu.Case.Layout, value), vcpu.Case.Layout) || !ReferenceEquals(Paging.Confine(vcpu.Case.UserPages, value), vcpu.Case.UserPages))
        {
            vcpu.End(Verdict.Unsupported, "MSR_PVM_LINEAR_ADDRESS_RANGE takes pages of the case away");
            return MsrAccess.Ended;
        }

        vcpu[SystemRegister.PvmLinearAddressRange] = value;
        return MsrAccess.Done;
    }

    /// <summary>A page, or 0 for none. Cases have one page for it.</summary>
    [Spec("PVM rfc1", "MSR_PVM_VCPU_CTRL_STRUCT")]
    [Spec("pvm-readings", "msr-constraints")]
    private static MsrAccess WriteVcpuStruct(Vcpu vcpu, ulong value)
    {
        if (value % PageLayout.PageSize != 0)
        {
            return MsrAccess.Refused;
        }

        if (value != 0 && value != vcpu.Case.System[SystemRegister.PvmVcpuStruct])
        {
            vcpu.End(Verdict.Unsupported, "the per-VCPU structure is moved to a page that the case does not have");
            return MsrAccess.Ended;
        }

        vcpu[SystemRegister.PvmVcpuStruct] = value;
        return MsrAccess.Done;
    }

    /// <summary>An MSR of which PVM says nothing: none where no processor or hypervisor has any, else for the host to say.</summary>
    [Spec("PVM rfc1", "X86 MSR")]
    [Spec("pvm-readings", "other-msrs")]
    private static MsrAccess Other(Vcpu vcpu, uint index)
    {
        const uint kvmBlock = 0x4b56_4d00;
        if (index is < 0x2000 or (>= 0xc000_0000 and < 0xc000_2000) or (>= 0xc001_0000 and < 0xc001_2000) or (>= kvmBlock and < PvmBlock) or (>= 0x4000_0000 and < 0x4000_1000))
        {
            vcpu.End(Verdict.Unsupported, "supervisor code accesses an MSR that PVM does not define");
            return MsrAccess.Ended;
        }

        return MsrAccess.Refused;
    }
}
