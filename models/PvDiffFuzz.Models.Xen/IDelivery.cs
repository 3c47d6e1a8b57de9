using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen;

/// <summary>How the processor enters Xen, as far as a 64-bit guest sees which: by an IDT or by FRED.</summary>
/// <remarks>Implemented by empty structs. The texts say that behaviour for guests remains as unchanged as possible under FRED, so that a member exists only where one of them tells a difference.</remarks>
internal interface IDelivery
{
    /// <summary>The ABI of a 64-bit guest under this delivery.</summary>
    static abstract Abi Abi { get; }

    /// <summary>True when the processor tells the length of an instruction that traps, so that RIP is rewound over its prefixes.</summary>
    static abstract bool TellsLength();

    /// <summary>True when INT 80h looks at the virtual DPL of its gate.</summary>
    static abstract bool ChecksInt80();

    /// <summary>True when an emulated <c>INT n</c> was a fault of the processor's before, so that its frame has RF set.</summary>
    static abstract bool FaultsOnInt();

    /// <summary>The callback whose choice to mask events counts for a SYSCALL of 32-bit user code.</summary>
    static abstract XenCallbackKind MaskOfSyscall32();

    /// <summary>True when a SYSENTER tells where it was executed.</summary>
    static abstract bool TellsSysenter();

    /// <summary>True when RCX and R11 are loaded on the way back from a SYSCALL and into handlers.</summary>
    /// <param name="release">The release.</param>
    static abstract bool LoadsRcx(Release release);
}

/// <summary>Events of the processor come through Xen's IDT.</summary>
internal readonly struct Idt : IDelivery
{
    public static Abi Abi => Abi.XenPv64;

    /// <summary>Lengths are not provided, and Xen does not account for prefixes.</summary>
    [Spec("Xen PV traps", "Notes: IDT delivery, instruction lengths")]
    public static bool TellsLength() => false;

    [Spec("Xen facts", "Software interrupts: INT 80h")]
    public static bool ChecksInt80() => false;

    [Spec("Xen facts", "Software interrupts: other INT n")]
    public static bool FaultsOnInt() => true;

    [Spec("Xen facts", "SYSCALL and SYSENTER: 32-bit user code")]
    public static XenCallbackKind MaskOfSyscall32() => XenCallbackKind.Syscall;

    public static bool TellsSysenter() => false;

    public static bool LoadsRcx(Release release) => true;
}

/// <summary>Events of the processor come by FRED.</summary>
internal readonly struct Fred : IDelivery
{
    public static Abi Abi => Abi.XenPv64Fred;

    /// <summary>The full length is provided, and RIP is rewound fully.</summary>
    [Spec("Xen PV traps", "Notes: FRED delivery, instruction lengths")]
    public static bool TellsLength() => true;

    [Spec("Xen facts", "Software interrupts: INT 80h under FRED")]
    public static bool ChecksInt80() => true;

    [Spec("Xen facts", "Software interrupts: other INT n under FRED")]
    public static bool FaultsOnInt() => false;

    [Spec("Xen facts", "SYSCALL and SYSENTER: 32-bit user code under FRED")]
    public static XenCallbackKind MaskOfSyscall32() => XenCallbackKind.Syscall32;

    [Spec("xen-readings", "sysenter-under-fred")]
    public static bool TellsSysenter() => true;

    /// <summary>FRED's SYSCALL and ERETU leave both registers alone; Xen adjusts them since a guest can see it.</summary>
    [Spec("Xen FRED", "Better SYSCALL backwards compatibility")]
    public static bool LoadsRcx(Release release) => release.LoadsRcxUnderFred;
}
