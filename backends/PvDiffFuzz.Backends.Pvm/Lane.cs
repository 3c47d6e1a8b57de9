using System.Collections.Immutable;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Pvm.Emulated;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Machines on which cases run one after the other, beside those of other lanes.</summary>
/// <param name="kernel">The lane's way to the kernel.</param>
/// <param name="system">The device, opened by that way.</param>
/// <param name="host">The host.</param>
/// <param name="agent">The guests' supervisor.</param>
/// <param name="longestRun">Processor time in nanoseconds after which a case is stopped.</param>
/// <param name="interval">Nanoseconds between looks at a runaway payload; 0 for the usual ones.</param>
internal sealed class Lane(KernelPort kernel, KvmSystem system, PvmHost host, GuestAgent agent, long longestRun, long interval) : IDisposable
{
    private const int MaximumMachines = 6;

    private readonly byte[] _cpuid = system.SupportedCpuid();
    private readonly IRunTimer _timer = kernel.CreateTimer(interval);
    private readonly List<Seat> _machines = [];

    /// <summary>True where the host can be another one behind a case, and a new one can be booted.</summary>
    private readonly bool _canBeSpoilt = kernel is EmulatedKernel && kernel.IsEmulated;

    /// <summary>The lane's way to the kernel.</summary>
    public KernelPort Kernel => kernel;

    /// <summary>Place of the case that runs alone; null while there is none.</summary>
    public int? Running { get; private set; }

    /// <summary>What the case that runs alone has shown so far.</summary>
    public ImmutableArray<Event> Seen => _machines.Count > 0 ? _machines[0].Run.Seen : [];

    /// <summary>Virtual machines that were thrown away and replaced.</summary>
    public int Replaced { get; private set; }

    /// <summary>Runs its part of some work.</summary>
    /// <param name="work">The work.</param>
    /// <param name="batches">Groups of places whose cases have one <see cref="BatchKey"/>. The outcomes of cases that the agent cannot finish stay null.</param>
    /// <param name="alone">Places of cases that run alone.</param>
    /// <exception cref="IOException">The kernel is gone, or another one.</exception>
    public async Task RunAsync(LaneWork work, List<int[]> batches, List<int> alone)
    {
        _timer.Start();
        foreach (int[] places in batches)
        {
            await RunBatchAsync(work, places).ConfigureAwait(false);
        }

        foreach (int place in alone)
        {
            Running = place;
            work.Outcomes[place] = Unspoilt(work, place, await RunOneAsync(work.Cases[place], work.Plans[place]!).ConfigureAwait(false));
        }

        Running = null;
        _timer.Stop();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Seat seat in _machines)
        {
            seat.Machine.Dispose();
        }

        _machines.Clear();
        _timer.Dispose();
        system.Dispose();
        (kernel as IDisposable)?.Dispose();
    }

    /// <summary>Runs a case alone: on the machine at hand, and when that refuses something that it allowed before, on a new one.</summary>
    private async ValueTask<Outcome> RunOneAsync(TestCase testCase, GuestPlan plan)
    {
        try
        {
            return await RunOnAsync(MachineFor(plan), testCase).ConfigureAwait(false);
        }
        catch (KvmException) when (_machines.Count > 0)
        {
            // What the case before has left: a new processor has none of it, and costs much less than new memory.
            Renew(_machines[0]);
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            // Where the host has no memory for another machine, what those at hand take.
            do
            {
                Drop();
            }
            while (e is PosixException && _machines.Count > 0);
        }

        try
        {
            return await RunOnAsync(MachineFor(plan), testCase).ConfigureAwait(false);
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            Drop();
            return Outcome.HarnessError(e.Message);
        }
    }

    private async ValueTask<Outcome> RunOnAsync(Seat seat, TestCase testCase)
    {
        Outcome outcome = await seat.Run.RunAsync(testCase).ConfigureAwait(false);
        if (!seat.Run.Reusable)
        {
            await RenewAsync(seat).ConfigureAwait(false);
        }

        return outcome;
    }

    /// <summary>Runs cases of one key. Those that the agent cannot finish keep null.</summary>
    private async ValueTask RunBatchAsync(LaneWork work, int[] places)
    {
        TestCase[] cases = [.. places.Select(place => work.Cases[place])];
        Outcome?[] outcomes = new Outcome?[places.Length];
        try
        {
            for (int first = 0; first < cases.Length;)
            {
                Seat seat = MachineFor(work.Plans[places[0]]!);
                BatchEnd end = await seat.Batch.RunAsync(cases.AsMemory(first), outcomes.AsMemory(first)).ConfigureAwait(false);
                first += end.Cases;
                if (end.Broken)
                {
                    await RenewAsync(seat).ConfigureAwait(false);
                }
            }
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            // The cases that are left run alone, each with an answer of its own.
            Drop();
        }

        for (int i = 0; i < places.Length; i++)
        {
            work.Outcomes[places[i]] = outcomes[i] is Outcome outcome ? Unspoilt(work, places[i], outcome) : null;
            work.Batched += outcomes[i] is null ? 0 : 1;
        }
    }

    /// <summary>An outcome that leaves the host as it was.</summary>
    /// <exception cref="EmulatedHostException">The host is another one behind it.</exception>
    private Outcome Unspoilt(LaneWork work, int place, Outcome outcome) =>
        _canBeSpoilt && EmulatorEscapes.HasSpoilt(work.Cases[place], outcome) ? throw new EmulatedHostException(EmulatorEscapes.Spoilt) { SpoiltBy = place } : outcome;

    /// <summary>Makes a machine fit for the next case.</summary>
    private async ValueTask RenewAsync(Seat seat)
    {
        if (!seat.Run.Damaged && await seat.Run.TryRescueAsync().ConfigureAwait(false))
        {
            return;
        }

        Renew(seat);
    }

    private void Renew(Seat seat)
    {
        seat.Machine.Pool.Clear();
        seat.Machine.Code.ChangedEverywhere();
        seat.Machine.Renew(system, _cpuid);
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

            Machine machine = Machine.Create(system, _cpuid, plan, agent);
            CaseRun run = new(machine, host, agent, _timer) { LongestRun = longestRun };
            _machines.Insert(0, new Seat(machine, run, new BatchRun(machine, run, agent, _timer)));
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

/// <summary>What lanes share: cases with their plans, and the places for outcomes.</summary>
/// <param name="Cases">The cases.</param>
/// <param name="Plans">What each needs; null where it is not run.</param>
/// <param name="Outcomes">Null until there is one.</param>
internal sealed record LaneWork(TestCase[] Cases, GuestPlan?[] Plans, Outcome?[] Outcomes)
{
    /// <summary>Outcomes that came from batches.</summary>
    public int Batched { get; set; }

    /// <summary>Places of cases that ran when the host's kernel gave up.</summary>
    public HashSet<int> Suspects { get; } = [];
}
