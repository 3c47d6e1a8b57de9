using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>What generated Xen cases add to <see cref="AddressMap"/>: the guest kernel's pages, and where a target's agent takes events.</summary>
/// <remarks>
/// A 64-bit guest has a root for its kernel, with the user pages and those of the kernel, and one for user mode. The kernel's blocks lie low, high, and in the upper half of the
/// address space, where kernels are. A 32-bit guest has one root below 4 GiB, and the kernel's pages are supervisor pages.
/// </remarks>
public static class XenMap
{
    /// <summary>Xen's flat 64-bit code at ring 3: CS of a 64-bit guest, kernel and user.</summary>
    public const ushort FlatCode64 = 0xe033;

    /// <summary>Xen's flat 32-bit code at ring 3 for a 64-bit guest.</summary>
    public const ushort FlatCode32 = 0xe023;

    /// <summary>Xen's flat data at ring 3 for a 64-bit guest; ring-3 code of a 32-bit guest.</summary>
    public const ushort FlatData = 0xe02b;

    /// <summary>Ring-1 code of a 32-bit guest.</summary>
    public const ushort KernelCode32 = 0xe019;

    /// <summary>Ring-1 data of a 32-bit guest.</summary>
    public const ushort KernelData32 = 0xe021;

    /// <summary>Ring-3 code of a 32-bit guest.</summary>
    public const ushort UserCode32 = 0xe02b;

    /// <summary>Ring-3 data of a 32-bit guest.</summary>
    public const ushort UserData32 = 0xe033;

    /// <summary>Selectors from here belong to Xen; those below to the guest.</summary>
    public const ushort FirstReservedSelector = 0xe000;

    /// <summary>First address of the range that Xen keeps from a 64-bit guest.</summary>
    public const ulong PrivateFirst = 0xffff_8000_0000_0000;

    /// <summary>Last address of that range.</summary>
    public const ulong PrivateLast = 0xffff_87ff_ffff_ffff;

    /// <summary>First address of the range that Xen keeps from a 32-bit guest, up to 4 GiB.</summary>
    public const ulong PrivateFirst32 = 0xf580_0000;

    /// <summary>Base of the guest kernel's block in the upper half.</summary>
    public const ulong UpperBlock = 0xffff_ffff_8100_0000;

    /// <summary>Offset in a block: two pages of kernel code, readable and executable.</summary>
    public const ulong Code = AddressMap.Supervisor;

    /// <summary>Offset in a block at which generated kernel code ends; <see cref="TestCase.StubLength"/> bytes remain for a target's jump stub.</summary>
    public const ulong CodeEnd = Code + 0x2000 - TestCase.StubLength;

    /// <summary>Offset in a block: two writable kernel pages for the stack.</summary>
    public const ulong Stack = 0x7_0000;

    /// <summary>Offset in a block: a writable kernel page, then a read-only one.</summary>
    public const ulong Data = 0x8_0000;

    /// <summary>Offset in a block: two writable pages that only the user root has.</summary>
    public const ulong UserOnly = 0xa_0000;

    /// <summary>Offset in a block: a page that is writable under the kernel's root and read-only under the user root.</summary>
    public const ulong WritableForKernel = 0xc_0000;

    /// <summary>Handler of vector 0 of a 64-bit guest: in the agent's range, under the kernel's root alone.</summary>
    public const ulong Handlers = AddressMap.AgentFirst + 0x20_0000;

    /// <summary>Callbacks of a 64-bit guest: <see cref="XenTrap.HandlerSize"/> bytes for each kind, in the order of <see cref="XenCallbackKind"/>.</summary>
    public const ulong Callbacks = Handlers + 0x1000;

    /// <summary>Handler of vector 0 of a 32-bit guest. A target keeps its agent in the <see cref="AgentSize32"/> bytes from here.</summary>
    public const ulong Handlers32 = 0x2000_0000;

    /// <summary>Bytes that the agent of a 32-bit guest may take.</summary>
    public const ulong AgentSize32 = 0x100_0000;

    /// <summary>Callbacks of a 32-bit guest.</summary>
    public const ulong Callbacks32 = Handlers32 + 0x1000;

    private const PageAccess ReadWrite = PageAccess.Read | PageAccess.Write;
    private const PageAccess ReadExecute = PageAccess.Read | PageAccess.Execute;

    private static readonly PageLayout Kernel64 = PageLayout.Create(
    [
        .. AddressMap.Standard.Ranges,
        .. Kernel(AddressMap.LowBlock, PageAccess.None),
        .. Kernel(AddressMap.HighBlock, PageAccess.None),
        .. Kernel(UpperBlock, PageAccess.None),
    ]);

    private static readonly PageLayout User64 = PageLayout.Create([.. AddressMap.Standard.Ranges, .. User(AddressMap.LowBlock), .. User(AddressMap.HighBlock)]);

    private static readonly PageLayout Kernel32 = PageLayout.Create(
        [.. AddressMap.Standard.Ranges.Where(r => r.Last < AddressMap.FourGigabyteEdge), .. Kernel(AddressMap.LowBlock, PageAccess.Supervisor)]);

    /// <summary>The standard trap table of a 64-bit guest.</summary>
    public static XenTrapTable Traps { get; } = XenTrapTable.At(Handlers, FlatCode64);

    /// <summary>The standard trap table of a 32-bit guest.</summary>
    public static XenTrapTable Traps32 { get; } = XenTrapTable.At(Handlers32, KernelCode32);

    /// <summary>The pages of the kernel's root.</summary>
    public static PageLayout KernelLayout(Abi abi) => abi == Abi.XenPv32 ? Kernel32 : Kernel64;

    /// <summary>The pages of the user root; null for a 32-bit guest, which has one root.</summary>
    public static PageLayout? UserLayout(Abi abi) => abi == Abi.XenPv32 ? null : User64;

    /// <summary>Where the agent takes a callback.</summary>
    public static ulong CallbackAddress(Abi abi, XenCallbackKind kind) => (abi == Abi.XenPv32 ? Callbacks32 : Callbacks) + (ulong)((int)kind * XenTrap.HandlerSize);

    private static ImmutableArray<PageRange> Kernel(ulong at, PageAccess rights) =>
    [
        new PageRange(at + Code, 2, ReadExecute | rights),
        new PageRange(at + Stack, 2, ReadWrite | rights),
        new PageRange(at + Data, 1, ReadWrite | rights),
        new PageRange(at + Data + PageLayout.PageSize, 1, PageAccess.Read | rights),
        new PageRange(at + WritableForKernel, 1, ReadWrite | rights),
    ];

    private static ImmutableArray<PageRange> User(ulong at) =>
    [
        new PageRange(at + UserOnly, 2, ReadWrite),
        new PageRange(at + WritableForKernel, 1, PageAccess.Read),
    ];
}
