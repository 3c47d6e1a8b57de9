namespace PvDiffFuzz.Backends.Xen;

/// <summary>Writes a <see cref="Record"/> into shared memory: hypercalls, for which room is set aside, and behind them data that they point to, memory runs, responses.</summary>
internal unsafe ref struct RecordWriter
{
    private readonly byte* _record;
    private readonly ulong _address;
    private byte* _at;

    /// <summary>Begins a record.</summary>
    /// <param name="record">Where it begins, in this process.</param>
    /// <param name="address">Where it begins, in the guest.</param>
    /// <param name="room">Most hypercalls that it will have.</param>
    public RecordWriter(byte* record, ulong address, int room)
    {
        // SAFETY: the caller has room for the record, whose size it has bounded before.
        _record = record;
        _address = address;
        _at = record + Record.FirstHypercall + (room * Record.HypercallSize);
        new Span<byte>(record, Record.Initial).Clear();
    }

    /// <summary>Where the next part begins, in this process.</summary>
    public readonly byte* At => _at;

    /// <summary>Number of hypercalls so far.</summary>
    public readonly int Hypercalls => *(int*)(_record + Record.Hypercalls);

    /// <summary>Adds a hypercall.</summary>
    public readonly void Hypercall(uint number, ulong first = 0, ulong second = 0, ulong third = 0, ulong fourth = 0)
    {
        // SAFETY: as in the constructor.
        ulong* words = (ulong*)(_record + Record.FirstHypercall + (Hypercalls * Record.HypercallSize));
        (words[0], words[1], words[2], words[3], words[4], words[5], words[6]) = (number, first, second, third, fourth, 0, 0);
        (*(int*)(_record + Record.Hypercalls))++;
    }

    /// <summary>The number of a hypercall before the agent has made it, its result afterwards.</summary>
    public static ref long ResultOf(byte* record, int index) => ref *(long*)(record + Record.FirstHypercall + (index * Record.HypercallSize));

    /// <summary>Adds data that hypercalls point to.</summary>
    /// <param name="bytes">A multiple of 8.</param>
    /// <param name="address">Where it lies in the guest.</param>
    public byte* Data(int bytes, out ulong address)
    {
        byte* data = _at;
        address = _address + (ulong)(data - _record);
        _at += bytes;
        return data;
    }

    /// <summary>Moves on past what the caller has written.</summary>
    public void Advance(int bytes) => _at += bytes;

    /// <summary>Says that memory runs begin here.</summary>
    public readonly void BeginRuns() => *(uint*)(_record + Record.RunsAt) = (uint)(_at - _record);

    /// <summary>Says that responses begin here.</summary>
    public readonly void BeginResponses() => *(uint*)(_record + Record.ResponsesAt) = (uint)(_at - _record);

    /// <summary>Ends the record.</summary>
    /// <param name="flags">What is special about it.</param>
    /// <returns>The first byte after it.</returns>
    public readonly byte* Finish(RecordFlags flags)
    {
        *(uint*)(_record + Record.Length) = (uint)(_at - _record);
        *(int*)(_record + Record.Flags) = (int)flags;
        return _at;
    }
}
