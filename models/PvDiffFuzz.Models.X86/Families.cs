using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86.Instructions;

namespace PvDiffFuzz.Models.X86;

/// <summary>All instruction families: one line each.</summary>
internal static class Families
{
    /// <summary>Adds every family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        Arithmetic.Register(table);
        Moves.Register(table, profile);
        Stack.Register(table);
        Branches.Register(table);
        FarTransfers.Register(table);
        Entry.Register(table, profile);
        FlagOps.Register(table);
        Shifts.Register(table);
        Rotates.Register(table);
        MultiplyDivide.Register(table);
        BitOps.Register(table, profile);
        Conditional.Register(table);
        Conversions.Register(table);
        Bmi.Register(table);
        Crc32.Register(table);
        Bcd.Register(table);
        Strings.Register(table);
        Exchange.Register(table);
        DirectStores.Register(table);
        Nops.Register(table, profile);
        HostReadings.Register(table, profile);
        ProtectionKeys.Register(table);
        Waits.Register(table);
        Transactions.Register(table);
        MemoryAtomics.Register(table);
        Privileged.Register(table, profile);
        Segment.Register(table, profile);
    }

    /// <summary>True for encodings that a processor without the feature executes as something older, so that its family decides by profile.</summary>
    public static bool IsHint(Code code) => BitOps.IsHint(code) || Nops.IsHint(code.Mnemonic()) || code == Code.Wbnoinvd;
}
