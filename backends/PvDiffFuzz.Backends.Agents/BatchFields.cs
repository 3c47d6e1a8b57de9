namespace PvDiffFuzz.Backends.Agents;

/// <summary>The fields of a mailbox by which harness and agent hand over cases, 64 bits each: the same in the same order, wherever in its mailbox an agent has them.</summary>
/// <param name="first">Offset of the first one in the mailbox.</param>
internal readonly struct BatchFields(int first)
{
    /// <summary>Address of the record of the case that runs, or of the next one.</summary>
    public int Record => first;

    /// <summary>End of the last record.</summary>
    public int RequestEnd => first + 0x08;

    /// <summary>Where the agent writes next.</summary>
    public int Result => first + 0x10;

    /// <summary>The agent starts no case when <see cref="Result"/> is beyond.</summary>
    public int ResultLimit => first + 0x18;

    /// <summary>Address of the header of the result that is being written.</summary>
    public int Header => first + 0x20;

    /// <summary>Address of the next response of the case that runs.</summary>
    public int NextResponse => first + 0x28;

    /// <summary>Responses left, 32 bits.</summary>
    public int ResponsesLeft => first + 0x30;

    /// <summary>End of the writable pages in the agent's view of the pool, as an address.</summary>
    public int ScanEnd => first + 0x38;
}
