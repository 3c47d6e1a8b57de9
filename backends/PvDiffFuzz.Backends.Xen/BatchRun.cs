using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Runs many cases in a guest: while it works on one slot, the next is filled and the last is read.</summary>
/// <remarks>
/// After a death the case at fault is known, the snapshot is loaded, and the cases behind it are run again. A case that may have called Xen is followed by a look at the page tables; when
/// something is wrong there, its companions are run again without it.
/// </remarks>
internal sealed unsafe class BatchRun : IDisposable
{
    /// <summary>Bytes of cases after which a slot is full.</summary>
    private const int SlotBytes = 0x10_0000;

    /// <summary>The vector of #GP.</summary>
    private const byte GeneralProtection = 13;

    /// <summary>Tries of a case whose outcome seems to owe something to an interrupt of the machine.</summary>
    private const int MaximumTries = 3;

    /// <summary>Tries to start a QEMU in place of one that is gone.</summary>
    private const int MostStarts = 2;

    private readonly XenInstallation _installation;
    private readonly LayoutCache _layouts = new();
    private readonly OutcomeDecoder _decoder = new();
    private readonly GuestState _state = new();
    private readonly Flight[] _flights = [new(), new()];
    private readonly Queue<Flight> _flying = new();
    private readonly Dictionary<int, int> _tries = [];
    private readonly HashSet<int> _isolated = [];
    private readonly HashSet<int> _exact = [];
    private Queue<int> _waiting = new();
    private Guest? _guest;

    /// <summary>Works with a guest.</summary>
    /// <param name="guest">The guest, which becomes this object's.</param>
    /// <param name="installation">How to start another one.</param>
    public BatchRun(Guest guest, XenInstallation installation) => (_guest, _installation) = (guest, installation);

    /// <summary>Which cases can be run; null for all.</summary>
    public XenRules? Rules { get; set; }

    /// <summary>Process id of QEMU; null while there is none.</summary>
    public int? ProcessId => _guest?.ProcessId;

    /// <summary>Times that the snapshot was loaded.</summary>
    public int Restored { get; private set; }

    /// <summary>Times that QEMU was started anew.</summary>
    public int Restarted { get; private set; }

    /// <summary>Runs cases.</summary>
    public void Run(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        outcomes[..cases.Length].Clear();
        _tries.Clear();
        _isolated.Clear();
        _exact.Clear();
        _waiting = new Queue<int>(Enumerable.Range(0, cases.Length));
        while (_waiting.Count > 0 || _flying.Count > 0)
        {
            if (_guest is null && !TryRestart(outcomes))
            {
                return;
            }

            try
            {
                while (_flying.Count < GuestMap.Slots && TryLaunch(cases, outcomes))
                {
                }

                if (_flying.TryPeek(out Flight? flight))
                {
                    Death? death = GuestWatch.Wait(_guest!, flight.Slot);
                    Land(flight, death, cases, outcomes);
                }
            }
            catch (IOException e)
            {
                // QEMU or its monitor is gone. The case at hand is told so; the others are run by a new one.
                Abandon(e.Message, outcomes);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _guest?.Dispose();
        _guest = null;
    }

    /// <summary>Starts another QEMU, with a second try where the machine was too busy for the first. When none starts, all cases that are left are told why.</summary>
    private bool TryRestart(Span<Outcome> outcomes)
    {
        _state.Restored();
        for (int tries = MostStarts; ; tries--)
        {
            try
            {
                _guest = Guest.Start(_installation);
                Restarted++;
                return true;
            }
            catch (IOException) when (tries > 1)
            {
            }
            catch (IOException e)
            {
                foreach (int index in _waiting)
                {
                    outcomes[index] = Outcome.HarnessError(e.Message);
                }

                _waiting.Clear();
                return false;
            }
        }
    }

    /// <summary>Fills the next slot and hands it to the guest.</summary>
    /// <returns>False when there is nothing to launch, or when what flies has to land first.</returns>
    private bool TryLaunch(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        if (_flying.Any(f => f.Lasting) || !SkipUnsupported(cases, outcomes, out LayoutCache.Entry layout) || !TryUse(layout))
        {
            return false;
        }

        Guest guest = _guest!;
        int slot = guest.NextSlot;
        byte* request = guest.At(GuestMap.RequestsOf(slot));
        ulong address = GuestMap.At(GuestMap.RequestsOf(slot));
        byte* at = request;
        Flight flight = _flights[slot];
        flight.Begin(slot);
        do
        {
            int index = _waiting.Peek();
            TestCase testCase = cases[index];
            int used = (int)(at - request);
            if (flight.Count == Flight.MaximumCases || (flight.Count > 0 && used + CaseEncoder.Bound(testCase, _state) > SlotBytes))
            {
                break;
            }

            // SAFETY: a single case is smaller than the buffer, and later ones were measured above.
            at = CaseEncoder.Encode(testCase, layout.Map!, _state, guest.Frames, at, address + (ulong)used, _exact.Contains(index), out Effects effects);
            bool lasting = (effects & Effects.Lasting) != 0 || ((effects & Effects.Calls) != 0 && _isolated.Contains(index));
            flight.Add(index, used, (effects & Effects.Calls) != 0, lasting);
            _waiting.Dequeue();
        }
        while (!flight.Lasting && SkipUnsupported(cases, outcomes, out LayoutCache.Entry next) && ReferenceEquals(next.Map, layout.Map));

        _flying.Enqueue(flight);
        guest.Submit((int)(at - request), layout.Map!.WorstResult);
        return true;
    }

    /// <summary>Answers the cases at the front that cannot be run.</summary>
    /// <returns>False when no other is left.</returns>
    private bool SkipUnsupported(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, out LayoutCache.Entry layout)
    {
        while (_waiting.TryPeek(out int index))
        {
            layout = _layouts.EntryOf(cases[index]);
            if ((layout.Trouble ?? Rules?.Trouble(cases[index])) is not string trouble)
            {
                return true;
            }

            outcomes[index] = Outcome.Unsupported(trouble);
            _waiting.Dequeue();
        }

        layout = LayoutCache.Entry.None;
        return false;
    }

    /// <summary>Makes a layout that of the guest, which costs a load of the snapshot when it has another one.</summary>
    /// <returns>False when what flies has to land first.</returns>
    private bool TryUse(LayoutCache.Entry layout)
    {
        if (ReferenceEquals(_guest!.Layout, layout.Map))
        {
            return true;
        }

        if (_flying.Count > 0)
        {
            return false;
        }

        if (_guest.Layout is not null)
        {
            Restore();
        }

        _guest.Use(layout.Map!, layout.Ports);
        return true;
    }

    private void Restore()
    {
        _guest!.Restore();
        _state.Restored();
        Restored++;
    }

    /// <summary>Reads the results of the flight that is done, or of as much of it as there is.</summary>
    private void Land(Flight flight, Death? death, ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        Guest guest = _guest!;
        int finished = guest.Finished(flight.Slot);
        bool full = death is null && guest.IsFull(flight.Slot);
        byte* first = guest.At(GuestMap.ResultsOf(flight.Slot));
        byte* limit = first + GuestMap.ResultsSize;
        byte* result = first;
        if (finished < 0 || finished > flight.Count - flight.Landed)
        {
            throw new QemuException(OutcomeDecoder.NoSense);
        }

        for (int i = 0; i < finished; i++)
        {
            // SAFETY: the agent wrote `finished` results one after the other; each end is checked before it is followed.
            byte* end = guest.At(0) + (*(ulong*)(result + Result.EndAt) - GuestMap.Base);
            if (end < result + Result.HeaderSize || end > limit)
            {
                throw new QemuException(OutcomeDecoder.NoSense);
            }

            Read(flight, cases, outcomes, result, end, death: null);
            result = end;
        }

        if (death is null && guest.IsTorn)
        {
            Requeue(flight.Indices(flight.Landed), [.. _flying.Skip(1).SelectMany(f => f.Indices(0))]);
            Restore();
        }
        else if (full)
        {
            guest.Resume(flight.Slot, flight.RecordAt(flight.Landed));
        }
        else if (death is not null)
        {
            Bury(flight, death, cases, outcomes, result);
        }
        else if (flight.Landed < flight.Count)
        {
            throw new QemuException("the agent is done without a result for each case");
        }
        else
        {
            _flying.Dequeue();
            Check(flight);
        }
    }

    /// <summary>Reads the next result of a flight.</summary>
    private void Read(Flight flight, ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, byte* result, byte* end, Death? death)
    {
        int index = flight.IndexAt(flight.Landed);
        byte* record = _guest!.At(GuestMap.RequestsOf(flight.Slot)) + flight.RecordAt(flight.Landed);
        _decoder.Returned = _guest!.Returned;
        Outcome outcome = _decoder.Decode(cases[index], _guest.Layout!, record, result, end, death);
        if (death is { Kind: DeathKind.Halt })
        {
            outcome = _decoder.Halt(outcome, _guest.Layout!, record, _guest.At(GuestMap.Pool), _guest.VcpuInfo);
        }

        // From here on the case counts as landed: a result that cannot be read is told by whoever gives the guest up.
        flight.Landed++;

        bool again = ((_decoder.MetAgent || OutcomeDecoder.HasStrayResume(cases[index], outcome)) && Tries(index) < MaximumTries) || (DependsOnOthers(cases[index], outcome) && _exact.Add(index));
        if (again)
        {
            _waiting.Enqueue(index);
            return;
        }

        outcomes[index] = outcome;
    }

    /// <summary>True when an outcome shows an entry of the trap table that was not stated, because the bytes of the case did not seem to raise its vector.</summary>
    private static bool DependsOnOthers(TestCase testCase, Outcome outcome)
    {
        const int errorOfSoftwareInterrupt = 2;
        Span<ulong> stated = stackalloc ulong[4];
        Payload.VectorsOf(testCase, stated);
        foreach (Event e in outcome.Events)
        {
            int vector = e is { Entry: EntryPoint.XenTrap, Vector: GeneralProtection, ErrorCode: uint error } && (error & 7) == errorOfSoftwareInterrupt ? (int)(error >> 3) & 0xff : e.Vector;
            if ((stated[vector >> 6] >> (vector & 63) & 1) == 0)
            {
                return true;
            }
        }

        // A refused INT n ends the domain when nobody takes #GP.
        return outcome.End == EndKind.Crash && testCase.Xen!.Traps[GeneralProtection].Address == 0;
    }

    /// <summary>What a flight may have left behind.</summary>
    private void Check(Flight flight)
    {
        if (!flight.Suspect)
        {
            return;
        }

        if (!flight.Lasting && !_guest!.IsIntact())
        {
            Isolate(flight);
        }
        else if (flight.Lasting)
        {
            Restore();
        }
    }

    /// <summary>One case of a flight, which one is not known, has changed what all need: each is run again, with the snapshot before the next one.</summary>
    private void Isolate(Flight flight)
    {
        _isolated.UnionWith(flight.Indices(0));
        Requeue(flight.Indices(0), [.. _flying.Where(f => f != flight).SelectMany(f => f.Indices(0))]);
        Restore();
    }

    /// <summary>Answers the case at fault and puts all behind it back.</summary>
    private void Bury(Flight flight, Death death, ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, byte* result)
    {
        if (flight.Landed == flight.Count || death.Kind == DeathKind.Qemu)
        {
            throw new QemuException(death.Reason);
        }

        // A death may be the doing of a case before it that has changed what all need.
        if (flight.Suspect && !_isolated.Contains(flight.IndexAt(flight.Landed)) && !_guest!.IsIntact())
        {
            Isolate(flight);
            return;
        }

        if (death.Kind == DeathKind.Silence)
        {
            outcomes[flight.IndexAt(flight.Landed)] = Outcome.BudgetSpent(death.Reason);
            flight.Landed++;
        }
        else
        {
            Read(flight, cases, outcomes, result, result, death);
        }

        Requeue(flight.Indices(flight.Landed), [.. _flying.Skip(1).SelectMany(f => f.Indices(0))]);
        Restore();
    }

    /// <summary>Gives the guest up. The case that ran is told why.</summary>
    private void Abandon(string reason, Span<Outcome> outcomes)
    {
        int[] open = [.. _flying.SelectMany(f => f.Indices(f.Landed)), .. _waiting];
        if (open.Length > 0)
        {
            outcomes[open[0]] = Outcome.HarnessError(reason);
        }

        _flying.Clear();
        _waiting = new Queue<int>(open.Skip(1));
        _guest?.Dispose();
        _guest = null;
    }

    /// <summary>Puts cases back to the front.</summary>
    private void Requeue(ReadOnlySpan<int> first, int[] then)
    {
        _waiting = new Queue<int>([.. first, .. then, .. _waiting]);
        _flying.Clear();
    }

    private int Tries(int index)
    {
        _tries[index] = _tries.GetValueOrDefault(index) + 1;
        return _tries[index];
    }
}
