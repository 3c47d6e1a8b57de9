namespace PvDiffFuzz.Backends.Agents;

/// <summary>Which exceptions come with an error code.</summary>
internal static class ErrorCodes
{
    /// <summary>#DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.</summary>
    private const uint Vectors =
        (1u << 8) | (1u << 10) | (1u << 11) | (1u << 12) | (1u << 13) | (1u << 14) | (1u << 17) | (1u << 21) | (1u << 29) | (1u << 30);

    /// <summary>True for a vector whose delivery pushes an error code.</summary>
    public static bool Has(byte vector) => vector < 32 && ((Vectors >> vector) & 1) != 0;
}
