using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Pvm.Emulated;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Cases of the PVM guest ABI on a host whose KVM implements it. One instance belongs to one thread at a time.</summary>
/// <remarks>
/// The payload runs in supervisor or user mode of a guest of this host; the agent is no more than instructions that leave the guest where deliveries land. Machines are kept
/// for the last few plans and thrown away when a case ends in a way after which the processor's state is not known.
/// </remarks>
public sealed class PvmTarget : ITarget
{
    private const int MaximumPlans = 16;

    /// <summary>Fewer cases are run alone: changing between the two ways costs as much.</summary>
    private const int SmallestBatch = 4;

    /// <summary>Fewer cases are not worth another lane, which begins with machines to build.</summary>
    private const int CasesOfLane = 16;

    /// <summary>Nanoseconds between looks at a runaway payload where the host is emulated. A case takes well under a millisecond there.</summary>
    private const long EmulatedInterval = 25_000_000;

    private readonly Func<KernelPort> _boot;
    private readonly PvmHost _host;
    private readonly PvmRules _rules;
    private readonly long _interval;
    private readonly List<Lane> _lanes = [];
    private readonly List<GuestPlan> _plans = [];
    private readonly GuestAgent _agent;
    private readonly bool _batches;
    private KernelPort _kernel;
    private int _replaced;
    private bool _disposed;

    /// <summary>Starts the target on this host.</summary>
    /// <param name="profile">The processor at hand.</param>
    /// <exception cref="TargetUnavailableException">This host cannot run it; the message says why, and what to do.</exception>
    /// <param name="batches">False to let each case enter the guest alone.</param>
    public PvmTarget(CpuProfile profile, bool batches = true)
        : this("pvm", () => KernelPort.Local, _ => profile, batches) => ArgumentNullException.ThrowIfNull(profile);

    /// <summary>Starts the target on a host that is booted for it.</summary>
    /// <param name="options">The host.</param>
    /// <param name="batches">False to let each case enter the guest alone.</param>
    /// <exception cref="TargetUnavailableException">It does not boot, or cannot run it; the message says why, and what to do.</exception>
    public PvmTarget(EmulatedHostOptions options, bool batches = true)
        : this(options?.Name!, () => EmulatedKernel.Boot(options!), kernel => EmulatedProcessor.Ask((EmulatedKernel)kernel), batches) => ArgumentNullException.ThrowIfNull(options);

    private PvmTarget(string name, Func<KernelPort> boot, Func<KernelPort, CpuProfile> processor, bool batches)
    {
        _boot = boot;
        _kernel = boot();
        CpuProfile profile;
        try
        {
            using KvmSystem system = KvmSystem.Open(_kernel);
            _host = PvmHost.Detect(system);
            profile = processor(_kernel);
            _interval = _kernel.IsEmulated ? EmulatedInterval : 0;
            _agent = GuestAgent.Assemble(_host.Revision);
            _lanes.Add(CreateLane());
        }
        catch (IOException e)
        {
            Release();
            throw new TargetUnavailableException(e.Message, e is KvmException refused ? refused.Cure : "raise the limits of this process", e);
        }
        catch
        {
            Release();
            throw;
        }

        _batches = batches;
        _rules = new PvmRules(_host, profile, _kernel.IsEmulated);
        const Capabilities capabilities =
            Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages;
        Info = new TargetInfo(name, TargetKind.Hypervisor, _kernel.IsEmulated ? "tcg" : "hardware", capabilities, _host.Describe(_kernel))
        {
            Masks = PvmMasks.All,
            Abis = [_host.Revision],
            Processor = _kernel is EmulatedKernel ? profile : null,
        };
    }

    /// <summary>All rows that may be in <see cref="TargetInfo.Masks"/>, for outcomes stored elsewhere, whose host is not at hand to be asked.</summary>
    public static ImmutableArray<TargetMask> Masks => PvmMasks.All;

    /// <summary>True for the name of such a target: <c>pvm</c>, or one of several hosts, as <c>pvm:rfc1</c>.</summary>
    public static bool IsName(string name) => name is "pvm" || (name?.StartsWith("pvm:", StringComparison.Ordinal) ?? false);

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Virtual machines that were thrown away and replaced.</summary>
    public int Replaced => _replaced + _lanes.Sum(lane => lane.Replaced);

    /// <summary>Cases whose outcomes came from the agent that stays in the guest.</summary>
    public long Batched { get; private set; }

    /// <summary>Tells why this host cannot run the target.</summary>
    /// <param name="profile">The processor at hand.</param>
    /// <returns>Null when it can.</returns>
    public static TargetUnavailableException? Probe(CpuProfile profile)
    {
        try
        {
            using PvmTarget target = new(profile);
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
        ArgumentNullException.ThrowIfNull(testCase);
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

        LaneWork work = new(cases.ToArray(), new GuestPlan?[cases.Length], new Outcome?[cases.Length]);
        for (int i = 0; i < cases.Length; i++)
        {
            string? trouble = _rules.Trouble(cases[i]);
            work.Plans[i] = trouble is null ? PlanOf(cases[i], out trouble) : null;
            work.Outcomes[i] = trouble is null ? null : Outcome.Unsupported(trouble);
        }

        // What a batch leaves, and what a host that died has left, runs alone behind it.
        for (bool batches = _batches && cases.Length >= SmallestBatch; work.Outcomes.Contains(null); batches = false)
        {
            Run(work, batches);
        }

        Batched += work.Batched;
        work.Outcomes.CopyTo(outcomes!);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        Release();
    }

    /// <summary>The kernel goes first where it is ours: what it had needs no clean-up then.</summary>
    private void Release()
    {
        _replaced = Replaced;
        (_kernel as IDisposable)?.Dispose();
        _lanes.ForEach(lane => lane.Dispose());
        _lanes.Clear();
    }

    private Lane CreateLane()
    {
        KernelPort kernel = _kernel.CreateLane();
        return new Lane(kernel, KvmSystem.Open(kernel), _host, _agent, _interval == 0 ? RunTimer.LongestRun : 2 * _interval, _interval);
    }

    private GuestPlan? PlanOf(TestCase testCase, out string? trouble)
    {
        GuestPlan? plan = GuestPlan.Of(testCase, out trouble, CollectionsMarshal.AsSpan(_plans));
        if (plan is not null && !_plans.Contains(plan))
        {
            if (_plans.Count == MaximumPlans)
            {
                _plans.RemoveAt(0);
            }

            _plans.Add(plan);
        }

        return plan;
    }

    /// <summary>Runs what has no outcome yet, in lanes. Some may have none afterwards.</summary>
    private void Run(LaneWork work, bool batches)
    {
        List<int> alone = [.. Enumerable.Range(0, work.Outcomes.Length).Where(i => work.Outcomes[i] is null)];
        if (alone.FindIndex(work.Suspects.Contains) is int suspect and >= 0)
        {
            // Whether it takes the host down by itself shows on the new one.
            alone = [alone[suspect]];
        }

        List<int[]> groups = batches ? GroupsOf(work, alone) : [];
        HashSet<int> grouped = [.. groups.SelectMany(group => group)];
        alone = [.. alone.Where(place => !grouped.Contains(place)).OrderBy(place => Rank(work.Cases[place]))];

        try
        {
            int count = Math.Clamp(alone.Count / CasesOfLane, 1, _kernel.MostLanes);
            while (_lanes.Count < count)
            {
                _lanes.Add(CreateLane());
            }

            // Which lane runs what does not depend on how long anything takes, so that a run can be repeated.
            LanePump.Run([.. Enumerable.Range(0, count).Select(l => (_lanes[l], _lanes[l].RunAsync(work, Part(groups, l, count), Part(alone, l, count))))]);
        }
        catch (EmulatedHostException e)
        {
            Blame(work, groups.Count > 0 ? null : alone[0], e);
            Release();
            _replaced++;
            _kernel = _boot();
            _lanes.Add(CreateLane());
        }
    }

    /// <summary>
    /// Makes a host that is gone the trouble of the case that ran; of all that were under way when that is not known. Where its kernel gave up, or has become another one, they are only suspects, to be
    /// run again: the one that does it a second time, alone, has shown what the host does.
    /// </summary>
    /// <param name="work">The work.</param>
    /// <param name="other">The place to blame when no case was under way.</param>
    /// <param name="reason">What happened.</param>
    private void Blame(LaneWork work, int? other, EmulatedHostException reason)
    {
        if (reason.SpoiltBy is int spoiling)
        {
            if (!work.Suspects.Add(spoiling))
            {
                work.Outcomes[spoiling] ??= Outcome.Unsupported(reason.Message);
            }

            return;
        }

        List<Lane> busy = _lanes.FindAll(lane => lane.Kernel.IsBusy);
        List<(int Place, ImmutableArray<Event> Seen)> blamed = [.. (busy.Count > 0 ? busy : _lanes).Where(lane => lane.Running is not null).Select(lane => (lane.Running!.Value, lane.Seen))];
        if (blamed.Count == 0 && other is int place)
        {
            blamed.Add((place, []));
        }

        foreach ((int at, ImmutableArray<Event> seen) in blamed)
        {
            if (reason.Panic is null)
            {
                work.Outcomes[at] ??= Outcome.HarnessError(reason.Message);
            }
            else if (!work.Suspects.Add(at))
            {
                work.Outcomes[at] ??= new Outcome { End = EndKind.HypervisorCrash, Events = seen, Detail = $"the host itself has crashed: {reason.Panic}" };
            }
        }
    }

    /// <summary>Warm cases that leave roots warm come first, one after the other, so that a machine is warmed once for all of them; then those that leave them cold.</summary>
    private static int Rank(TestCase testCase) => testCase.Pvm!.Path == HostPath.Cold ? 2 : BatchRules.IsSteady(testCase) ? 0 : 1;

    private static List<T> Part<T>(List<T> all, int part, int parts) => [.. all.Where((_, i) => i % parts == part)];

    /// <summary>The places of cases that the agent can run, by key.</summary>
    private static List<int[]> GroupsOf(LaneWork work, List<int> places)
    {
        Dictionary<BatchKey, List<int>> groups = [];
        foreach (int i in places)
        {
            if (BatchRules.KeyOf(work.Cases[i], work.Plans[i]!) is BatchKey key)
            {
                (CollectionsMarshal.GetValueRefOrAddDefault(groups, key, out _) ??= []).Add(i);
            }
        }

        return [.. groups.Values.Where(g => g.Count >= SmallestBatch).Select(g => g.ToArray())];
    }
}
