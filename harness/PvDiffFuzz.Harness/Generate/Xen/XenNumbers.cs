using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <summary>Hypercall numbers and commands that cases use. Numbers that are missing act on the machine, or answer what only it knows.</summary>
internal static class XenCall
{
#pragma warning disable CS1591 // Each constant is the call or command of that name, HYPERVISOR_, VMASST_CMD_ and the like left out (Xen facts, Hypercall numbers).
    public const ulong SetTrapTable = 0, SetGdt = 2, StackSwitch = 3, SetCallbacks = 4, FpuTaskswitch = 5, SchedOpCompat = 6, SetDebugreg = 8, GetDebugreg = 9, UpdateDescriptor = 10,
        Multicall = 13, XenVersion = 17, ConsoleIo = 18, VmAssist = 21, Iret = 23, VcpuOp = 24, SetSegmentBase = 25, NmiOp = 28, SchedOp = 29, CallbackOp = 30, PhysdevOp = 33;

    public const ulong Yield = 0, Block = 1, Shutdown = 2, ShutdownCrash = 3, IsUp = 3, SetIopl = 6, SetIobitmap = 7, Register = 0, Unregister = 1, GsUserSelector = 3;
#pragma warning restore CS1591

    /// <summary>Numbers that name no call: beyond the last, gaps, and valid ones with high bits set.</summary>
    public static ReadOnlySpan<ulong> Unknown => [56, 63, 64, 0xff, 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0011, 0x8000_0000_0000_0000, ulong.MaxValue, ulong.MaxValue - 37];

    /// <summary>Types of callbacks, with those that no guest can register.</summary>
    public static ReadOnlySpan<ushort> CallbackTypes => [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6, 7, 7, 8, 0xffff];
}

/// <summary>Vectors, ports and values at which the ABI changes its behaviour.</summary>
internal static class XenEdges
{
    /// <summary>CR0 as a guest reads it.</summary>
    public const ulong Cr0 = 0x8005_0033;

    /// <summary>CR0.TS.</summary>
    public const ulong TaskSwitched = 8;

    /// <summary>CR4 as a guest reads it: PAE, MCE, OSFXSR, OSXMMEXCPT.</summary>
    public const ulong Cr4 = 0x660;

    /// <summary>DR6 until a #DB comes.</summary>
    public const ulong Dr6 = 0xffff_0ff0;

    /// <summary>DR7 with nothing armed.</summary>
    public const ulong Dr7 = 0x400;

    /// <summary>The assist by which an iret frame sets the virtual IOPL.</summary>
    public const int ArchitecturalIopl = 4;

    /// <summary>A port that only takes notes of what is written (POST).</summary>
    public const byte NotesPort = 0x80;

    /// <summary>A port where nothing answers.</summary>
    public const byte EmptyPort = 0xe4;

    /// <summary>Vectors whose gates or virtual DPLs matter; the last are ordinary ones.</summary>
    public static ReadOnlySpan<byte> Interrupts => [3, 3, 4, 4, 0x80, 0x80, 0x80, 0x82, 0x82, 0x81, 0x40, 0x40, 0x40, 0x20, 0xff, 0, 1, 2, 6, 8, 13, 14, 15, 18, 31];

    /// <summary>Vectors without which no exception is lost, so that they may be holes.</summary>
    public static ReadOnlySpan<byte> Spare => [0x80, 0x80, 0x82, 0x81, 0x40, 0x40, 0x20, 0xff, 9, 15, 20, 31];

    /// <summary>Vectors of exceptions that a payload may raise.</summary>
    public static ReadOnlySpan<byte> Exceptions => [0, 1, 3, 4, 5, 6, 13, 14, 14, 17];

    /// <summary>Vectors of exceptions whose delivery is the same under IDT and FRED, and that INT n seldom names but for 3 and 4, which are exceptions then.</summary>
    public static ReadOnlySpan<byte> AlikeVectors => [3, 3, 4, 5, 17];

    /// <summary>MSRs with an effect or an answer that the ABI fixes, then ones that are refused.</summary>
    public static ReadOnlySpan<uint> Msrs =>
    [
        0xc000_0100, 0xc000_0100, 0xc000_0101, 0xc000_0101, 0xc000_0102, 0xc000_0102, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xdead_beef, 0x7fff_ffff,
    ];

    /// <summary>Values of the flags word of an iret frame.</summary>
    public static ReadOnlySpan<ulong> IretFlags => [0, 0, 0, 0, 0, 0x100, 0x100, 0x100, 1, 4, 0x104, 0x20, 0xff, 0xffff_ffff_ffff_feff, ulong.MaxValue];

    /// <summary>Releases on both sides of each row of the table of versions, and debug builds. In 4.21.1 RCX is not loaded under FRED, so that everything that counts with it differs from IDT delivery: it is not among them.</summary>
    public static ImmutableArray<XenVersion> Versions { get; } =
    [
        .. ((ReadOnlySpan<string>)["4.14.6", "4.14.6", "4.14.6", "4.17.4", "4.17.7", "4.18.3", "4.19.4", "4.20.2", "4.20.4", "4.21.2", "4.17.7+debug", "4.22.0+debug"]).ToArray().Select(text => XenVersion.Parse(text)!),
    ];

    /// <summary>Bytes of the upcall mask and of the pending flag: any value but 0 counts.</summary>
    public static ReadOnlySpan<byte> Truths => [1, 1, 1, 1, 0xff, 2, 0x80];

    /// <summary>Debug control: off, local and global breakpoints of each kind, general detection, reserved bits.</summary>
    public static ReadOnlySpan<ulong> Dr7s => [Dr7, Dr7, 0, 0x401, 0x1_0401, 0xd_0401, 0x9_0402, 0x3_0404, 0x2400, 0x27ff, 0xffff_ffff, 1UL << 32, ulong.MaxValue];

    /// <summary>Debug status: as after reset, all clear, with bits met, reserved ones, too wide.</summary>
    public static ReadOnlySpan<ulong> Dr6s => [Dr6, Dr6, 0, 0xffff_4ff0, 0xffff_ffff, 0x400f, 1UL << 32, ulong.MaxValue];

    /// <summary>Descriptors: none, data and code at DPL 3 and 0, not present, a call gate, a TSS, 16-bit data, expand-down, conforming.</summary>
    public static ReadOnlySpan<ulong> Descriptors =>
    [
        0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0x00cf_fb00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff, 0x00cf_7300_0000_ffff, 0x0000_ec00_0008_0000, 0x0000_8900_0000_0067,
        0x008f_f300_0000_ffff, 0x00cf_f700_0000_0fff, 0x00cf_ff00_0000_ffff, 0x00cf_f200_0000_ffff,
    ];
}
