using System.Collections.Immutable;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Cases at CPL3 of a guest under <c>/dev/kvm</c>, in the state that PVM runs its guests in; what the IDT delivered is recorded.</summary>
/// <remarks>
/// A batch stays in the guest as long as nothing goes wrong. A case alone is run with everything reset by KVM, each event leaving the guest; so are cases whose
/// batch went wrong. One instance belongs to one thread at a time.
/// </remarks>
public sealed unsafe class KvmTarget : ITarget
{
    /// <summary>Most cases in the guest at once.</summary>
    private const int BatchCases = 256;

    /// <summary>Bytes of cases after which a batch is run.</summary>
    private const int BatchBytes = 0x4_0000;

    private readonly KvmSystem _system;
    private readonly CpuProfile _profile;
    private readonly bool _alone;
    private readonly bool _looks;
    private readonly CaseRules? _rules;
    private readonly OutcomeDecoder<EventReader> _decoder = new();
    private readonly RunTimer _timer = new();
    private readonly LayoutCache _layouts;
    private readonly int[] _indices = new int[BatchCases];
    private readonly int[] _records = new int[BatchCases + 1];
    private Machine? _machine;
    private DebugRegisters? _armed;
    private bool _disposed;

    /// <summary>Starts the target.</summary>
    /// <param name="profile">The processor at hand: its descriptors and gates become the guest's.</param>
    /// <param name="oneCaseAnEntry">True to run every case alone.</param>
    /// <exception cref="TargetUnavailableException">This host cannot run it; the message says why, and what to do.</exception>
    public KvmTarget(CpuProfile profile, bool oneCaseAnEntry = false)
        : this(profile, oneCaseAnEntry, KvmProbe.Of(profile))
    {
    }

    internal KvmTarget(CpuProfile profile, bool oneCaseAnEntry, KvmProbe? probe)
    {
        ArgumentNullException.ThrowIfNull(profile);
        _profile = profile;
        _alone = oneCaseAnEntry;
        string kind = HostKind.OfThisHost();
        bool upperHalf = kind != HostKind.Pvm;
        _layouts = new LayoutCache(layout => LayoutRules.Trouble(layout, upperHalf));
        _rules = probe is null ? null : new CaseRules(profile, probe);
        _looks = probe is { Selectors: false };
        Capabilities capabilities = Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages;
        capabilities |= probe is { Compatibility: true } ? Capabilities.CompatibilityMode : Capabilities.None;
        capabilities |= probe is { Breakpoints: true } ? Capabilities.DebugRegisters : Capabilities.None;
        Info = new TargetInfo("kvm", TargetKind.Hardware, HostKind.Lineage(kind), capabilities, probe?.Fingerprint ?? Fingerprint.Empty) { Masks = KvmMasks.For(probe is not { NestedTask: false }) };
        _system = KvmSystem.Open();
        try
        {
            _machine = Build();
        }
        catch (IOException e)
        {
            _system.Dispose();
            throw new TargetUnavailableException(e.Message, e is KvmException refused ? refused.Cure : "free memory, or raise the limits of this process", e);
        }
    }

    /// <summary>All rows that may be in <see cref="TargetInfo.Masks"/>, for outcomes stored elsewhere, whose host is not at hand to be asked.</summary>
    public static ImmutableArray<TargetMask> Masks => KvmMasks.For(nestedTask: false);

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Virtual machines that died and were replaced.</summary>
    public int Replaced { get; private set; }

    /// <summary>Cases that were run again alone because their batch did not end well.</summary>
    public int RunAgain { get; private set; }

    /// <summary>Tells why this host cannot run the target.</summary>
    /// <param name="profile">The processor at hand.</param>
    /// <returns>Null when it can.</returns>
    public static TargetUnavailableException? Probe(CpuProfile profile)
    {
        try
        {
            using KvmTarget target = new(profile);
            return null;
        }
        catch (TargetUnavailableException e)
        {
            return e;
        }
    }

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        Outcome[] outcome = new Outcome[1];
        Run(new ReadOnlySpan<TestCase>(in testCase), outcome);
        return outcome[0];
    }

    /// <inheritdoc/>
    public void Run(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (outcomes.Length < cases.Length)
        {
            throw new ArgumentException($"room for {outcomes.Length} outcomes of {cases.Length} cases", nameof(outcomes));
        }

        _timer.Start();
        int next = 0;
        while (next < cases.Length)
        {
            try
            {
                next = _alone || cases.Length == 1 ? RunAlone(cases, outcomes, next) : RunSome(cases, outcomes, next);
            }
            catch (IOException e) when (e is KvmException or PosixException)
            {
                // The host refused something that it allowed before. This case is told so; the next one tries with a new machine.
                Replace();
                outcomes[next] = Outcome.HarnessError(e.Message);
                next++;
            }
        }

        _timer.Stop();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _timer.Dispose();
        _machine?.Guest.Dispose();
        _machine = null;
        _system.Dispose();
    }

    /// <summary>Tries whether a breakpoint instruction leaves the guest when it is asked to.</summary>
    internal bool LeavesAtBreakpoint(TestCase testCase)
    {
        _machine ??= Build();
        bool left = _machine.Guest.Vcpu.TrySetGuestDebug(KvmAbi.KVM_GUESTDBG_ENABLE | KvmAbi.KVM_GUESTDBG_USE_SW_BP)
            && Run(testCase).Detail?.StartsWith("KVM_EXIT_DEBUG", StringComparison.Ordinal) == true;
        Replace();
        return left;
    }

    /// <summary>Bytes of the machine that runs now, for tests that break it on purpose.</summary>
    /// <param name="offset">Where in the guest's memory.</param>
    /// <param name="length">How many bytes.</param>
    internal Span<byte> MemoryOfGuest(int offset, int length)
    {
        _machine ??= Build();
        return new Span<byte>(_machine.Guest.Memory, GuestMap.Size).Slice(offset, length);
    }

    private Machine Build()
    {
        Guest guest = Guest.Create(_system, _profile);
        try
        {
            guest.Vcpu.SetSignalMask(RunTimer.BlockedWhileRunning);
        }
        catch
        {
            guest.Dispose();
            throw;
        }

        return new Machine(guest, new SingleRun(guest, _timer) { LooksForSelectors = _looks }, new BatchRun(guest, _timer));
    }

    private void Replace()
    {
        _machine?.Guest.Dispose();
        _machine = null;
        _armed = null;
        Replaced++;
    }

    /// <summary>Runs cases from <paramref name="first"/> on as one batch, as many as fit and share layout and debug registers.</summary>
    /// <returns>Index of the first case that has no outcome yet.</returns>
    private int RunSome(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, int first)
    {
        _machine ??= Build();
        byte* request = _machine.Guest.Memory + GuestMap.Request;
        LayoutMap? map = null;
        DebugRegisters? debug = null;
        int count = 0;
        int used = 0;
        int next = first;
        for (; next < cases.Length && count < BatchCases && used < BatchBytes; next++)
        {
            TestCase testCase = cases[next];
            LayoutCache.Entry layout = _layouts.EntryOf(testCase.Layout);
            if ((layout.Trouble ?? _rules?.Trouble(testCase)) is string trouble)
            {
                outcomes[next] = Outcome.Unsupported(trouble);
                continue;
            }

            bool fits = ReferenceEquals(layout.Map, map) && Equals(testCase.Registers.Debug, debug) && used + CaseEncoder.Bound(testCase, Context.Layout) <= GuestMap.RequestSize;
            if (count > 0 && !fits)
            {
                break;
            }

            map = layout.Map;
            debug = testCase.Registers.Debug;

            // SAFETY: a single case is smaller than the buffer, and later ones were measured above.
            byte* end = CaseEncoder.Encode(testCase, map!, Context.Layout, request + used);
            _indices[count] = next;
            _records[count] = used;
            used = (int)(end - request);
            count++;
            _records[count] = used;
        }

        if (count == 0)
        {
            return next;
        }

        if (!Arm(debug))
        {
            outcomes[_indices[0]] = Outcome.Unsupported("KVM refuses these debug registers");
            return _indices[0] + 1;
        }

        _machine.Guest.Use(map!);
        return Execute(cases, outcomes, map!, count) ? next : Repeat(cases, outcomes, count, next);
    }

    /// <summary>Runs the encoded cases and decodes their outcomes.</summary>
    /// <returns>False when something went wrong, so that no outcome of this batch may be believed.</returns>
    private bool Execute(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, LayoutMap map, int count)
    {
        BatchRun batch = _machine!.Batch;
        byte* memory = _machine.Guest.Memory;
        int finished = 0;
        while (finished < count)
        {
            ulong before = batch.Sequence;
            if (batch.Run(map, _records[finished], _records[count]) is not null)
            {
                Replace();
                return false;
            }

            int ran = (int)(batch.Sequence - before);
            if (ran <= 0 || ran > count - finished || !batch.IsIntact(map, _records[count]))
            {
                Replace();
                return false;
            }

            // SAFETY: the agent wrote `ran` results one after the other; each end is checked before it is followed.
            byte* result = memory + GuestMap.Results;
            for (int i = 0; i < ran; i++, finished++)
            {
                byte* end = memory + (*(ulong*)(result + Result.EndAt) - GuestMap.Base);
                if (end < result + Result.HeaderSize || end > memory + GuestMap.Pool)
                {
                    Replace();
                    return false;
                }

                TestCase testCase = cases[_indices[finished]];
                outcomes[_indices[finished]] = Review(_decoder.Decode(testCase, map, memory + GuestMap.Request + _records[finished], result, end));
                result = end;
            }
        }

        return true;
    }

    /// <summary>Runs every case of a batch alone.</summary>
    private int Repeat(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, int count, int next)
    {
        foreach (int index in _indices.AsSpan(0, count).ToArray())
        {
            RunAgain++;
            RunAlone(cases, outcomes, index);
        }

        return next;
    }

    /// <summary>Runs one case with everything reset beforehand.</summary>
    /// <returns>The index after it.</returns>
    private int RunAlone(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, int index)
    {
        TestCase testCase = cases[index];
        LayoutCache.Entry layout = _layouts.EntryOf(testCase.Layout);
        if ((layout.Trouble ?? _rules?.Trouble(testCase)) is string trouble)
        {
            outcomes[index] = Outcome.Unsupported(trouble);
            return index + 1;
        }

        _machine ??= Build();
        _machine.Batch.Leave();
        if (!Arm(testCase.Registers.Debug))
        {
            outcomes[index] = Outcome.Unsupported("KVM refuses these debug registers");
            return index + 1;
        }

        LayoutMap map = layout.Map!;
        _machine.Guest.Use(map);

        // SAFETY: request and result buffers are larger than any single case needs.
        byte* record = _machine.Guest.Memory + GuestMap.Request;
        byte* result = _machine.Guest.Memory + GuestMap.Results;
        CaseEncoder.Encode(testCase, map, Context.Layout, record);
        byte* end = _machine.Single.Run(map, record, result, out Death? death);
        if (death is null)
        {
            outcomes[index] = Review(_decoder.Decode(testCase, map, record, result, end));
            if (!_machine.Batch.CanaryLives())
            {
                Replace();
            }

            return index + 1;
        }

        // The machine may be in any state, and the pool too.
        Replace();
        outcomes[index] = death.Crash ? new Outcome { End = EndKind.Crash, Detail = death.Reason } : Outcome.HarnessError(death.Reason);
        return index + 1;
    }

    /// <summary>Makes the guest's debug registers those of the next cases. They stay until another case wants others.</summary>
    private bool Arm(DebugRegisters? wanted)
    {
        if (Equals(wanted, _armed))
        {
            return true;
        }

        const ulong dr6 = 0xffff_0ff0;
        const ulong dr7 = 0x400;
        KvmDebugregs registers = wanted is null
            ? new KvmDebugregs { Dr6 = dr6, Dr7 = dr7 }
            : new KvmDebugregs { Db0 = wanted.Dr0, Db1 = wanted.Dr1, Db2 = wanted.Dr2, Db3 = wanted.Dr3, Dr6 = dr6, Dr7 = wanted.Dr7 | dr7 };
        bool done = _machine!.Guest.Vcpu.TrySetDebugRegisters(in registers) == 0;
        _armed = done ? wanted : null;
        return done;
    }

    private Outcome Review(Outcome outcome) => _rules?.Review(outcome) ?? outcome;

    private sealed record Machine(Guest Guest, SingleRun Single, BatchRun Batch);
}
