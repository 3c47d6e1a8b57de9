namespace PvDiffFuzz.Backends.Agents;

/// <summary>MOV to segment registers, found at any byte: a jump can land anywhere.</summary>
/// <remarks>
/// There are six segment registers. A processor ignores REX.R and refuses the numbers 1 (CS), 6 and 7. The emulator takes what has a number: LDTR for 6, TR for 7, and with REX.R the descriptor tables for 8 and 9
/// and control registers behind them, so that such an instruction changes the machine for all that runs on it later. With an LDTR that is there, LAR, LSL, VERR and VERW of a selector of the local table read memory.
/// </remarks>
internal static class SegmentLoads
{
    /// <summary>The number of CS.</summary>
    public const int Cs = 1;

    /// <summary>The number that is LDTR for the emulator.</summary>
    public const int LocalTable = 6;

    /// <summary>The number that is TR for the emulator. What has a higher one lies behind it.</summary>
    public const int TaskRegister = 7;

    private const int FirstOfRex = 8;
    private const byte Opcode = 0x8e;

    /// <summary>The numbers that the emulator takes, a bit each.</summary>
    /// <param name="code">Bytes that may be executed.</param>
    public static int Numbers(ReadOnlySpan<byte> code)
    {
        int numbers = 0;
        for (int i = code.IndexOf(Opcode); i >= 0 && i + 1 < code.Length; i++)
        {
            if (code[i] == Opcode)
            {
                numbers |= 1 << ((code[i + 1] >> 3 & 7) + (HasRexR(code[..i]) ? FirstOfRex : 0));
            }
        }

        return numbers;
    }

    /// <summary>True when one of the prefixes at the end is REX with R, be it the last or not: the emulator lets it count in any case.</summary>
    private static bool HasRexR(ReadOnlySpan<byte> before)
    {
        for (int i = before.Length - 1; i >= 0 && IsPrefix(before[i]); i--)
        {
            if (before[i] >> 4 == 4 && (before[i] & 4) != 0)
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsPrefix(byte value) => value is 0x26 or 0x2e or 0x36 or 0x3e or (>= 0x40 and <= 0x4f) or (>= 0x64 and <= 0x67) or 0xf0 or 0xf2 or 0xf3;
}
