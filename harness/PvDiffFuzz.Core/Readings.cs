namespace PvDiffFuzz.Core;

/// <summary>What instructions at CPL3 read of the processor or its system, and no two hosts agree on.</summary>
public enum Reading
{
    /// <summary>The time-stamp counter: RDTSC and RDTSCP. Every reading of a case gives the same value.</summary>
    TimeStamp,

    /// <summary>IA32_TSC_AUX: RDTSCP and RDPID. 32 bits.</summary>
    ProcessorNumber,

    /// <summary>RDRAND and RDSEED, which always succeed.</summary>
    Random,

    /// <summary>XCR0: XGETBV with ECX 0.</summary>
    Xcr0,

    /// <summary>State components in use: XGETBV with ECX 1.</summary>
    InUse,

    /// <summary>MPERF: RDPRU with ECX 0.</summary>
    MaximumCycles,

    /// <summary>APERF: RDPRU with ECX 1.</summary>
    ActualCycles,

    /// <summary>Base of the GDT: SGDT. Its limit is <see cref="CpuProfile.GdtLimit"/>.</summary>
    GdtBase,

    /// <summary>Base of the IDT: SIDT.</summary>
    IdtBase,

    /// <summary>Limit of the IDT: SIDT. 16 bits.</summary>
    IdtLimit,

    /// <summary>Selector of the LDT: SLDT. 16 bits. Cases have no LDT, so only the selector shows.</summary>
    LdtSelector,

    /// <summary>Selector of the task register: STR. 16 bits.</summary>
    TaskSelector,

    /// <summary>CR0: SMSW.</summary>
    Cr0,
}

/// <summary>What CPUID answers for one leaf.</summary>
/// <param name="Leaf">EAX.</param>
/// <param name="Subleaf">ECX; null when the leaf does not look at it.</param>
/// <param name="Eax">EAX afterwards.</param>
/// <param name="Ebx">EBX afterwards.</param>
/// <param name="Ecx">ECX afterwards.</param>
/// <param name="Edx">EDX afterwards.</param>
public readonly record struct CpuidLeaf(uint Leaf, uint? Subleaf, uint Eax, uint Ebx, uint Ecx, uint Edx);
