using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>One instruction form in one mode, laid out so that a generator can encode and track it without asking Iced again.</summary>
/// <remarks>Immutable after <see cref="InstructionForms"/> built it; one instance per form and mode for the whole process.</remarks>
public sealed class FormTemplate
{
    internal FormTemplate()
    {
    }

    /// <summary>Iced's name of the form.</summary>
    public Code Code { get; internal init; }

    /// <summary>Mode in which this template encodes the form.</summary>
    public CpuMode Mode { get; internal init; }

    /// <summary>Family.</summary>
    public Family Family { get; internal init; }

    /// <summary>How the opcode is introduced.</summary>
    public OpcodeSpace Space { get; internal init; }

    /// <summary>Mandatory prefix 0x66, 0xf2 or 0xf3, or 0.</summary>
    public byte MandatoryPrefix { get; internal init; }

    /// <summary>Escape bytes and opcode, first byte lowest (legacy), or the opcode alone (VEX, XOP).</summary>
    public uint Opcode { get; internal init; }

    /// <summary>Bytes in <see cref="Opcode"/>.</summary>
    public int OpcodeLength { get; internal init; }

    /// <summary>VEX or XOP map number.</summary>
    public byte Map { get; internal init; }

    /// <summary>The operand-size prefix 0x66 is needed.</summary>
    public bool OperandSizePrefix { get; internal init; }

    /// <summary>The address-size prefix 0x67 is needed: the form is defined by its address size.</summary>
    public bool AddressSizePrefix { get; internal init; }

    /// <summary>REX.W, VEX.W or XOP.W is set.</summary>
    public bool Wide { get; internal init; }

    /// <summary>Use of the <c>reg</c> field.</summary>
    public RegField RegField { get; internal init; }

    /// <summary>The digit for <see cref="RegField.Digit"/>.</summary>
    public byte Digit { get; internal init; }

    /// <summary>Bits of the general register in <c>reg</c>: 8, 16, 32 or 64.</summary>
    public byte RegBits { get; internal init; }

    /// <summary>Use of the <c>rm</c> field.</summary>
    public RmField RmField { get; internal init; }

    /// <summary>Bits of the register in <c>rm</c>.</summary>
    public byte RmBits { get; internal init; }

    /// <summary>Bits of the register in the opcode byte, or 0.</summary>
    public byte OpcodeRegBits { get; internal init; }

    /// <summary>Bits of the register in VEX.vvvv, or 0.</summary>
    public byte VvvvBits { get; internal init; }

    /// <summary>Bytes of the immediate, 0 to 8.</summary>
    public byte ImmediateBytes { get; internal init; }

    /// <summary>Bytes of the second immediate: 1 for ENTER, 2 for the selector of a far pointer, else 0.</summary>
    public byte SecondBytes { get; internal init; }

    /// <summary>Bytes of the branch displacement, or 0.</summary>
    public byte BranchBytes { get; internal init; }

    /// <summary>The immediate is an absolute address whose size is the address size.</summary>
    public bool AbsoluteAddress { get; internal init; }

    /// <summary>Bytes that the memory operand accesses; 1 where the form has no fixed size.</summary>
    public int MemoryBytes { get; internal set; } = 1;

    /// <summary>Access to the <c>reg</c> operand.</summary>
    public Access RegAccess { get; internal set; }

    /// <summary>Access to the <c>rm</c> operand when it is a register.</summary>
    public Access RmAccess { get; internal set; }

    /// <summary>Access to the <c>rm</c> operand when it is memory; <see cref="Access.None"/> for LEA, NOP and prefetches.</summary>
    public Access MemoryAccess { get; internal set; }

    /// <summary>Access to the register in the opcode byte.</summary>
    public Access OpcodeRegAccess { get; internal set; }

    /// <summary>Access to the register in VEX.vvvv.</summary>
    public Access VvvvAccess { get; internal set; }

    /// <summary>General registers read besides the explicit operands, one bit each in encoding order.</summary>
    public ushort ImplicitRead { get; internal set; }

    /// <summary>General registers written besides the explicit operands.</summary>
    public ushort ImplicitWrite { get; internal set; }

    /// <summary>RFLAGS bits read.</summary>
    public ulong FlagsRead { get; internal set; }

    /// <summary>RFLAGS bits that get a defined value when the form completes and its count, if it has one, is not 0.</summary>
    public ulong FlagsDefined { get; internal set; }

    /// <summary>RFLAGS bits that may be undefined afterwards.</summary>
    public ulong FlagsUndefined { get; internal set; }

    /// <summary>Change of RSP, or 0.</summary>
    public int StackDelta { get; internal set; }

    /// <summary>LOCK is legal with a memory destination.</summary>
    public bool CanLock { get; internal init; }

    /// <summary>One of the string instructions, INS and OUTS included.</summary>
    public bool IsString { get; internal init; }

    /// <summary>REP, REPE or REPNE means something.</summary>
    public bool CanRepeat { get; internal init; }

    /// <summary>How control leaves the instruction.</summary>
    public FlowControl Flow { get; internal init; }

    /// <summary>Prefix bytes that may be put in front without changing the form: see <see cref="SafePrefix"/>.</summary>
    public SafePrefixes SafePrefix { get; internal set; }

    /// <summary>CPUID features that the form needs, in Iced's spelling.</summary>
    public IReadOnlyList<string> Features { get; internal init; } = [];

    /// <summary>Opcode and mode, for messages.</summary>
    public override string ToString() => $"{Code} ({Mode})";
}

/// <summary>Prefix bytes in front of a form after which Iced still decodes the same form.</summary>
[Flags]
public enum SafePrefixes : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>0x66.</summary>
    OperandSize = 1,

    /// <summary>0x67, with a register operand.</summary>
    AddressSize = 2,

    /// <summary>0xf2.</summary>
    Repne = 4,

    /// <summary>0xf3.</summary>
    Rep = 8,

    /// <summary>A REX byte (64-bit mode, legacy opcodes).</summary>
    Rex = 16,

    /// <summary>Segment overrides, with a register operand.</summary>
    Segment = 32,
}
