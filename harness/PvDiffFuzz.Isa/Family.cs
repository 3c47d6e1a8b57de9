namespace PvDiffFuzz.Isa;

/// <summary>What kind of work an instruction does. Weights, coverage and reports speak in families.</summary>
public enum Family
{
    /// <summary>ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG, ADCX, ADOX and the decimal adjustments.</summary>
    Arithmetic,

    /// <summary>AND, OR, XOR, NOT, TEST.</summary>
    Logic,

    /// <summary>Shifts and rotates, double shifts included.</summary>
    Shift,

    /// <summary>MUL, IMUL, DIV, IDIV, MULX.</summary>
    Multiply,

    /// <summary>Moves, extensions, conversions, byte swaps, conditional moves, LEA.</summary>
    Move,

    /// <summary>PUSH, POP, ENTER, LEAVE and the flag pushes and pops.</summary>
    Stack,

    /// <summary>Near and far control transfers, IRET included.</summary>
    Branch,

    /// <summary>BT, BTS, BTR, BTC, BSF, BSR and SETcc.</summary>
    Bit,

    /// <summary>MOVS, CMPS, STOS, LODS, SCAS.</summary>
    String,

    /// <summary>CLC, STC, CMC, CLD, STD, LAHF, SAHF, SALC.</summary>
    Flags,

    /// <summary>What user code enters its supervisor with: INT n, INT3, INTO, ICEBP, UD0 to UD2, BOUND, SYSCALL, SYSENTER, HLT, CLI, STI, IN, OUT, INS, OUTS.</summary>
    Entry,

    /// <summary>What CPL3 may not do: control registers, MSRs, descriptor-table loads, cache and TLB maintenance, virtualisation.</summary>
    Privileged,

    /// <summary>Loads, stores and checks of segment registers, selectors and segment bases.</summary>
    Segment,

    /// <summary>XCHG, XADD, CMPXCHG and its wide forms, and the newer read-modify-write forms.</summary>
    Atomic,

    /// <summary>BMI1, BMI2, TBM, LZCNT, TZCNT, POPCNT, CRC32, MOVBE.</summary>
    Bmi,

    /// <summary>NOP, PAUSE, prefetches, fences, cache-line hints.</summary>
    Nop,

    /// <summary>Time, identity, random numbers, extended-state saves and the rest.</summary>
    Misc,
}
