using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Models.X86;

/// <summary>Sixteen general registers in encoding order and one that is always zero.</summary>
[InlineArray(17)]
internal struct RegisterFile
{
    /// <summary>Byte offset of the register that is always zero.</summary>
    public const byte ZeroOffset = 16 * 8;

    private ulong _rax;
}

/// <summary>One value per segment register, in encoding order ES, CS, SS, DS, FS, GS.</summary>
/// <typeparam name="T">Type of the values.</typeparam>
[InlineArray(6)]
internal struct SegmentFile<T>
    where T : unmanaged
{
    private T _es;
}

/// <summary>Byte offsets of general registers, for operations with implicit operands.</summary>
internal static class Gpr
{
    public const byte Rax = 0 * 8;
    public const byte Rcx = 1 * 8;
    public const byte Rdx = 2 * 8;
    public const byte Rbx = 3 * 8;
    public const byte Rsp = 4 * 8;
    public const byte Rbp = 5 * 8;
    public const byte Rsi = 6 * 8;
    public const byte Rdi = 7 * 8;
    public const byte R11 = 11 * 8;

    /// <summary>AH: the second byte of RAX.</summary>
    public const byte Ah = Rax + 1;
}

/// <summary>Segment registers in encoding order.</summary>
internal static class Seg
{
    public const byte Es = 0;
    public const byte Cs = 1;
    public const byte Ss = 2;
    public const byte Ds = 3;
    public const byte Fs = 4;
    public const byte Gs = 5;
}
