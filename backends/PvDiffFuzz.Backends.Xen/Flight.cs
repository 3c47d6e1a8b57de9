namespace PvDiffFuzz.Backends.Xen;

/// <summary>The cases that are in one slot of the guest.</summary>
internal sealed class Flight
{
    /// <summary>Most cases in a slot.</summary>
    public const int MaximumCases = 256;

    private readonly int[] _indices = new int[MaximumCases];
    private readonly int[] _records = new int[MaximumCases];

    /// <summary>The slot.</summary>
    public int Slot { get; private set; }

    /// <summary>Number of cases.</summary>
    public int Count { get; private set; }

    /// <summary>Number of cases whose results were read.</summary>
    public int Landed { get; set; }

    /// <summary>True when a case of it can have called Xen.</summary>
    public bool Suspect { get; private set; }

    /// <summary>True when a case of it can leave behind what only the snapshot undoes. It is the last one.</summary>
    public bool Lasting { get; private set; }

    /// <summary>Begins anew.</summary>
    public void Begin(int slot)
    {
        Slot = slot;
        (Count, Landed) = (0, 0);
        (Suspect, Lasting) = (false, false);
    }

    /// <summary>Adds a case.</summary>
    /// <param name="index">Its place in the batch of the caller.</param>
    /// <param name="record">Where its record begins in the slot's request buffer.</param>
    /// <param name="suspect">True when it can call Xen.</param>
    /// <param name="lasting">True when it can leave behind what only the snapshot undoes.</param>
    public void Add(int index, int record, bool suspect, bool lasting)
    {
        _indices[Count] = index;
        _records[Count] = record;
        Count++;
        Suspect |= suspect | lasting;
        Lasting |= lasting;
    }

    /// <summary>Place of a case in the batch of the caller.</summary>
    public int IndexAt(int position) => _indices[position];

    /// <summary>Where the record of a case begins.</summary>
    public int RecordAt(int position) => _records[position];

    /// <summary>Places of the cases from a position on.</summary>
    public int[] Indices(int position) => _indices[position..Count];
}
