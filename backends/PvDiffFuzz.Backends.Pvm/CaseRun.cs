using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Runs one case: everything is loaded by ioctls, and each event leaves the guest.</summary>
/// <param name="machine">A machine for the plan of the case; its pool is zero.</param>
/// <param name="host">The host.</param>
/// <param name="timer">Runs.</param>
internal sealed partial class CaseRun(Machine machine, PvmHost host, IRunTimer timer)
{
    private readonly VcpuState _state = new(machine, host);
    private readonly List<Event> _events = [];
    private readonly List<byte> _waiting = [];
    private TestCase _case = null!;
    private KvmRegs _regs;
    private KvmSregs _sregs;
    private ulong? _returning;
    private byte? _injected;
    private bool _loading;
    private bool _steady;
    private bool _crashed;
    private RunReads _read;
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
    public ImmutableArray<Event> Seen => [.. _events];

    /// <summary>False when the virtual machine must not be used again; its memory may.</summary>
    public bool Reusable { get; private set; } = true;

    /// <summary>Processor time in nanoseconds after which a case is stopped.</summary>
    public long LongestRun { get; init; } = RunTimer.LongestRun;

    /// <summary>Runs a case.</summary>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    public async ValueTask<Outcome> RunAsync(TestCase testCase)
    {
        _case = testCase;
        machine.LeadEntriesTo(null);
        new CaseMemory(machine.Pool, machine.Pages).Load(testCase);
        machine.Code.Changed(testCase);
        Stop stop = await LoadAndDriveAsync().ConfigureAwait(false);
        if (stop == Stop.Crash && _crashed && machine.Plan.EventEntry is ulong entry)
        {
            // Segments that a dead guest had in supervisor mode stay loaded, whatever KVM_SET_SREGS says, and let the next one die at its first exit. A way to user mode and back replaces them.
            Clear(testCase);
            await WarmUpAsync(entry).ConfigureAwait(false);
            _state.Forget();
            new CaseMemory(machine.Pool, machine.Pages).Load(testCase);
            machine.Code.Changed(testCase);
            stop = await LoadAndDriveAsync().ConfigureAwait(false);
        }

        _crashed = stop == Stop.Crash || machine.Vcpu.IsShutdownPending;
        if (stop is Stop.Port or Stop.Halt && _read != RunReads.All)
        {
            await machine.Vcpu.FetchAsync().ConfigureAwait(false);
        }

        _state.Forget();
        Outcome outcome = ToOutcome(stop);
        if (!outcome.Comparable || outcome.End == EndKind.Crash)
        {
            Clear(testCase);
        }
        else
        {
            machine.Code.Changed(testCase);
            machine.Code.Changed(outcome.Memory.AsSpan());
        }

        _descriptorsLeft |= HasThreadLocalStorage(testCase);
        Reusable = outcome.Comparable && (outcome.End != EndKind.Crash || IsInSupervisorMode());
        return outcome;
    }

    private async ValueTask<Stop> LoadAndDriveAsync()
    {
        _events.Clear();
        _waiting.Clear();
        _injected = null;
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
                return new Outcome { End = EndKind.Crash, Events = [.. _events], Detail = machine.Vcpu.DescribeExit() };
            case Stop.Spent:
                return Outcome.BudgetSpent($"{LongestRun / 1_000_000} ms of processor time");
            case Stop.Trouble:
                return Outcome.HarnessError(_reason);
            case Stop.Unsupported:
                return Outcome.Unsupported(_reason);
        }

        SystemState system = _state.Read(in _sregs, machine.Pvcs);
        ImmutableArray<MemoryWord> memory = new CaseMemory(machine.Pool, machine.Pages).Unload(_case, out bool intact);
        if (!intact)
        {
            return Outcome.Unsupported("the payload overwrites the jump stub of the target");
        }

        // A port is an event or the end of supervisor code, whose registers are those of the port; after a hypercall's halt they are in its event.
        bool ended = stop == Stop.Port && machine.Vcpu.IoPort == (ushort)AgentPort.End;
        RegisterState registers = stop == Stop.Halt
            ? _events is [.., { Kind: EventKind.Hypercall } call] && _inCall ? call.Registers : Capture(_regs.Rip)
            : ended ? Capture(_case.Code.End) : _events[^1].Registers;
        return new Outcome
        {
            End = stop == Stop.Halt ? EndKind.Halt : ended || _atEnd ? EndKind.ReachedEnd : EndKind.Event,
            Events = [.. _events],
            Registers = registers,
            Memory = memory,
            System = system,
        };
    }

    /// <summary>Lets the guest run from event to event until nothing answers.</summary>
    private async ValueTask<Stop> DriveAsync()
    {
        int answered = 0;
        _atEnd = false;
        _returning = _case.Start == GuestMode.User ? _case.System[SystemRegister.PvmRetuRip] : null;
        while (true)
        {
            Stop stop = await WaitAsync(_returning, answered < _case.Responses.Length && _steady ? RunReads.Registers : RunReads.All).ConfigureAwait(false);
            if (stop is not (Stop.Port or Stop.Halt))
            {
                return stop;
            }

            ReadRegisters();
            if (stop == Stop.Halt || machine.Vcpu.IoPort == (ushort)AgentPort.End)
            {
                return stop == Stop.Halt || _regs.Rip == _case.Code.End + AgentCode.PadLength ? stop : Leaves();
            }

            if (!TryReadEvent(out Event? what))
            {
                return Leaves();
            }

            _events.Add(what!);
            _atEnd = IsEnd(what!);
            if (_atEnd || answered == _case.Responses.Length)
            {
                return Stop.Port;
            }

            if (await AnswerAsync(what!, _case.Responses[answered++]).ConfigureAwait(false) is Stop ended)
            {
                return ended;
            }
        }
    }

    /// <summary>An OUT of the payload's, or one of the agent's that the payload jumped to.</summary>
    private Stop Leaves()
    {
        _reason = $"the payload leaves to the monitor through port {machine.Vcpu.IoPort:x} at {_regs.Rip:x}";
        return Stop.Unsupported;
    }

    private bool TryReadEvent(out Event? what)
    {
        AgentPort port = (AgentPort)machine.Vcpu.IoPort;
        what = null;
        foreach ((AgentPort known, ulong address) in machine.Plan.Pads())
        {
            if (known == port && _regs.Rip == address + AgentCode.PadLength)
            {
                Span<byte> frame = stackalloc byte[EventReader.FrameSize];
                if (EventReader.OnStack(host.Revision, port))
                {
                    ReadLinear(_regs.Rsp, frame);
                }

                what = EventReader.Read(host.Revision, port, Capture(address), machine.Pvcs, frame, _injected);
                _injected = null;
                return true;
            }
        }

        return false;
    }

    /// <summary>True for the fetch #PF with which user code ends.</summary>
    private bool IsEnd(Event what)
    {
        const uint fetch = 0x10;
        return _case.Start == GuestMode.User && what.Entry == EntryPoint.PvmUser && what.Cr2 == _case.Code.End && (what.ErrorCode & fetch) != 0
            && EventReader.Field(host.Revision, SystemRegister.PvcsRip, machine.Pvcs) == _case.Code.End;
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
            _read = reads;
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
            _injected = vector;
        }

        machine.Vcpu.WantsInterruptWindow = _waiting.Count > 0;
    }

    private void ReadRegisters()
    {
        machine.Vcpu.GetRegs(out _regs);
        machine.Vcpu.GetSregs(out _sregs);
    }

    private RegisterState Capture(ulong rip) => EventReader.ReadRegisters(in _regs, in _sregs, rip, _case.Registers.Pkru is not null);

    /// <summary>Reads what supervisor mode sees; zero where it has no page.</summary>
    private void ReadLinear(ulong address, Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            ulong at = address + (ulong)i;
            bytes[i] = IsStructure(at) ? machine.Memory[machine.Plan.VcpuStruct + (int)(at & 0xfff)]
                : machine.Pages.IndexOf(at) is int index and >= 0 ? machine.Pool[(index * PageLayout.PageSize) + (int)(at & 0xfff)]
                : (byte)0;
        }
    }

    private void WriteLinear(ulong address, ulong value)
    {
        for (int i = 0; i < sizeof(ulong); i++)
        {
            ulong at = address + (ulong)i;
            if (IsStructure(at))
            {
                machine.Memory[machine.Plan.VcpuStruct + (int)(at & 0xfff)] = (byte)(value >> (8 * i));
            }
            else if (machine.Pages.IndexOf(at) is int index and >= 0)
            {
                machine.Pool[(index * PageLayout.PageSize) + (int)(at & 0xfff)] = (byte)(value >> (8 * i));
            }
        }
    }

    private bool IsStructure(ulong address) => (address & ~0xfffUL) == machine.Plan.VcpuStructAddress;

    /// <summary>True when a case may load the processor's descriptors for thread-local storage, which no ioctl resets.</summary>
    private static bool HasThreadLocalStorage(TestCase testCase)
    {
        const uint call = 0x1708_8209;
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, call);
        if (testCase.Code.Bytes.AsSpan().IndexOf(bytes) >= 0)
        {
            return true;
        }

        for (int i = 0; i < GprFile.Count; i++)
        {
            if ((uint)testCase.Registers.Gpr[i] == call)
            {
                return true;
            }
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            if (contents.Bytes.AsSpan().IndexOf(bytes) >= 0)
            {
                return true;
            }
        }

        foreach (Response response in testCase.Responses)
        {
            foreach (Hypercall made in response.Hypercalls)
            {
                if (made.Number == call)
                {
                    return true;
                }
            }
        }

        return false;
    }
}
