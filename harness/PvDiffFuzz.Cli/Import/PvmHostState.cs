using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>What every observed run began with, unless its record says otherwise: the set-up of the monitor that ran them.</summary>
internal static class PvmHostState
{
    /// <summary>PVM CS and SS of the supervisor, by MSR_STAR.</summary>
    public const ulong SupervisorCs = 0x10;

    /// <inheritdoc cref="SupervisorCs"/>
    public const ulong SupervisorSs = 0x18;

    /// <summary>MSR_PVM_EVENT_ENTRY; landing pads lie there and at the two offsets of the specification.</summary>
    public const ulong EventEntry = 0x3_0000;

    /// <summary>MSR_LSTAR.</summary>
    public const ulong Lstar = 0x3_1000;

    /// <summary>MSR_PVM_RETU_RIP.</summary>
    public const ulong RetuRip = 0x3_2000;

    /// <summary>MSR_PVM_RETS_RIP.</summary>
    public const ulong RetsRip = 0x3_2010;

    /// <summary>Bytes of an <c>OUT imm8, AL</c>, which are also how far RIP is past a landing pad when the port shows.</summary>
    public const ulong OutLength = 2;

    /// <summary>MSR_KERNEL_GS_BASE, and the supervisor's GS base.</summary>
    public const ulong GsBase = 0xdead000;

    /// <summary>The page that is the structure's, at a guest-physical address and at the same linear one.</summary>
    public const ulong Pvcs = 0x8000;

    private const PageAccess All = PageAccess.Read | PageAccess.Write | PageAccess.Execute;
    private const PageAccess ReadExecute = PageAccess.Read | PageAccess.Execute;
    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;
    private const ulong Root = 0x1000;

    /// <summary>One root for both modes. Low memory is mapped to itself; only the pages that records touch are stated.</summary>
    public static PageLayout Layout { get; } = PageLayout.Create(
    [
        new(0x1_0000, 2, All | PageAccess.Supervisor),
        new(0x1_2000, 1, ReadExecute | PageAccess.Supervisor),
        new(0x1_3000, 1, ReadWrite | PageAccess.Supervisor),
        new(0x2_0000, 4, All | PageAccess.Supervisor),
        new(EventEntry, 3, All | PageAccess.Supervisor),
        new(0x40_0000, 2, All),
        new(0x40_2000, 1, ReadExecute),
        new(0x40_3000, 1, ReadWrite),
        new(0x41_0000, 1, All),
    ]);

    /// <summary>Contents of the pages, the code's own aside.</summary>
    public static ImmutableArray<MemoryContents> Contents { get; } =
    [
        new(0x1_1000, [.. Fill(0x11, 8), .. Fill(0x22, 8)]),
        new(0x2_0000, Fill(0xaa, 4 * PageLayout.PageSize)),
        new(EventEntry, [0xe6, 0x10]),
        new(EventEntry + 256, [0xe6, 0x11]),
        new(EventEntry + 512, [0xe6, 0x12]),
        new(Lstar, [0xe6, 0x13]),
        new(RetuRip, [0x0f, 0x05, 0xe6, 0x14]),
        new(RetsRip, [0x0f, 0x05]),
        new(0x40_1000, [0x0f, 0x05]),
        new(0x41_0000, Fill(0xbb, PageLayout.PageSize)),
    ];

    /// <summary>General registers of both modes; the stack pointer is the record's.</summary>
    public static GprFile Gpr(ulong rsp)
    {
        ReadOnlySpan<ulong> values =
        [
            0xa1a1_a1a1_a1a1_a1a1, 0xc1c1_c1c1_c1c1_c1c1, 0xd1d1_d1d1_d1d1_d1d1, 0xb1b1_b1b1_b1b1_b1b1, rsp, 0xbbbb_0000_0000_0bbb, 0x5151_5151_5151_5151, 0xd0d0_d0d0_d0d0_d0d0,
            8, 9, 0x1010, 0x1111, 0x1212, 0, 0, 0,
        ];
        GprFile gpr = default;
        values.CopyTo(gpr);
        return gpr;
    }

    /// <summary>Control registers and MSRs.</summary>
    public static SystemState System(Abi abi)
    {
        Dictionary<SystemRegister, ulong> values = new()
        {
            [SystemRegister.Cr0] = 0x8005_0033,
            [SystemRegister.Cr2] = 0,
            [SystemRegister.Cr3] = Root,
            [SystemRegister.Cr4] = abi == Abi.PvmRfc1 ? 0x1_0620UL : 0x11_0620,
            [SystemRegister.Efer] = 0xd01,
            [SystemRegister.Star] = PvmMap.Star,
            [SystemRegister.Lstar] = Lstar,
            [SystemRegister.KernelGsBase] = GsBase,
            [SystemRegister.Dr6] = 0xffff_0ff0,
            [SystemRegister.Dr7] = 0x400,
            [SystemRegister.PvmLinearAddressRange] = 0xffff_ffff_ffb3_ff93,
            [SystemRegister.PvmVcpuStruct] = Pvcs,
            [SystemRegister.PvmEventEntry] = EventEntry,
            [SystemRegister.PvmRetuRip] = RetuRip,
        };
        if (abi == Abi.PvmRfc1)
        {
            values[SystemRegister.PvmSupervisorRsp] = 0x2_2f08;
            values[SystemRegister.PvmSupervisorRedzone] = 128;
            values[SystemRegister.PvmRetsRip] = RetsRip;
            values[SystemRegister.PvmSwitchCr3] = Root;
        }

        return SystemState.Of(values);
    }

    /// <summary>The emulated processor, by its CPUID leaves 1 and 7 and by what instructions read of the host.</summary>
    /// <param name="cpu"><c>tcg-amd</c> or <c>tcg-intel</c>.</param>
    public static CpuProfile Profile(string cpu) => cpu == "tcg-amd" ? Amd : Intel;

    /// <summary>What instructions read of the host; several records show each of these, and no two differ.</summary>
    public static ImmutableSortedDictionary<Reading, ulong> Readings { get; } = new Dictionary<Reading, ulong>
    {
        [Reading.Xcr0] = 0x21f,
        [Reading.GdtBase] = 0xffff_fe00_0000_1000,
        [Reading.IdtBase] = 0xffff_fe00_0000_0000,
        [Reading.IdtLimit] = 0xfff,
        [Reading.LdtSelector] = 0,
        [Reading.TaskSelector] = 0x40,
        [Reading.Cr0] = 0x8005_0033,
    }.ToImmutableSortedDictionary();

    private static CpuProfile Amd { get; } = new()
    {
        Vendor = CpuVendor.Amd,
        Family = 15,
        Features =
        [
            "ADX", "AM", "BMI1", "BMI2", "CLFLUSHOPT", "CLFSH", "CLWB", "CMOV", "CMPXCHG16B", "CX8", "FPU", "FSGSBASE", "FXSR", "LZCNT", "MMX", "MOVBE", "MSR", "MULTIBYTENOP",
            "OSXSAVE", "PAUSE", "PKU", "POPCNT", "RDRAND", "RDTSCP", "SSE", "SSE2", "SSE3", "SSE4_2", "SYSCALL", "TSC", "XSAVE",
        ],
    };

    private static CpuProfile Intel { get; } = Amd with { Vendor = CpuVendor.Intel, Family = 6, Features = Amd.Features.Add("SEP") };

    private static ImmutableArray<byte> Fill(byte value, int count) => [.. Enumerable.Repeat(value, count)];
}
