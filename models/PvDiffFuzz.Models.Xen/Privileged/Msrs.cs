using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>RDMSR and WRMSR of a guest's kernel.</summary>
internal static class Msrs
{
    private const uint Efer = 0xc000_0080;
    private const uint Star = 0xc000_0081;
    private const uint SyscallMask = 0xc000_0084;
    private const uint FsBase = 0xc000_0100;
    private const uint GsBase = 0xc000_0101;
    private const uint ShadowGsBase = 0xc000_0102;

    /// <summary>SCE, LME, LMA and NXE.</summary>
    private const ulong EferValue = 0xd01;

    /// <summary>ECX names the MSR; EDX:EAX gets it.</summary>
    /// <returns>False for #GP(0).</returns>
    [Spec("Xen facts", "Privileged instructions: MSRs")]
    [Spec("xen-readings", "efer")]
    public static bool TryRead<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        bool wide = TGuest.PointerSize == sizeof(ulong);
        uint index = cpu.Read<uint>(Gpr.Rcx);
        ulong value;
        switch (index)
        {
            case FsBase when wide:
                value = cpu.SegmentBase[Seg.Fs];
                break;
            case GsBase when wide:
                value = cpu.SegmentBase[Seg.Gs];
                break;
            case ShadowGsBase when wide:
                value = vcpu[SystemRegister.KernelGsBase];
                break;
            case Efer when wide:
                value = EferValue;
                break;
            default:
                if (Other(vcpu, index))
                {
                    return true;
                }

                if (!IsForgiven(vcpu, index))
                {
                    return false;
                }

                value = 0;
                break;
        }

        cpu.Write(Gpr.Rax, (uint)value);
        cpu.Write(Gpr.Rdx, (uint)(value >> 32));
        return true;
    }

    /// <summary>The bases of FS and GS, which are canonical; EFER keeps its value.</summary>
    /// <returns>False for #GP(0).</returns>
    [Spec("Xen facts", "Privileged instructions: MSRs")]
    public static bool TryWrite<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        bool wide = TGuest.PointerSize == sizeof(ulong);
        ulong value = cpu.Read<uint>(Gpr.Rax) | ((ulong)cpu.Read<uint>(Gpr.Rdx) << 32);
        uint index = cpu.Read<uint>(Gpr.Rcx);
        switch (index)
        {
            case FsBase or GsBase or ShadowGsBase when wide && !cpu.Canonical(value):
                return false;
            case FsBase when wide:
                cpu.SegmentBase[Seg.Fs] = value;
                return true;
            case GsBase when wide:
                cpu.SegmentBase[Seg.Gs] = value;
                return true;
            case ShadowGsBase when wide:
                vcpu[SystemRegister.KernelGsBase] = value;
                return true;
            case Efer when wide:
                return value == EferValue;
            default:
                return Other(vcpu, index);
        }
    }

    /// <summary>A read that would fault is 0 instead while the guest has no handler for #GP, if the processor has the MSR.</summary>
    [Spec("Xen facts", "Privileged instructions: RDMSR without a handler for #GP")]
    private static bool IsForgiven(Vcpu vcpu, uint index) => index is >= Star and <= SyscallMask && vcpu.TrapOf(13).Address == 0;

    /// <summary>What a guest sees of other MSRs of the processor depends on the host, and ends the run. STAR to SFMASK are Xen's, and elsewhere nobody has one.</summary>
    [Spec("Xen facts", "Privileged instructions: MSRs")]
    [Spec("xen-readings", "other-msrs")]
    private static bool Other(Vcpu vcpu, uint index)
    {
        bool hosts = index is < 0x2000 or >= 0x4000_0000 and < 0x4000_1000 or > SyscallMask and < FsBase or > ShadowGsBase and < 0xc000_2000 or Efer or >= 0xc001_0000 and < 0xc001_2000;
        if (hosts)
        {
            vcpu.End(Verdict.Unsupported, "the guest accesses an MSR whose value depends on the host");
        }

        return hosts;
    }
}
