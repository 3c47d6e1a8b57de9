namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <summary>What a PVM payload does that the instruction families of <see cref="GeneratorOptions.Weights"/> do not cover, or not with telling operands.</summary>
public enum PvmAction : byte
{
    /// <summary>CLI or STI.</summary>
    InterruptFlag,

    /// <summary>HLT.</summary>
    Halt,

    /// <summary>PUSHF, or POPF with flags chosen for it.</summary>
    FlagsOnStack,

    /// <summary>MOV to or from CR0, CR2, CR3, CR4, CR8 or a control register that does not exist; CLTS, LMSW.</summary>
    ControlRegister,

    /// <summary>MOV to or from a debug register.</summary>
    DebugRegister,

    /// <summary>LGDT, LIDT, LLDT or LTR; under UMIP SGDT, SIDT and SMSW of supervisor code as well, the first two behind a load.</summary>
    DescriptorTable,

    /// <summary>INVLPG, INVPCID, INVD or WBINVD; INVLPG of the synthetic CPUID's address alone.</summary>
    Invalidate,

    /// <summary>RDMSR.</summary>
    ReadMsr,

    /// <summary>WRMSR with a value that suits the register.</summary>
    WriteMsr,

    /// <summary>What supervisor software of PVM must not use, and what no revision offers: SWAPGS, SYSRET, SYSEXIT, SYSENTER, STAC, CLAC, XSETBV, MONITOR, MWAIT, RSM.</summary>
    Forbidden,

    /// <summary>The synthetic CPUID.</summary>
    SyntheticCpuid,

    /// <summary>RDFSBASE, RDGSBASE, WRFSBASE or WRGSBASE.</summary>
    SegmentBase,

    /// <summary>IRETQ or a far RET.</summary>
    FarReturn,

    /// <summary>INT3, INT n, or INTO where it exists.</summary>
    SoftwareInterrupt,

    /// <summary>UD0, UD1, UD2, or ICEBP.</summary>
    Undefined,

    /// <summary>A division by zero or with a quotient too large.</summary>
    DivideError,

    /// <summary>An access, or a jump, that mostly faults.</summary>
    PageFault,

    /// <summary>Sets TF by POPF.</summary>
    SingleStep,

    /// <summary>MOV or POP SS, and an event right behind it; with TF in half of the cases.</summary>
    StackShadow,

    /// <summary>SYSCALL with a hypercall's number and arguments; prefixed at times. In compatibility mode SYSCALL with INT 80h behind it.</summary>
    Hypercall,

    /// <summary>A load or store of a field of the per-VCPU structure.</summary>
    Structure,

    /// <summary>EVENT_RETURN_USER with a context of its own, or SYSCALLs right beside it.</summary>
    ReturnToUser,

    /// <summary>EVENT_RETURN_SUPERVISOR with a frame of its own (later revisions: IRETQ), or SYSCALLs right beside it.</summary>
    ReturnToSupervisor,

    /// <summary>Puts an entry point into the payload, so that a delivery there is a jump.</summary>
    MoveEntry,
}
