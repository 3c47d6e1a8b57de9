namespace PvDiffFuzz.Isa;

/// <summary>How the opcode is introduced.</summary>
public enum OpcodeSpace : byte
{
    /// <summary>Legacy prefixes, REX, escape bytes.</summary>
    Legacy,

    /// <summary>Three-byte VEX prefix.</summary>
    Vex,

    /// <summary>AMD's XOP prefix.</summary>
    Xop,
}

/// <summary>What the <c>reg</c> field of ModRM names.</summary>
public enum RegField : byte
{
    /// <summary>There is no ModRM byte, or the field is not used.</summary>
    None,

    /// <summary>A digit that is part of the opcode.</summary>
    Digit,

    /// <summary>A general register.</summary>
    General,

    /// <summary>A segment register.</summary>
    Segment,

    /// <summary>A control register.</summary>
    Control,

    /// <summary>A debug register.</summary>
    Debug,
}

/// <summary>What the <c>rm</c> field of ModRM may name.</summary>
public enum RmField : byte
{
    /// <summary>There is no ModRM byte.</summary>
    None,

    /// <summary>A general register only.</summary>
    Register,

    /// <summary>Memory only.</summary>
    Memory,

    /// <summary>Either.</summary>
    Either,
}

/// <summary>Whether an explicit operand is read, written or both.</summary>
[Flags]
public enum Access : byte
{
    /// <summary>There is no such operand, or it is only an address.</summary>
    None = 0,

    /// <summary>Read, perhaps under a condition.</summary>
    Read = 1,

    /// <summary>Written, perhaps under a condition.</summary>
    Write = 2,
}

/// <summary>A memory operand as the addressing bytes express it.</summary>
/// <param name="Base">Base register 0 to 15, <see cref="None"/>, or <see cref="Rip"/>.</param>
/// <param name="Index">Index register 0 to 15 except 4 (RSP), or <see cref="None"/>.</param>
/// <param name="Scale">0 to 3: the index is shifted left by this.</param>
/// <param name="Displacement">Signed displacement; for <see cref="Rip"/> counted from the end of the instruction.</param>
/// <param name="WideDisplacement">True to spend 32 bits where 8 would do.</param>
public readonly record struct MemoryOperand(sbyte Base, sbyte Index, byte Scale, int Displacement, bool WideDisplacement = false)
{
    /// <summary>No register.</summary>
    public const sbyte None = -1;

    /// <summary>The next instruction's address (64-bit mode only).</summary>
    public const sbyte Rip = 16;
}

/// <summary>The operands with which a form is encoded. Fields that a form does not have are ignored.</summary>
public struct OperandChoice
{
    /// <summary>Marks one of AH, CH, DH, BH (numbers 4 to 7) in an 8-bit register operand.</summary>
    public const byte HighByte = 0x10;

    /// <summary>Register of the <c>reg</c> field.</summary>
    public byte Reg;

    /// <summary>Register of the <c>rm</c> field, when <see cref="IsMemory"/> is false.</summary>
    public byte Rm;

    /// <summary>Register in the opcode byte.</summary>
    public byte OpcodeReg;

    /// <summary>Register of VEX.vvvv.</summary>
    public byte Vvvv;

    /// <summary>True when <c>rm</c> is <see cref="Memory"/>.</summary>
    public bool IsMemory;

    /// <summary>The memory operand.</summary>
    public MemoryOperand Memory;

    /// <summary>Immediate, branch displacement, absolute offset or far offset; truncated to the form's size.</summary>
    public ulong Immediate;

    /// <summary>Second immediate: nesting level of ENTER, selector of a far pointer.</summary>
    public ushort Second;

    /// <summary>Segment override byte, or 0.</summary>
    public byte SegmentPrefix;

    /// <summary>True to put 0x67 in front: 32-bit addresses in 64-bit mode, 16-bit ones in 32-bit mode.</summary>
    public bool AddressPrefix;

    /// <summary>0, or a REX byte to OR into the one that the operands need (64-bit mode).</summary>
    public byte Rex;
}
