using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>What every observed run began with, unless its record says otherwise: the set-up of the guest kernel that ran them, and the emulated processors.</summary>
internal static class XenHostState
{
    /// <summary>The emulator's name of the AMD processor.</summary>
    public const string AmdCpu = "qemu64";

    /// <summary>The emulator's name of the Intel processor.</summary>
    public const string IntelCpu = "Skylake-Client";

    /// <summary>Handler of vector 0, from which those of all vectors follow.</summary>
    public const ulong Handlers = 0xffff_ffff_8010_2000;

    private const ulong CallbacksAt = Handlers + 0x1000;
    private const ulong Cr0 = 0x8005_0033;
    private const PageAccess ReadExecute = PageAccess.Read | PageAccess.Execute;
    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;

    private static readonly ImmutableArray<PageRange> UserPages = [new(0x40_0000, 1, ReadExecute), new(0x40_2000, 1, ReadWrite), new(0x40_5000, 1, ReadWrite)];

    /// <summary>Pages of the user root that records touch.</summary>
    public static PageLayout UserLayout { get; } = PageLayout.Create(UserPages);

    /// <summary>Those, and the kernel's: two stacks, a page of data, the code, and a page of page tables, which Xen keeps read-only.</summary>
    public static PageLayout KernelLayout { get; } = PageLayout.Create(
    [
        .. UserPages,
        new(0xffff_ffff_801b_b000, 1, ReadWrite),
        new(0xffff_ffff_801b_d000, 2, ReadWrite),
        new(0xffff_ffff_801c_0000, 1, ReadExecute),
        new(0xffff_ffff_8020_5000, 1, PageAccess.Read),
    ]);

    /// <summary>All callbacks, none of which masks events by choice.</summary>
    public static ImmutableArray<XenCallback> Callbacks { get; } =
    [
        .. Enum.GetValues<XenCallbackKind>().Select(kind => new XenCallback(kind, kind == XenCallbackKind.Nmi, XenMap.FlatCode64, CallbacksAt + (ulong)((int)kind * XenTrap.HandlerSize))),
    ];

    /// <summary>Control and debug registers as the guest kernel reads them, and its stack selector.</summary>
    public static SystemState System { get; } = SystemState.Of(
        new(SystemRegister.Cr0, Cr0), new(SystemRegister.Cr4, 0x660), new(SystemRegister.Dr6, 0xffff_0ff0), new(SystemRegister.Dr7, 0x400), new(SystemRegister.XenKernelSs, XenMap.FlatData));

    /// <summary>What instructions read of the host.</summary>
    public static ImmutableSortedDictionary<Reading, ulong> Readings { get; } = new Dictionary<Reading, ulong>
    {
        [Reading.Xcr0] = 3,
        [Reading.LdtSelector] = 0,
        [Reading.TaskSelector] = 0xe040,
        [Reading.Cr0] = Cr0,
    }.ToImmutableSortedDictionary();

    /// <summary>The emulated processor, by CPUID as the records show it and by what was an undefined opcode under Xen.</summary>
    public static CpuProfile Profile(string cpu) => cpu == AmdCpu ? Amd : Intel;

    /// <summary><c>amd</c> or <c>intel</c>.</summary>
    public static string VendorOf(string cpu) => cpu == AmdCpu ? "amd" : "intel";

    private static CpuProfile Amd { get; } = new()
    {
        Vendor = CpuVendor.Amd,
        Family = 15,
        Features = ["AM", "CLFSH", "CMOV", "CMPXCHG16B", "CX8", "FPU", "FXSR", "MMX", "MSR", "MULTIBYTENOP", "PAUSE", "SSE", "SSE2", "SSE3", "SYSCALL", "TSC"],
    };

    private static CpuProfile Intel { get; } = Amd with
    {
        Vendor = CpuVendor.Intel,
        Family = 6,
        Features = Amd.Features.Union(
            ["ADX", "AES", "BMI1", "BMI2", "CLFLUSHOPT", "LZCNT", "MOVBE", "OSXSAVE", "PCLMULQDQ", "POPCNT", "RDRAND", "RDSEED", "RDTSCP", "SEP", "SSE4_1", "SSE4_2", "SSSE3", "XSAVE"]),
    };
}
