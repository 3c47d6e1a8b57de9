using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <summary>Numbers of MSRs that PVM's document names.</summary>
internal static class PvmMsr
{
#pragma warning disable CS1591 // Each constant is the MSR of that name (SDM vol.4 2.1; APM vol.2 appendix A; the document and its header for PVM's).
    public const uint SysenterCs = 0x174, SysenterEsp = 0x175, SysenterEip = 0x176, Pkrs = 0x6e1, Efer = 0xc000_0080, Star = 0xc000_0081, Lstar = 0xc000_0082, Cstar = 0xc000_0083,
        SyscallMask = 0xc000_0084, FsBase = 0xc000_0100, GsBase = 0xc000_0101, KernelGsBase = 0xc000_0102;

    public const uint LinearAddressRange = 0x4b56_4df0, VcpuStruct = 0x4b56_4df1, SupervisorRsp = 0x4b56_4df2, SupervisorRedzone = 0x4b56_4df3, EventEntry = 0x4b56_4df4,
        RetuRip = 0x4b56_4df5, RetsRip = 0x4b56_4df6, SwitchCr3 = 0x4b56_4df7;
#pragma warning restore CS1591

    /// <summary>Everything that the document names.</summary>
    public static ReadOnlySpan<uint> Named =>
    [
        FsBase, GsBase, KernelGsBase, Star, Lstar, Cstar, SyscallMask, SysenterCs, SysenterEsp, SysenterEip, Pkrs, Efer, LinearAddressRange, VcpuStruct, SupervisorRsp,
        SupervisorRedzone, EventEntry, RetuRip, RetsRip, SwitchCr3,
    ];

    /// <summary>MSR_IA32_XSS, which a guest does not have.</summary>
    private const uint Xss = 0xda0;

    /// <summary>Numbers that name nothing: XSS, the unused rest of PVM's block, of the SYSCALL MSRs, a later revision's, and the ends of the space.</summary>
    public static ReadOnlySpan<uint> Invalid => [Xss, 0x4b56_4df8, 0x4b56_4dff, 0x4b56_4d20, 0x4b56_4d23, 0xc000_0085, 0xc000_0110, 0xdead_beef, 0x7fff_ffff, 0xffff_ffff];
}

/// <summary>Hypercall numbers.</summary>
internal static class PvmCall
{
    /// <summary>The first number of PVM's own; 256 are reserved.</summary>
    public const ulong Base = 0x1708_8200;

#pragma warning disable CS1591 // Offsets from the base; names without PVM_HC_ of the document.
    public const int LoadPgtbl = 0, IrqWin = 1, IrqHlt = 2, TlbFlush = 3, TlbFlushCurrent = 4, TlbInvlpg = 5, LoadGs = 6, Rdmsr = 7, Wrmsr = 8, LoadTls = 9;
#pragma warning restore CS1591

    /// <summary>How many calls there are.</summary>
    public const int Count = 10;

    /// <summary>Numbers that name no PVM call: KVM's that are the same everywhere, around the range and inside its unused rest, and the same numbers with high bits set.</summary>
    public static ReadOnlySpan<ulong> Others =>
    [
        0, 1, 2, 3, 4, 6, 8, 13, 0xff, Base - 1, Base + Count, Base + 0xff, Base + 0x100, 0x1_0000_0000 | Base, 0x1_0000_0000 | (Base + IrqWin), 0xffff_ffff_0000_0001, ulong.MaxValue,
        0x8000_0000_0000_0000 | (Base + Rdmsr),
    ];
}

/// <summary>Values at which the state of PVM changes its behaviour.</summary>
internal static class PvmEdges
{
    /// <summary>CR0 with which the guest runs (specification, States or registers on PVM modes).</summary>
    public const ulong Cr0 = 0x8005_0033;

    /// <summary>CR4 with which the guest runs: PAE, OSFXSR, OSXMMEXCPT, FSGSBASE.</summary>
    public const ulong Cr4 = 0x1_0620;

    /// <summary>CR4.SMEP, which the newest branch wants.</summary>
    public const ulong Smep = 1UL << 20;

    /// <summary>EFER with which the guest runs: SCE, LME, LMA, NXE.</summary>
    public const ulong Efer = 0xd01;

    /// <summary>DR6 until a #DB comes.</summary>
    public const ulong Dr6 = 0xffff_0ff0;

    /// <summary>DR7 with nothing armed.</summary>
    public const ulong Dr7 = 0x400;

    /// <summary>A LINEAR_ADDRESS_RANGE that one host chose: PML4 entries 193 to 1b2, no PML5.</summary>
    public const ulong Range = 0xffff_ffff_ffb3_ff93;

    /// <summary>The first address of <see cref="Range"/> in the upper half.</summary>
    public const ulong RangeStart = 0xffff_c980_0000_0000;

    /// <summary>The first address after it.</summary>
    public const ulong RangeEnd = 0xffff_d980_0000_0000;

    /// <summary>Sizes of the area below RSP that a delivery in supervisor mode leaves alone.</summary>
    public static ReadOnlySpan<ulong> Redzones => [0, 0, 0, 128, 128, 128, 128, 1, 7, 8, 15, 16, 0x7f, 0x81, 0x400, 0xfff, 0x1000, 0x2000, 0x1_0000, 1UL << 31, 1UL << 47, 1UL << 63, ulong.MaxValue];

    /// <summary>Values of STAR that a case may start with; the first is usual.</summary>
    public static ReadOnlySpan<ulong> Stars => [PvmMap.Star, 0x0020_0010_0000_0000, 0x0023_0008_0000_0000, 0x0021_0018_1234_5678, 0x0023_fff0_0000_0000];

    /// <summary>Values of CR0: the usual one, and with one bit changed.</summary>
    public static ReadOnlySpan<ulong> Cr0s =>
    [
        Cr0, Cr0, Cr0, Cr0 | 8, Cr0 | 4, Cr0 & ~2UL, Cr0 & ~0x10UL, Cr0 & ~0x20UL, Cr0 & ~0x1_0000UL, Cr0 & ~0x4_0000UL, Cr0 | 0x2000_0000, Cr0 | 0x4000_0000, Cr0 | 0x6000_0000,
        Cr0 & ~0x8000_0000UL, Cr0 & ~1UL, Cr0 & ~0x8000_0001UL, 0, Cr0 | (1UL << 32), Cr0 | (1UL << 63), Cr0 | 0x40,
    ];

    /// <summary>Bits of CR4 to flip, one at a time.</summary>
    public static ReadOnlySpan<byte> Cr4Bits => [0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 14, 16, 17, 20, 21, 24, 31, 32, 63];

    /// <summary>Values of LINEAR_ADDRESS_RANGE: the usual one, narrower ones, and ones that break the constraints.</summary>
    public static ReadOnlySpan<ulong> Ranges =>
    [
        Range, 0xffff_ffff_ff94_ff93, 0xffff_ffff_ffb3_ffa0, 0, ulong.MaxValue, 0xffff_ffff_ff93_ff93, 0xffff_ffff_ff93_ffb3, 0xffff_ffff_ffff_ff93, 0xffff_ffff_ffb3_fe93,
        0xffff_ffff_00b3_ff93, 0xff94_ff93_ffb3_ff93, 0x7fff_ffff_ffb3_ff93,
    ];

    /// <summary>Descriptors for LOAD_TLS: none, data at DPL 3 and 0, not present, code, a system one, 16-bit data.</summary>
    public static ReadOnlySpan<ulong> Descriptors =>
    [
        0, 0x00cf_f300_0000_ffff, 0x00cf_f312_3456_ffff, 0x00cf_9300_0000_ffff, 0x00cf_7300_0000_ffff, 0x00af_fb00_0000_ffff, 0x0000_8900_0000_0067, 0x008f_f300_0000_ffff, 0xffcf_f7ff_ffff_ffff,
    ];

    /// <summary>Selectors for LOAD_GS.</summary>
    public static ReadOnlySpan<ulong> GsSelectors => [0, 0x2b, 0x33, 0x23, 0x63, 0x6b, 0x73, 0x28, 0x10, 0x18, 0x2c, 0x2f, 0x1000, 0xffff, 0x1_002b, ulong.MaxValue];
}
