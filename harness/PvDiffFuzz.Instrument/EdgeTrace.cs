namespace PvDiffFuzz.Instrument;

/// <summary>Where edge probes write, with the contract of AFL and of SharpFuzz's <c>Trace</c>: a probe of block <c>id</c> does <c>SharedMem[id ^ PrevLocation]++; PrevLocation = id &gt;&gt; 1</c>.</summary>
/// <remarks>
/// Fields and not properties, because probes are a handful of instructions in every block. Each <see cref="InstrumentedModel"/> has a copy of this type of its own, so that
/// plain static fields serve one thread each.
/// </remarks>
public static unsafe class EdgeTrace
{
    /// <summary>Bytes in the map; ids are smaller than that.</summary>
    public const int MapSize = 1 << 16;

    /// <summary>One counter an edge, <see cref="MapSize"/> of them; each wraps after 255.</summary>
    // SAFETY: set by InstrumentedModel before the first probe runs, to a pinned array that lives as long as the copy; indices are below MapSize because ids are.
    public static byte* SharedMem;

    /// <summary>Half of the id of the block that was entered last.</summary>
    public static int PrevLocation;

    /// <summary>Lets probes write into a map.</summary>
    /// <param name="map">Address of <see cref="MapSize"/> bytes that do not move.</param>
    public static void UseMap(nint map) => SharedMem = (byte*)map;

    /// <summary>A run begins: the block before its first one is nobody's.</summary>
    public static void Restart() => PrevLocation = 0;
}
