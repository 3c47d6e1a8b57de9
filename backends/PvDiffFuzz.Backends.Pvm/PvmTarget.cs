using System.Collections.Immutable;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Cases of the PVM guest ABI on a host whose KVM implements it. One instance belongs to one thread at a time.</summary>
/// <remarks>
/// The payload runs in supervisor or user mode of a guest of this host; the agent is no more than instructions that leave the guest where deliveries land. Machines are kept
/// for the last few plans and thrown away when a case ends in a way after which the processor's state is not known.
/// </remarks>
public sealed class PvmTarget : ITarget
{
    private const int MaximumMachines = 4;

    /// <summary>Nanoseconds between looks at a runaway payload where the host is emulated. A case takes well under a millisecond there.</summary>
    private const long EmulatedInterval = 25_000_000;

    private readonly KvmSystem _system;
    private readonly PvmHost _host;
    private readonly PvmRules _rules;
    private readonly byte[] _cpuid;
    private readonly RunTimer _timer = new(HostKind.IsEmulated ? EmulatedInterval : 0);
    private readonly List<(Machine Machine, CaseRun Run)> _machines = [];
    private bool _disposed;

    /// <summary>Starts the target.</summary>
    /// <param name="profile">The processor at hand.</param>
    /// <exception cref="TargetUnavailableException">This host cannot run it; the message says why, and what to do.</exception>
    public PvmTarget(CpuProfile profile)
    {
        ArgumentNullException.ThrowIfNull(profile);
        _system = KvmSystem.Open();
        try
        {
            _host = PvmHost.Detect(_system);
            _cpuid = _system.SupportedCpuid();
        }
        catch (IOException e)
        {
            _system.Dispose();
            throw new TargetUnavailableException(e.Message, e is KvmException refused ? refused.Cure : "raise the limits of this process", e);
        }
        catch
        {
            _system.Dispose();
            throw;
        }

        _rules = new PvmRules(_host, profile, HostKind.IsEmulated);
        const Capabilities capabilities =
            Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages;
        Info = new TargetInfo("pvm", TargetKind.Hypervisor, HostKind.Lineage("hardware"), capabilities, _host.Describe())
        {
            Masks = PvmMasks.All,
            Abis = [_host.Revision],
        };
    }

    /// <summary>All rows that may be in <see cref="TargetInfo.Masks"/>, for outcomes stored elsewhere, whose host is not at hand to be asked.</summary>
    public static ImmutableArray<TargetMask> Masks => PvmMasks.All;

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Virtual machines that were thrown away and replaced.</summary>
    public int Replaced { get; private set; }

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
        for (int i = 0; i < cases.Length; i++)
        {
            outcomes[i] = RunOne(cases[i]);
        }

        _timer.Stop();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _timer.Dispose();
        foreach ((Machine machine, _) in _machines)
        {
            machine.Dispose();
        }

        _machines.Clear();
        _system.Dispose();
    }

    private Outcome RunOne(TestCase testCase)
    {
        if (_rules.Trouble(testCase) is string trouble)
        {
            return Outcome.Unsupported(trouble);
        }

        if (GuestPlan.Of(testCase, out string? obstacle) is not GuestPlan plan)
        {
            return Outcome.Unsupported(obstacle!);
        }

        try
        {
            CaseRun run = MachineFor(plan);
            Outcome outcome = run.Run(testCase);
            if (!run.Reusable)
            {
                Drop();
            }

            return outcome;
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            // The host refused something that it allowed before. This case is told so; the next one tries with a new machine.
            Drop();
            return Outcome.HarnessError(e.Message);
        }
    }

    /// <summary>The machine for a plan, which becomes the first of the list.</summary>
    private CaseRun MachineFor(GuestPlan plan)
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
            _machines.Insert(0, (machine, new CaseRun(machine, _host, _timer) { LongestRun = 2 * (HostKind.IsEmulated ? EmulatedInterval : RunTimer.LongestRun / 2) }));
        }
        else if (at > 0)
        {
            (Machine, CaseRun) found = _machines[at];
            _machines.RemoveAt(at);
            _machines.Insert(0, found);
        }

        return _machines[0].Run;
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
}
