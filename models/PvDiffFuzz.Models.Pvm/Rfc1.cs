using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.Pvm.Instructions;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>The first specification.</summary>
internal readonly struct Rfc1 : IPvmAbi
{
    private const ulong Einval = 22;

    private static readonly (uint, SystemRegister)[] Numbers =
    [
        (0x4b56_4df0, SystemRegister.PvmLinearAddressRange), (0x4b56_4df1, SystemRegister.PvmVcpuStruct), (0x4b56_4df2, SystemRegister.PvmSupervisorRsp),
        (0x4b56_4df3, SystemRegister.PvmSupervisorRedzone), (0x4b56_4df4, SystemRegister.PvmEventEntry), (0x4b56_4df5, SystemRegister.PvmRetuRip),
        (0x4b56_4df6, SystemRegister.PvmRetsRip), (0x4b56_4df7, SystemRegister.PvmSwitchCr3),
    ];

    public static Abi Revision => Abi.PvmRfc1;

    public static bool ClaimsBehaviour => true;

    public static ulong InterruptPending => 1UL << 8;

    public static ReadOnlySpan<(uint Index, SystemRegister Register)> PvmMsrs => Numbers;

    public static ViewRights SupervisorRights => ViewRights.SupervisorPages | ViewRights.SupervisorCode;

    public static bool HasSmep => false;

    public static bool SwitchesRoots => true;

    public static bool MasksNmi => true;

    public static bool AllowsInt4 => false;

    public static bool OwnCallsTakeR10AsRcx => true;

    public static ulong WrmsrFailure => unchecked(0 - Einval);

    public static ulong? TlsIndex => Hypercalls.TlsEntry;

    public static ulong RootBits => ulong.MaxValue;

    /// <summary>As the processor has it: the vector's gate, with the IDT bit.</summary>
    public static uint ErrorOfRefusedInt(byte vector) => ((uint)vector << 3) | 2;

    public static bool IsSyntheticReturn(ulong start, ulong next, ulong address) => SyntheticInstructions.IsBareSyscallAt(start, next, address);

    public static void UserEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what) => UserEvents.Deliver<Rfc1>(ref cpu, vcpu, in what);

    public static void SupervisorEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what) => SupervisorEvents.Deliver<Rfc1>(ref cpu, vcpu, in what);

    public static void UserSyscall(ref CpuState cpu, Vcpu vcpu) => Events.UserSyscall.Deliver<Rfc1>(ref cpu, vcpu);

    public static void ReturnUser(ref CpuState cpu, Vcpu vcpu) => Events.ReturnUser.Execute<Rfc1>(ref cpu, vcpu);

    public static void ReturnSupervisor(ref CpuState cpu, Vcpu vcpu) => Events.ReturnSupervisor.Execute<Rfc1>(ref cpu, vcpu);

    /// <summary>User selectors are the host's, supervisor selectors those in use, with RPL 0. The RPL of the user's does not matter.</summary>
    [Spec("PVM rfc1", "MSR_STAR")]
    [Spec("pvm-readings", "star-rpl")]
    public static MsrAccess WriteStar(Vcpu vcpu, ulong value)
    {
        if ((value >> 48 | 3) != Selectors.UserCode32 || (value >> 32 & 0xffff) != vcpu.KernelCs)
        {
            return MsrAccess.Refused;
        }

        vcpu[SystemRegister.Star] = value;
        return MsrAccess.Done;
    }

    public static bool AllowsCr0(ulong value) => value == UnderlyingStates.Cr0;

    public static bool AllowsCr4(ulong value, ulong now) => ControlRegisters.AllowsCr4(value, now);

    /// <summary>Refused as any address that is not canonical.</summary>
    [Spec("pvm-readings", "msr-constraints")]
    public static MsrAccess RefuseEventEntry(Vcpu vcpu) => MsrAccess.Refused;

    public static CpuidLeaf HypervisorLeaf(uint leaf) => CpuidLeaves.Rfc1(leaf);
}
