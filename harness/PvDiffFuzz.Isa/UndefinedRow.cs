using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>When a row applies. For shifts and rotates "count" is the count after masking.</summary>
public enum UndefinedCondition
{
    /// <summary>Whenever the instruction completes.</summary>
    Always,

    /// <summary>The count is not 0.</summary>
    CountNotZero,

    /// <summary>The count is neither 0 nor 1.</summary>
    CountAboveOne,

    /// <summary>The count is at least the operand's size in bits.</summary>
    CountReachesSize,

    /// <summary>The count is above the operand's size in bits.</summary>
    CountAboveSize,

    /// <summary>The source operand is 0. Values are not traced, so this is taken as possible.</summary>
    SourceZero,

    /// <summary>The instruction raised a fault after it had begun to write memory.</summary>
    Faulted,

    /// <summary>A REP or REPNE prefix was given, whose use with the instruction is reserved.</summary>
    RepeatPrefix,
}

/// <summary>What besides flags a row leaves undefined.</summary>
public enum UndefinedTarget
{
    /// <summary>Flags only.</summary>
    Flags,

    /// <summary>The first operand.</summary>
    Destination,

    /// <summary>Bytes of memory that the instruction writes.</summary>
    Memory,

    /// <summary>Everything from here on.</summary>
    Everything,
}

/// <summary>One statement of a manual that something is undefined.</summary>
/// <param name="Id">Stable name for reports.</param>
/// <param name="Mnemonics">All forms of these mnemonics, narrowed by <paramref name="OperandBits"/>.</param>
/// <param name="Condition">When it applies.</param>
/// <param name="Flags">RFLAGS bits that are undefined then.</param>
/// <param name="Source">Where the manuals say so.</param>
/// <param name="Target">What else is undefined.</param>
/// <param name="Vendor">Only this vendor's manual says so, or null for both.</param>
/// <param name="OperandBits">Only for first operands of this size, or 0 for all.</param>
public sealed record UndefinedRow(
    string Id,
    ImmutableArray<Mnemonic> Mnemonics,
    UndefinedCondition Condition,
    ulong Flags,
    string Source,
    UndefinedTarget Target = UndefinedTarget.Flags,
    CpuVendor? Vendor = null,
    int OperandBits = 0);
