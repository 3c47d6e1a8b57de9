using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>A result: header, events (a context each), then non-zero quadwords of writable pages as pairs of pool offset and value.</summary>
internal static class Result
{
    /// <summary>Number of events, 32 bits.</summary>
    public const int Events = 0;

    /// <summary>How the case ended, 32 bits: <see cref="Done"/>, <see cref="Refused"/> or <see cref="Stopped"/>.</summary>
    public const int Status = 4;

    /// <summary>The end of the result, as the agent addresses it.</summary>
    public const int EndAt = 8;

    /// <summary>Size of the header.</summary>
    public const int HeaderSize = 16;

    /// <summary>The last event has no response.</summary>
    public const uint Done = 0;

    /// <summary>The processor refused the registers: the last event is the agent's.</summary>
    public const uint Refused = 1;

    /// <summary>The harness stopped the case.</summary>
    public const uint Stopped = 2;

    /// <summary>Most bytes that a result of a case can take: all writable memory changed, and all events.</summary>
    public static int Bound(LayoutMap map, ContextLayout layout) =>
        HeaderSize + ((TestCase.MaximumResponses + 1) * layout.Size) + (map.WritablePages * PageLayout.PageSize * 2) + 64;
}
