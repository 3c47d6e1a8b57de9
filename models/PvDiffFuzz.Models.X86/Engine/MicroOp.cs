using Iced.Intel;

namespace PvDiffFuzz.Models.X86;

/// <summary>Prefix and size facts of a predecoded instruction.</summary>
[Flags]
internal enum OpFlags : byte
{
    /// <summary>Nothing of note.</summary>
    None = 0,

    /// <summary>F3 on a string instruction: REP or REPE.</summary>
    Rep = 1,

    /// <summary>F2 on a string instruction: REPNE.</summary>
    Repne = 2,

    /// <summary>LOCK was given; legality has been checked by the decoder.</summary>
    Lock = 4,

    /// <summary>The r/m operand is memory.</summary>
    Memory = 8,
}

/// <summary>One predecoded instruction: what to call and with what. Never holds an object.</summary>
/// <remarks>
/// Registers are byte offsets into <see cref="RegisterFile"/>: encoding number times 8, plus 1 for AH, CH, DH and BH. So a read or write of any width is one
/// access and high bytes need no shape of their own. <see cref="RegisterFile.ZeroOffset"/> stands for an absent base or index.
/// </remarks>
// SAFETY: the only pointer is that of a managed static method, put there by OpTable.
internal unsafe struct MicroOp
{
    /// <summary>The operation.</summary>
    public delegate*<ref CpuState, in MicroOp, void> Execute;

    /// <summary>Immediate, sign-extended to 64 bits where the encoding says so; branch target; second immediate in bits 63:32 for ENTER.</summary>
    public ulong Immediate;

    /// <summary>Displacement, sign-extended; the absolute address for RIP-relative operands.</summary>
    public ulong Displacement;

    /// <summary>Applied to the effective address: all ones for 64-bit, else 0xffffffff or 0xffff.</summary>
    public ulong AddressMask;

    /// <summary>Iced's form, for messages and for operations that serve several.</summary>
    public ushort Code;

    /// <summary>Bytes of the instruction, 1 to 15.</summary>
    public byte Length;

    /// <summary>Destination register offset; for a memory destination, unused.</summary>
    public byte Destination;

    /// <summary>Source register offset.</summary>
    public byte Source;

    /// <summary>Third register offset (VEX.vvvv, for example).</summary>
    public byte Third;

    /// <summary>Base register offset.</summary>
    public byte Base;

    /// <summary>Index register offset.</summary>
    public byte Index;

    /// <summary>Left shift of the index, 0 to 3.</summary>
    public byte Scale;

    /// <summary>Segment of the memory operand, 0 to 5 in encoding order ES, CS, SS, DS, FS, GS.</summary>
    public byte Segment;

    /// <summary>Operand size in bytes where the operation needs to know, else 0.</summary>
    public byte Size;

    /// <summary>Prefix facts.</summary>
    public OpFlags Flags;

    /// <summary>The form as Iced names it.</summary>
    public readonly Code Form => (Code)Code;

    /// <summary>Bytes of an address: 8, 4 or 2.</summary>
    public readonly int AddressSize => AddressMask == ulong.MaxValue ? 8 : AddressMask == uint.MaxValue ? 4 : 2;
}
