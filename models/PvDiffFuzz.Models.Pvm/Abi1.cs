using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>A later rework that numbers its ABI: constants and layouts, and no behaviour. Cases of it are not run.</summary>
internal readonly struct Abi1 : IPvmAbi
{
    private static readonly (uint, SystemRegister)[] Numbers =
    [
        (0x4b56_4d20, SystemRegister.PvmVcpuStruct), (0x4b56_4d21, SystemRegister.PvmEventEntry), (0x4b56_4d22, SystemRegister.PvmRetuRip),
    ];

    public static Abi Revision => Abi.PvmAbi1;

    public static bool ClaimsBehaviour => false;

    public static ulong InterruptPending => 1UL << 32;

    public static ReadOnlySpan<(uint Index, SystemRegister Register)> PvmMsrs => Numbers;

    public static ViewRights SupervisorRights => ViewRights.SupervisorPages | ViewRights.SupervisorCode;

    public static bool HasSmep => true;

    public static bool SwitchesRoots => false;

    public static bool MasksNmi => false;

    public static bool AllowsInt4 => false;

    public static bool OwnCallsTakeR10AsRcx => false;

    public static ulong WrmsrFailure => 0;

    public static ulong? TlsIndex => null;

    public static ulong RootBits => ulong.MaxValue;

    public static uint ErrorOfRefusedInt(byte vector) => 0;

    public static bool IsSyntheticReturn(ulong start, ulong next, ulong address) => false;

    public static void UserEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what) => NotClaimed(vcpu);

    public static void SupervisorEvent(ref CpuState cpu, Vcpu vcpu, in VectorEvent what) => NotClaimed(vcpu);

    public static void UserSyscall(ref CpuState cpu, Vcpu vcpu) => NotClaimed(vcpu);

    public static void ReturnUser(ref CpuState cpu, Vcpu vcpu) => NotClaimed(vcpu);

    public static void ReturnSupervisor(ref CpuState cpu, Vcpu vcpu) => NotClaimed(vcpu);

    public static MsrAccess WriteStar(Vcpu vcpu, ulong value) => MsrAccess.Refused;

    public static bool AllowsCr0(ulong value) => false;

    public static bool AllowsCr4(ulong value, ulong now) => false;

    public static MsrAccess RefuseEventEntry(Vcpu vcpu) => MsrAccess.Refused;

    public static CpuidLeaf HypervisorLeaf(uint leaf) => default;

    private static void NotClaimed(Vcpu vcpu) => vcpu.End(Verdict.Unsupported, "no behaviour is claimed for this revision");
}
