namespace PvDiffFuzz.Harness.Generate.Xen;

/// <summary>What a payload of a Xen guest does that the instruction families of <see cref="GeneratorOptions.Weights"/> do not cover, or not with telling operands.</summary>
public enum XenAction : byte
{
    /// <summary>INT3, INT n with vectors that matter, INTO where it exists.</summary>
    SoftwareInterrupt,

    /// <summary>The same behind prefixes.</summary>
    PrefixedInterrupt,

    /// <summary>ICEBP.</summary>
    Icebp,

    /// <summary>UD0, UD1, UD2.</summary>
    Undefined,

    /// <summary>BOUND, in 32-bit code.</summary>
    Bound,

    /// <summary>SYSCALL of user code; prefixed at times.</summary>
    SystemCall,

    /// <summary>SYSENTER.</summary>
    Sysenter,

    /// <summary>A division by zero or with a quotient too large.</summary>
    DivideError,

    /// <summary>An access, or a jump, that mostly faults.</summary>
    PageFault,

    /// <summary>Sets TF by POPF.</summary>
    SingleStep,

    /// <summary>MOV or POP SS, and an event right behind it.</summary>
    StackShadow,

    /// <summary>PUSHF, or POPF with flags chosen for it.</summary>
    FlagsOnStack,

    /// <summary>CLI or STI.</summary>
    InterruptFlag,

    /// <summary>HLT, WBINVD, INVLPG, LGDT, LIDT, LLDT, LTR, LMSW, SWAPGS, SYSRET, SYSEXIT, XSETBV, STAC, CLAC, MONITOR, MWAIT.</summary>
    Refused,

    /// <summary>MOV to or from CR0, CR2, CR4, CR8 or a control register that does not exist; CLTS.</summary>
    ControlRegister,

    /// <summary>MOV to or from a debug register.</summary>
    DebugRegister,

    /// <summary>RDMSR.</summary>
    ReadMsr,

    /// <summary>WRMSR with a value that suits the register.</summary>
    WriteMsr,

    /// <summary>IN, OUT, OUTS, to ports where nothing answers.</summary>
    Port,

    /// <summary>The forced emulation prefix with CPUID of Xen's first leaf, or with something else.</summary>
    ForcedEmulation,

    /// <summary>RDFSBASE, RDGSBASE, WRFSBASE or WRGSBASE.</summary>
    SegmentBase,

    /// <summary>IRET or a far RET to code of the same mode, or a far CALL through a selector that may be a gate.</summary>
    FarTransfer,

    /// <summary>A hypercall with its arguments, and structures in memory.</summary>
    Hypercall,

    /// <summary>HYPERVISOR_iret with a frame of its own.</summary>
    Return,
}
