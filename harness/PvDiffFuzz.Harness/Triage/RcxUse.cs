using Iced.Intel;

namespace PvDiffFuzz.Harness;

/// <summary>What an instruction does with RCX, which SYSCALL loads.</summary>
/// <param name="Reads">It reads RCX or a part of it.</param>
/// <param name="Replaces">Nothing of what RCX was is left behind it.</param>
internal readonly record struct RcxUse(bool Reads, bool Replaces)
{
    /// <summary>Looks at an instruction as Iced describes it; one that does not decode uses nothing.</summary>
    public static RcxUse Of(in Instruction instruction)
    {
        RcxUse use = default;
        foreach (UsedRegister used in new InstructionInfoFactory().GetInfo(in instruction).GetUsedRegisters())
        {
            if (used.Register.GetFullRegister() == Register.RCX)
            {
                // A 32-bit result clears the upper half.
                bool replaces = used.Access is OpAccess.Write or OpAccess.ReadWrite && used.Register.GetSize() >= sizeof(uint);
                bool reads = used.Access is OpAccess.Read or OpAccess.CondRead or OpAccess.ReadWrite or OpAccess.ReadCondWrite;
                use = new RcxUse(use.Reads || reads, use.Replaces || replaces);
            }
        }

        return use;
    }
}
