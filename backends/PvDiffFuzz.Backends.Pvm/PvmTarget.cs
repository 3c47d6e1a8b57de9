using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Interop;
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
    private const int MaximumMachines = 12;

    private const int MaximumPlans = 16;

    /// <summary>Fewer cases are run alone: changing between the two ways costs as much.</summary>
    private const int SmallestBatch = 4;

    /// <summary>Nanoseconds between looks at a runaway payload where the host is emulated. A case takes well under a millisecond there.</summary>
    private const long EmulatedInterval = 25_000_000;

    private readonly Func<KernelPort> _boot;
    private readonly PvmHost _host;
    private readonly PvmRules _rules;
    private readonly byte[] _cpuid;
    private readonly long _interval;
    private readonly List<Seat> _machines = [];
    private readonly List<GuestPlan> _plans = [];
    private readonly BatchAgent _agent;
    private readonly bool _batches;
    private KernelPort _kernel;
    private KvmSystem _system;
    private IRunTimer _timer;
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
            _system = KvmSystem.Open(_kernel);
            _host = PvmHost.Detect(_system);
            _cpuid = _system.SupportedCpuid();
            profile = processor(_kernel);
            _interval = _kernel.IsEmulated ? EmulatedInterval : 0;
            _timer = _kernel.CreateTimer(_interval);
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
        _agent = BatchAgent.Assemble(_host.Revision);
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
    public int Replaced { get; private set; }

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

        _timer.Start();
        GuestPlan?[] plans = new GuestPlan?[cases.Length];
        for (int i = 0; i < cases.Length; i++)
        {
            string? trouble = _rules.Trouble(cases[i]);
            plans[i] = trouble is null ? PlanOf(cases[i], out trouble) : null;
            outcomes[i] = trouble is null ? null! : Outcome.Unsupported(trouble);
        }

        if (_batches && cases.Length >= SmallestBatch)
        {
            RunBatches(cases, plans, outcomes);
        }

        for (int i = 0; i < cases.Length; i++)
        {
            outcomes[i] ??= RunOne(cases[i], plans[i]!);
        }

        _timer.Stop();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        Release();
    }

    private void Release()
    {
        foreach (Seat seat in _machines)
        {
            seat.Machine.Dispose();
        }

        _machines.Clear();
        _timer?.Dispose();
        _system?.Dispose();
        (_kernel as IDisposable)?.Dispose();
    }

    /// <summary>Starts again on a host that is gone.</summary>
    private void Reboot()
    {
        Release();
        Replaced++;
        _kernel = _boot();
        _system = KvmSystem.Open(_kernel);
        _timer = _kernel.CreateTimer(_interval);
        _timer.Start();
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

    /// <summary>Runs a case alone: on the machine at hand, and when that refuses something that it allowed before, on a new one.</summary>
    private Outcome RunOne(TestCase testCase, GuestPlan plan)
    {
        Outcome outcome = TryOne(testCase, plan, out bool refused);
        return refused ? TryOne(testCase, plan, out _) : outcome;
    }

    private Outcome TryOne(TestCase testCase, GuestPlan plan, out bool refused)
    {
        refused = false;
        try
        {
            CaseRun run = MachineFor(plan).Run;
            Outcome outcome = run.Run(testCase);
            if (!run.Reusable)
            {
                Renew(_machines[0]);
            }

            return outcome;
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            // What the case before has left. The next one tries with a new machine.
            refused = true;
            Drop();
            return Outcome.HarnessError(e.Message);
        }
        catch (EmulatedHostException e)
        {
            Reboot();
            return Outcome.HarnessError(e.Message);
        }
    }

    /// <summary>Runs what the agent can run; the outcomes of all other cases stay null.</summary>
    private void RunBatches(ReadOnlySpan<TestCase> cases, ReadOnlySpan<GuestPlan?> plans, Span<Outcome> outcomes)
    {
        Dictionary<BatchKey, List<int>> groups = [];
        for (int i = 0; i < cases.Length; i++)
        {
            if (plans[i] is GuestPlan plan && BatchRules.KeyOf(cases[i], plan) is BatchKey key)
            {
                (CollectionsMarshal.GetValueRefOrAddDefault(groups, key, out _) ??= []).Add(i);
            }
        }

        foreach ((BatchKey key, List<int> places) in groups.Where(g => g.Value.Count >= SmallestBatch))
        {
            TestCase[] members = new TestCase[places.Count];
            for (int i = 0; i < members.Length; i++)
            {
                members[i] = cases[places[i]];
            }

            Outcome?[] answers = new Outcome?[members.Length];
            RunBatch(key.Plan, members, answers);
            for (int i = 0; i < members.Length; i++)
            {
                outcomes[places[i]] = answers[i]!;
                Batched += answers[i] is null ? 0 : 1;
            }
        }
    }

    /// <summary>Runs cases of one key. Those that the agent cannot finish keep null.</summary>
    private void RunBatch(GuestPlan plan, ReadOnlySpan<TestCase> cases, Span<Outcome?> outcomes)
    {
        try
        {
            while (!cases.IsEmpty)
            {
                Seat seat = MachineFor(plan);
                BatchEnd end = seat.Batch.Run(cases, outcomes);
                cases = cases[end.Cases..];
                outcomes = outcomes[end.Cases..];
                if (end.Broken)
                {
                    Renew(seat);
                }
            }
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            // The cases that are left run alone, each with an answer of its own.
            Drop();
        }
        catch (EmulatedHostException)
        {
            // So do these: the one that takes the host down is then known.
            Reboot();
        }
    }

    /// <summary>Makes a machine fit for the next case.</summary>
    private void Renew(Seat seat)
    {
        if (seat.Run.TryRescue())
        {
            return;
        }

        seat.Machine.Renew(_system, _cpuid);
        seat.Run.Renewed();
        Replaced++;
    }

    /// <summary>The machine for a plan, which becomes the first of the list.</summary>
    private Seat MachineFor(GuestPlan plan)
    {
        int at = _machines.FindIndex(m => m.Machine.Plan.Equals(plan));
        if (at < 0)
        {
            if (_machines.Count == MaximumMachines)
            {
                _machines[^1].Machine.Dispose();
                _machines.RemoveAt(MaximumMachines - 1);
            }

            Machine machine = Machine.Create(_system, _cpuid, plan);
            CaseRun run = new(machine, _host, _timer) { LongestRun = _interval == 0 ? RunTimer.LongestRun : 2 * _interval };
            _machines.Insert(0, new Seat(machine, run, new BatchRun(machine, run, _agent, _timer)));
        }
        else if (at > 0)
        {
            Seat found = _machines[at];
            _machines.RemoveAt(at);
            _machines.Insert(0, found);
        }

        return _machines[0];
    }

    /// <summary>Throws the machine of the last case away.</summary>
    private void Drop()
    {
        if (_machines.Count > 0)
        {
            _machines[0].Machine.Dispose();
            _machines.RemoveAt(0);
            Replaced++;
        }
    }

    /// <summary>A machine and the two ways of running cases on it.</summary>
    private sealed record Seat(Machine Machine, CaseRun Run, BatchRun Batch);
}
