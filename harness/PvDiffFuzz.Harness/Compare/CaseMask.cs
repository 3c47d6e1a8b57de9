using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>What the specification leaves undefined at one event of a case: bits that the comparer does not look at.</summary>
public sealed record CaseMask
{
    /// <summary>Nothing is undefined.</summary>
    public static CaseMask None { get; } = new();

    /// <summary>RFLAGS bits that no instruction defined since they became undefined.</summary>
    public ulong Rflags { get; init; }

    /// <summary>RFLAGS bits that were undefined when an event of a case with responses saved them.</summary>
    public ulong Saved { get; init; }

    /// <summary>Undefined bits of each general register.</summary>
    public GprFile Gpr { get; init; }

    /// <summary>True when all memory that the case wrote may hold anything. <see cref="Parts"/> can leave some of it undefined.</summary>
    public bool Memory { get; init; }

    /// <summary>True when an instruction used an undefined bit, so that anything after it may differ.</summary>
    public bool Consumed { get; init; }

    /// <summary>Names of the rows of the undefined-bits table that took part.</summary>
    public ImmutableArray<string> Rows { get; init; } = [];

    /// <summary>Which instruction and row left what undefined, memory included; empty for masks that do not know.</summary>
    public ImmutableArray<UndefinedPart> Parts { get; init; } = [];

    /// <summary>What either mask leaves undefined.</summary>
    public CaseMask Or(CaseMask other)
    {
        GprFile gpr = Gpr;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] |= other.Gpr[i];
        }

        return new CaseMask
        {
            Rflags = Rflags | other.Rflags,
            Saved = Saved | other.Saved,
            Gpr = gpr,
            Memory = Memory || other.Memory,
            Consumed = Consumed || other.Consumed,
            Rows = [.. Rows.Union(other.Rows, StringComparer.Ordinal)],
            Parts = [.. Parts.Union(other.Parts)],
        };
    }
}

/// <summary>Computes what is undefined after a run of instructions.</summary>
/// <param name="trace">Instructions in execution order, the last one included even when it faulted.</param>
/// <param name="vendor">Whose manual.</param>
/// <param name="lastCompleted">True when the last instruction completed; false when it faulted.</param>
public delegate CaseMask UndefinedRule(ImmutableArray<TracedInstruction> trace, CpuVendor vendor, bool lastCompleted);
