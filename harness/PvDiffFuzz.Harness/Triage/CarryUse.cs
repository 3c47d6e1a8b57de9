using Iced.Intel;

namespace PvDiffFuzz.Harness;

/// <summary>What an instruction does with CF, as far as a shift to the left is concerned.</summary>
/// <param name="Rotates">It is an RCL or RCR, which take CF as a bit of the operand.</param>
/// <param name="Shifts">It is an SHL or SHLD of less than 64 bits, so that what an emulator keeps for CF may have bits beside it.</param>
/// <param name="Replaces">CF is another one behind it.</param>
internal readonly record struct CarryUse(bool Rotates, bool Shifts, bool Replaces)
{
    /// <summary>Looks at an instruction as Iced describes it; one that does not decode uses nothing.</summary>
    public static CarryUse Of(in Instruction instruction) => new(
        instruction.Mnemonic is Mnemonic.Rcl or Mnemonic.Rcr,
        instruction.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shld && BytesOf(in instruction) < sizeof(ulong),
        (instruction.RflagsModified & RflagsBits.CF) != 0);

    private static int BytesOf(in Instruction instruction) =>
        instruction.Op0Kind == OpKind.Register ? instruction.Op0Register.GetSize() : instruction.MemorySize.GetSize();
}
