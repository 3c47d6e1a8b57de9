using System.Collections.Immutable;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>The processor itself: cases run at CPL3 in a child process of this host, and Linux signals tell what the IDT delivered.</summary>
/// <remarks>
/// Needs x86-64 Linux and no privilege. The child has an otherwise empty address space and may make no system call, so a payload can touch no file and no
/// other process. One instance belongs to one thread at a time; debug registers are armed by the calling thread.
/// </remarks>
public sealed unsafe partial class NativeTarget : ITarget
{
    /// <summary>Most cases that the child gets at once: few enough that cases and results stay in the second-level cache.</summary>
    private const int BatchCases = 256;

    /// <summary>Bytes of cases after which a batch is sent.</summary>
    private const int BatchBytes = 0x4_0000;

    private readonly HostFacts _host;
    private readonly OutcomeDecoder<EventReader> _decoder = new();
    private readonly LayoutCache _layouts;
    private readonly int[] _indices = new int[BatchCases];
    private readonly int[] _records = new int[BatchCases + 1];
    private AgentProcess? _process;
    private DebugRegisters? _armed;
    private bool _disposed;

    /// <summary>Starts the target.</summary>
    /// <exception cref="TargetUnavailableException">This host cannot run it; the message says why, and what to do.</exception>
    public NativeTarget()
        : this(HostFacts.OfThisHost)
    {
    }

    internal NativeTarget(HostFacts host)
    {
        _host = host;
        _layouts = new LayoutCache(layout => LayoutRules.Trouble(layout, host.LowestAddress));
        Info = host.Info;
        _process = StartFirst(host);
    }

    /// <summary>What Linux changes between the processor and this target. The same rows as in <see cref="TargetInfo.Masks"/>, for outcomes stored elsewhere.</summary>
    public static ImmutableArray<TargetMask> Masks => NativeMasks.All;

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Process id of the child, or 0 while there is none.</summary>
    internal int ChildId => _process?.Child.Id ?? 0;

    /// <summary>Children that died or hung and were replaced.</summary>
    internal int Replaced { get; private set; }

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

        int next = 0;
        while (next < cases.Length)
        {
            try
            {
                next = RunSome(cases, outcomes, next);
            }
            catch (PosixException e)
            {
                // The host refused something that it allowed before. This case is told so; the next one tries with a new child.
                Replace();
                outcomes[next] = Outcome.HarnessError(e.Message);
                next++;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _process?.Dispose();
        _process = null;
    }

    /// <summary>Tries to set the child's debug registers.</summary>
    internal bool CanSetDebugRegisters()
    {
        try
        {
            return _process!.Child.SetDebugRegisters([0, 0, 0, 0], 0) == 0;
        }
        catch (PosixException)
        {
            Replace();
            return false;
        }
    }

    private static AgentProcess StartFirst(HostFacts host)
    {
        try
        {
            return AgentProcess.Start(host.SegmentBases);
        }
        catch (PosixException e)
        {
            throw Unavailable(e);
        }
    }

    /// <summary>Runs cases from <paramref name="first"/> on as one batch, as many as fit and share layout and debug registers.</summary>
    /// <returns>Index of the first case that has no outcome yet.</returns>
    private int RunSome(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, int first)
    {
        _process ??= AgentProcess.Start(_host.SegmentBases);
        byte* request = _process.Memory + Shared.RequestAt;
        LayoutMap? map = null;
        DebugRegisters? debug = null;
        int count = 0;
        int used = 0;
        int next = first;
        for (; next < cases.Length && count < BatchCases && used < BatchBytes; next++)
        {
            TestCase testCase = cases[next];
            if (testCase.Abi != Abi.X86)
            {
                outcomes[next] = Outcome.Unsupported($"native speaks the ABI x86, not {testCase.Abi.Text()}");
                continue;
            }

            LayoutCache.Entry layout = _layouts.EntryOf(testCase.Layout);
            if ((layout.Trouble ?? _host.Trouble(testCase)) is string trouble)
            {
                outcomes[next] = Outcome.Unsupported(trouble);
                continue;
            }

            bool fits = ReferenceEquals(layout.Map, map) && Equals(testCase.Registers.Debug, debug) && used + CaseEncoder.Bound(testCase, Context.Layout) <= Shared.RequestSize;
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

        if (!Arm(debug, out string? refusal))
        {
            outcomes[_indices[0]] = Outcome.Unsupported(refusal!);
            return next;
        }

        _process.Use(map!);
        int finished = Execute(cases, outcomes, map!, count, out Death? death);
        if (death is null)
        {
            return next;
        }

        int culprit = _indices[finished];
        outcomes[culprit] = death.Unmappable ? Outcome.Unsupported(death.Reason) : RunAgain(cases[culprit], map!, death.Reason);
        return culprit + 1;
    }

    /// <summary>Runs the encoded cases and decodes their outcomes.</summary>
    /// <returns>Number of cases with an outcome; less than <paramref name="count"/> when the child died.</returns>
    private int Execute(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes, LayoutMap map, int count, out Death? death)
    {
        AgentProcess process = _process!;
        int finished = 0;
        death = null;
        while (finished < count)
        {
            ulong before = process.Sequence;
            process.SetRequest(_records[finished], _records[count]);
            death = process.Run() is string reason ? new Death(reason, Unmappable: false) : null;
            int ran = (int)(process.Sequence - before);
            if (death is null && ran == 0)
            {
                int error = process.CallError;
                death = error != 0
                    ? new Death($"Linux refuses the pages of this case: {PosixException.Describe(error)}", Unmappable: true)
                    : new Death("ended because it ran nothing", Unmappable: false);
            }
            else if (death is not null && ran > 0)
            {
                // The last one that began did not end.
                ran--;
            }

            // SAFETY: the agent wrote `ran` results one after the other.
            byte* result = process.Memory + Shared.ResultAt;
            for (int i = 0; i < ran; i++, finished++)
            {
                byte* end = process.EndOf(result);
                TestCase testCase = cases[_indices[finished]];
                outcomes[_indices[finished]] = _host.Review(
                    testCase, _decoder.Decode(testCase, map, process.Memory + Shared.RequestAt + _records[finished], result, end), process.Vdso);
                result = end;
            }

            if (death is not null)
            {
                Replace();
                break;
            }
        }

        return finished;
    }

    /// <summary>Gives a case that was running when the child died a second chance, alone in a new child.</summary>
    private Outcome RunAgain(TestCase testCase, LayoutMap map, string firstDeath)
    {
        _process ??= AgentProcess.Start(_host.SegmentBases);
        if (!Arm(testCase.Registers.Debug, out string? refusal))
        {
            return Outcome.Unsupported(refusal!);
        }

        // SAFETY: the buffer is larger than any single case.
        byte* request = _process.Memory + Shared.RequestAt;
        _indices[0] = 0;
        _records[0] = 0;
        _records[1] = (int)(CaseEncoder.Encode(testCase, map, Context.Layout, request) - request);
        _process.Use(map);
        Outcome[] outcome = new Outcome[1];
        _ = Execute(new ReadOnlySpan<TestCase>(in testCase), outcome, map, 1, out Death? death);
        return death is null ? outcome[0] : Outcome.HarnessError($"the child was {firstDeath}; with this case alone, a new child was {death.Reason}");
    }

    /// <summary>Makes the child's debug registers those of the next batch. They stay armed until another batch wants others.</summary>
    private bool Arm(DebugRegisters? wanted, out string? refusal)
    {
        refusal = null;
        if (Equals(wanted, _armed))
        {
            return true;
        }

        int error = _process!.Child.SetDebugRegisters([wanted?.Dr0 ?? 0, wanted?.Dr1 ?? 0, wanted?.Dr2 ?? 0, wanted?.Dr3 ?? 0], wanted?.Dr7 ?? 0);
        _armed = error == 0 ? wanted : null;
        if (error != 0)
        {
            refusal = $"Linux refuses these debug registers: {PosixException.Describe(error)}";
        }

        return error == 0;
    }

    private void Replace()
    {
        _process?.Dispose();
        _process = null;
        _armed = null;
        Replaced++;
    }

    /// <summary>Why a child ran no further.</summary>
    private sealed record Death(string Reason, bool Unmappable);
}
