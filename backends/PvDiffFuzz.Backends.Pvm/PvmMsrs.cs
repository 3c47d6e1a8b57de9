using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Numbers of the MSRs that are part of a case's system side (SDM vol.4 2.1; the PVM document and its header for PVM's).</summary>
internal static class PvmMsrs
{
    /// <summary>MSR_PVM_LINEAR_ADDRESS_RANGE, the first of PVM's block.</summary>
    public const uint LinearAddressRange = 0x4b56_4df0;

    /// <summary>MSR_PVM_VCPU_STRUCT.</summary>
    public const uint VcpuStruct = 0x4b56_4df1;

    /// <summary>The last number of the block that any known revision uses, MSR_PVM_SWITCH_CR3 of the first one.</summary>
    public const uint Last = 0x4b56_4df7;

    /// <summary>
    /// MSRs of KVM's own by which a guest has KVM write its memory: both numbers of the wall clock, which is written once, and of the system time, asynchronous page faults, steal time, and the end
    /// of interrupts, which are written again and again. 0 ends that.
    /// </summary>
    public static ReadOnlySpan<uint> Writers => [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04];

    /// <summary>IA32_FS_BASE.</summary>
    public const uint FsBase = 0xc000_0100;

    /// <summary>IA32_GS_BASE.</summary>
    public const uint GsBase = 0xc000_0101;

    private static readonly (SystemRegister Register, uint Index)[] Common =
    [
        (SystemRegister.Star, 0xc000_0081), (SystemRegister.Lstar, 0xc000_0082), (SystemRegister.Cstar, 0xc000_0083), (SystemRegister.SyscallMask, 0xc000_0084),
        (SystemRegister.SysenterCs, 0x174), (SystemRegister.SysenterEip, 0x176), (SystemRegister.SysenterEsp, 0x175), (SystemRegister.KernelGsBase, 0xc000_0102),
        (SystemRegister.PvmLinearAddressRange, LinearAddressRange), (SystemRegister.PvmVcpuStruct, VcpuStruct), (SystemRegister.PvmEventEntry, 0x4b56_4df4),
        (SystemRegister.PvmRetuRip, 0x4b56_4df5),
    ];

    private static readonly (SystemRegister Register, uint Index)[] FirstRevision =
    [
        .. Common,
        (SystemRegister.PvmSupervisorRsp, 0x4b56_4df2), (SystemRegister.PvmSupervisorRedzone, 0x4b56_4df3), (SystemRegister.PvmRetsRip, 0x4b56_4df6), (SystemRegister.PvmSwitchCr3, Last),
    ];

    /// <summary>The system registers of a revision that are MSRs, in the order in which they are set: STAR, which setting CS changes, stands first.</summary>
    /// <param name="revision">A revision that a host can have.</param>
    public static ReadOnlySpan<(SystemRegister Register, uint Index)> Of(Abi revision) => revision == Abi.PvmRfc1 ? FirstRevision : Common;
}
