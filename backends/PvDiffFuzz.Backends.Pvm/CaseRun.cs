using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Runs one case: ioctls load everything, and the agent answers its events in the guest.</summary>
/// <param name="machine">A machine for the plan of the case; its pool is zero.</param>
/// <param name="host">The host.</param>
/// <param name="agent">The guest's supervisor.</param>
/// <param name="timer">Runs.</param>
internal sealed partial class CaseRun(Machine machine, PvmHost host, GuestAgent agent, IRunTimer timer)
{
    private readonly VcpuState _state = new(machine, host);
    private readonly List<Event> _events = [];
    private readonly List<byte> _waiting = [];
    private readonly List<(int Event, byte Vector)> _injected = [];
    private TestCase _case = null!;
    private KvmRegs _regs;
    private KvmSregs _sregs;
    private bool _loading;
    private bool _steady;
    private bool _crashed;
    private bool _descriptorsLeft;
    private string _reason = "";

    /// <summary>How a run of the guest ended.</summary>
    private enum Stop
    {
        /// <summary>The agent's way out.</summary>
        Port,

        /// <summary>The guest halted.</summary>
        Halt,

        /// <summary>The guest died.</summary>
        Crash,

        /// <summary>It ran too long.</summary>
        Spent,

        /// <summary>The host left for a reason of its own.</summary>
        Trouble,

        /// <summary>The case does what this target cannot show.</summary>
        Unsupported,
    }

    /// <summary>The events of the case that runs, or of the last one.</summary>
    public ImmutableArray<Event> Seen
    {
        get
        {
            ReadEvents();
            return [.. _events];
        }
    }

    /// <summary>False when the virtual machine must not be used again; its memory may.</summary>
    public bool Reusable { get; private set; } = true;

    /// <summary>True when not even the processor can be used again: it knows memory that is not there any more.</summary>
    public bool Damaged { get; private set; }

    /// <summary>Processor time in nanoseconds after which a case is stopped.</summary>
    public long LongestRun { get; init; } = RunTimer.LongestRun;

    /// <summary>Runs a case.</summary>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    public async ValueTask<Outcome> RunAsync(TestCase testCase)
    {
        if (_untouched)
        {
            await TouchAsync(testCase).ConfigureAwait(false);
        }

        _case = testCase;
        new CaseMemory(machine.Pool, machine.Pages).Load(testCase);
        machine.Code.Changed(testCase);
        Stop stop = await LoadAndDriveAsync().ConfigureAwait(false);
        if (stop == Stop.Crash && _crashed && IsInSupervisorMode())
        {
            // Segments that a dead guest had in supervisor mode stay loaded, whatever KVM_SET_SREGS says, and let the next one die at its first exit. A way to user mode and back replaces them, so
            // what dies in user mode has died by itself.
            Clear(testCase);
            await WarmUpAsync().ConfigureAwait(false);
            _state.Forget();
            new CaseMemory(machine.Pool, machine.Pages).Load(testCase);
            machine.Code.Changed(testCase);
            stop = await LoadAndDriveAsync().ConfigureAwait(false);
        }

        _crashed = stop == Stop.Crash || machine.Vcpu.IsShutdownPending;
        _state.Forget();
        Outcome outcome = ToOutcome(stop);
        Damaged = !_steady && _state.StopWriters() && machine.Restore();
        if (Damaged)
        {
            outcome = Outcome.Unsupported("the payload has memory written that belongs to the target: page tables, entries or agent");
        }

        if (!outcome.Comparable || outcome.End == EndKind.Crash)
        {
            Clear(testCase);
        }
        else
        {
            machine.Code.Changed(testCase);
            machine.Code.Changed(outcome.Memory.AsSpan());
        }

        _descriptorsLeft |= CaseNumbers.Mentions(testCase, CaseNumbers.LoadTls);
        Reusable = outcome.Comparable && (outcome.End != EndKind.Crash || IsInSupervisorMode());
        return outcome;
    }

    private async ValueTask<Stop> LoadAndDriveAsync()
    {
        _waiting.Clear();
        _injected.Clear();
        OpenResult();
        try
        {
            return await LoadAsync().ConfigureAwait(false) ? await DriveAsync().ConfigureAwait(false) : Stop.Unsupported;
        }
        catch (KvmException e) when (IsRefusal(e))
        {
            return Stop.Unsupported;
        }
    }

    private void Clear(TestCase testCase)
    {
        new CaseMemory(machine.Pool, machine.Pages).Clear(testCase);
        machine.Code.ChangedEverywhere();
    }

    /// <summary>Loads what the cases of a batch have in common, and the rest of the first one.</summary>
    /// <param name="testCase">The first one.</param>
    /// <returns>The system side as the host shows it then; null when KVM does not take it.</returns>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    public async ValueTask<SystemState?> PrepareAsync(TestCase testCase)
    {
        if (_untouched)
        {
            await TouchAsync(testCase).ConfigureAwait(false);
        }

        _case = testCase;
        _waiting.Clear();
        try
        {
            if (!await LoadAsync().ConfigureAwait(false))
            {
                return null;
            }

            machine.Vcpu.GetSregs(out _sregs);
            _loading = false;
        }
        catch (KvmException e) when (IsRefusal(e))
        {
            return null;
        }

        SystemState system = _state.Read(in _sregs, machine.Pvcs);
        _state.Forget();
        return system;
    }

    /// <summary>Says that the machine has a new processor.</summary>
    public void Renewed()
    {
        _descriptorsLeft = false;
        _untouched = true;
        Damaged = false;
        _crashed = false;
        _warmFor = null;
        _state.Renewed();
    }

    /// <summary>True when KVM refuses what a case begins with, which is known no later than at its first run; <see cref="_reason"/> says what then.</summary>
    private bool IsRefusal(KvmException e)
    {
        bool refusal = _loading && e.Call.StartsWith("KVM_SET_", StringComparison.Ordinal);
        _reason = refusal ? $"KVM does not take the state of the case: {e.Message}" : _reason;
        return refusal;
    }

    /// <summary>True when ioctls can load everything: they cannot bring a processor that has run from user mode back.</summary>
    private bool IsInSupervisorMode()
    {
        machine.Vcpu.GetSregs(out KvmSregs sregs);
        return sregs.Cs.Dpl == 0;
    }

    private Outcome ToOutcome(Stop stop)
    {
        switch (stop)
        {
            case Stop.Crash:
                return new Outcome { End = EndKind.Crash, Events = Seen, Detail = machine.Vcpu.DescribeExit() };
            case Stop.Spent:
                return Outcome.BudgetSpent($"{LongestRun / 1_000_000} ms of processor time");
            case Stop.Trouble:
                return Outcome.HarnessError(_reason);
            case Stop.Unsupported:
                return Outcome.Unsupported(_reason);
        }

        bool told = ReadEvents();
        SystemState system = _state.Read(in _sregs, machine.Pvcs);
        ImmutableArray<MemoryWord> memory = new CaseMemory(machine.Pool, machine.Pages).Unload(_case, out bool intact);
        if (!intact)
        {
            return Outcome.Unsupported("the payload overwrites the jump stub of the target");
        }

        if (!told)
        {
            return Outcome.Unsupported("the frame of an event lies in the structure, and CR2 over its vector");
        }

        bool ended = stop == Stop.Port && machine.Vcpu.IoPort == (ushort)AgentPort.End;
        if (stop == Stop.Halt && InCall)
        {
            // The call that halts has no end of its own.
            _events.Add(ContextReader.Called(Capture(_events.Last(e => e.Kind != EventKind.Hypercall).Registers.Rip)));
        }

        RegisterState registers = stop == Stop.Halt && !InCall ? Capture(_regs.Rip) : ended ? Capture(_case.Code.End) : _events[^1].Registers;
        return new Outcome
        {
            End = stop == Stop.Halt ? EndKind.Halt : ended || AtEnd ? EndKind.ReachedEnd : EndKind.Event,
            Events = [.. _events],
            Registers = registers,
            Memory = memory,
            System = system,
        };
    }

    /// <summary>Lets the guest run until the agent says that nothing answers, or something else ends the case.</summary>
    private async ValueTask<Stop> DriveAsync()
    {
        ulong? returning = _case.Start == GuestMode.User ? _case.System[SystemRegister.PvmRetuRip] : null;
        while (true)
        {
            Stop stop = await WaitAsync(returning, RunReads.All).ConfigureAwait(false);
            if (stop is not (Stop.Port or Stop.Halt))
            {
                return stop;
            }

            machine.Vcpu.GetRegs(out _regs);
            machine.Vcpu.GetSregs(out _sregs);
            if (stop == Stop.Halt)
            {
                return stop;
            }

            switch ((AgentPort)machine.Vcpu.IoPort)
            {
                case AgentPort.End when _regs.Rip == _case.Code.End + AgentCode.LeaveLength:
                    return stop;
                case AgentPort.Done when _regs.Rip == agent.Ring + AgentCode.LeaveLength:
                    return Refusal() is string reason ? Unsupported(reason) : stop;
                case AgentPort.Inject when _regs.Rip == agent.Inject + AgentCode.LeaveLength:
                    Response response = _case.Responses[^((int)Word(Mailbox.Batch.ResponsesLeft) + 1)];
                    returning = RecordEncoder.TargetOf(_case, response, agent);
                    machine.Vcpu.SetRegs(_regs with { Rip = returning.Value });
                    Pend(response.Inject!.Value, atReturn: true);
                    break;
                default:
                    return Unsupported($"the payload leaves to the monitor through port {machine.Vcpu.IoPort:x} at {_regs.Rip:x}");
            }
        }
    }

    private Stop Unsupported(string reason)
    {
        _reason = reason;
        return Stop.Unsupported;
    }

    /// <summary>Runs until the guest leaves, injecting what waits as soon as it can be taken.</summary>
    /// <param name="returning">Address of a SYSCALL that has to be executed before anything is injected; null for none.</param>
    /// <param name="reads">What will be read then.</param>
    private async ValueTask<Stop> WaitAsync(ulong? returning, RunReads reads)
    {
        // Interruptions are counted too: a guest that waits in the kernel uses no processor time.
        const int mostExits = 256;
        const int mostHeld = 16;
        const int mostInterruptions = 64;
        long begin = 0;
        int interruptions = 0;
        int held = 0;
        machine.Code.Tell();
        for (int exits = 0; exits < mostExits; exits++)
        {
            bool left = KvmVcpu.Left(await machine.Vcpu.RunAsync(reads).ConfigureAwait(false));
            _loading = false;
            if (!left)
            {
                timer.Consume();
                long now = timer.Nanoseconds;
                begin = begin == 0 ? now : begin;
                if (now - begin >= LongestRun || ++interruptions >= mostInterruptions)
                {
                    return Stop.Spent;
                }

                continue;
            }

            switch (machine.Vcpu.ExitReason)
            {
                case KVM_EXIT_IO:
                    return Stop.Port;
                case KVM_EXIT_IRQ_WINDOW_OPEN:
                    machine.Vcpu.GetRegs(out KvmRegs regs);
                    if (regs.Rip != returning)
                    {
                        returning = null;
                        InjectHighest();
                    }
                    else if (++held == mostHeld)
                    {
                        _reason = "the host leaves again and again before the return, so that nothing can be injected behind it";
                        return Stop.Unsupported;
                    }
                    else
                    {
                        // Linux leaves for the window, and not for a signal that waits and keeps it from entering the guest.
                        timer.Consume();
                    }

                    break;
                case KVM_EXIT_HLT:
                    if (!Wakes())
                    {
                        return Stop.Halt;
                    }

                    break;
                case KVM_EXIT_INTR:
                    break;
                case KVM_EXIT_SHUTDOWN:
                    return Stop.Crash;
                default:
                    _reason = machine.Vcpu.DescribeExit();
                    return Stop.Trouble;
            }
        }

        return Stop.Spent;
    }

    /// <summary>After a halt: what waits ends it when interrupts are enabled.</summary>
    private bool Wakes()
    {
        machine.Vcpu.GetRegs(out KvmRegs regs);
        bool wakes = _waiting.Count > 0 && (regs.Rflags & RflagsBits.IF) != 0;
        if (wakes)
        {
            InjectHighest();
        }

        return wakes;
    }

    private void InjectHighest()
    {
        if (_waiting.Count > 0)
        {
            byte vector = _waiting.Max();
            _waiting.Remove(vector);
            machine.Vcpu.Interrupt(vector);
            _injected.Add((EventCount, vector));
        }

        machine.Vcpu.WantsInterruptWindow = _waiting.Count > 0;
    }

    private RegisterState Capture(ulong rip) => EventReader.ReadRegisters(in _regs, in _sregs, rip, _case.Registers.Pkru is not null);
}
