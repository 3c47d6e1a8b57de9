namespace PvDiffFuzz.Backends.Agents;

/// <summary>An encoded case: header, initial context, memory runs, responses. Offsets count from its first byte.</summary>
internal static class Record
{
    /// <summary>Length in bytes, 32 bits, a multiple of 8.</summary>
    public const int Length = 0;

    /// <summary>Number of responses, 32 bits.</summary>
    public const int Responses = 4;

    /// <summary>Address right after the code.</summary>
    public const int End = 8;

    /// <summary>Initial registers, <see cref="ContextLayout.SizeOfInput"/> bytes.</summary>
    public const int Initial = 16;

    /// <summary>Set in a run's length when the payload cannot write its page, so that the agent clears it after the case.</summary>
    public const uint ReadOnlyRun = 0x8000_0000;

    /// <summary>Bytes of a patch: place in the context, 32 bits; 2 or 8 bytes wide, 32 bits; value, 64 bits.</summary>
    public const int PatchSize = 16;

    /// <summary>Number of memory runs, 32 bits.</summary>
    public static int Runs(ContextLayout layout) => Initial + layout.SizeOfInput;

    /// <summary>Distance from the record to its responses, 32 bits.</summary>
    public static int ResponsesAt(ContextLayout layout) => Runs(layout) + 4;

    /// <summary>The runs: pool offset, 32 bits; number of quadwords, 31 bits, and <see cref="ReadOnlyRun"/>; then the quadwords.</summary>
    public static int FirstRun(ContextLayout layout) => Runs(layout) + 8;
}
