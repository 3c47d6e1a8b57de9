using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.Pvm.Instructions;
using PvDiffFuzz.Models.X86;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>Runs cases of one revision: the payload on the processor at CPL3, and the hypervisor whenever something is pending.</summary>
/// <typeparam name="TAbi">The revision.</typeparam>
/// <param name="engine">The processor.</param>
/// <param name="vcpu">The virtual CPU on it.</param>
internal sealed partial class PvmRun<TAbi>(X86Engine engine, Vcpu vcpu) : IPvmRun
    where TAbi : struct, IPvmAbi
{
    /// <summary>Bytes after supervisor code that belong to a target's jump stub.</summary>
    private const ulong StubLength = TestCase.StubLength;

    private readonly List<Event> _events = [];
    private readonly Door[] _doors = new Door[6];
    private int _supervisorDoors;
    private int _userDoors;
    private int _answered;
    private VectorEvent _what;
    private RegisterState? _final;
    private Tracer? _trace;

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase, CpuProfile profile, Tracer? trace)
    {
        if (Refuse(testCase, profile) is Outcome refused)
        {
            return refused;
        }

        vcpu.Touched = Choices.None;
        Outcome outcome = Run(testCase, trace, Choices.None);
        return vcpu.Touched == Choices.None || trace is not null ? outcome : WithAlternatives(testCase, outcome, vcpu.Touched);
    }

    private static Outcome? Refuse(TestCase testCase, CpuProfile profile)
    {
        if (!TAbi.ClaimsBehaviour)
        {
            return Outcome.Unsupported($"no behaviour is claimed for {testCase.Abi.Text()}");
        }

        if (testCase.Registers.Pkru is not null && testCase.Start == GuestMode.Supervisor && !profile.Has("PKU"))
        {
            return Outcome.Unsupported("the case states PKRU, but its processor has no protection keys");
        }

        return TAbi.SwitchesRoots || testCase.Pvm!.UserLayout is null || testCase.Pvm.UserLayout.Equals(testCase.Layout)
            ? null
            : Outcome.Unsupported($"{testCase.Abi.Text()} has one root, and the case has two");
    }

    /// <summary>Runs with every other combination of the choices that mattered. A choice that comes to matter only then is not followed.</summary>
    private Outcome WithAlternatives(TestCase testCase, Outcome outcome, Choices touched)
    {
        ImmutableArray<Outcome>.Builder alternatives = ImmutableArray.CreateBuilder<Outcome>();
        for (Choices choices = touched; choices != Choices.None; choices = (choices - 1) & touched)
        {
            Outcome other = Run(testCase, trace: null, choices);
            if (!other.Equals(outcome) && !alternatives.Contains(other))
            {
                alternatives.Add(other);
            }
        }

        return outcome with { Alternatives = alternatives.ToImmutable() };
    }

    private Outcome Run(TestCase testCase, Tracer? trace, Choices choices)
    {
        bool five = engine.Profile.LinearBits == 57;
        ulong range = testCase.System.TryGet(SystemRegister.PvmLinearAddressRange, out ulong stated) ? stated : Paging.Widest(five);
        PageLayout first = Paging.Confine(testCase.Layout, range);
        engine.Memory.Load(testCase, first, testCase.Pvm!.UserLayout is PageLayout second ? Paging.Confine(second, range) : first, testCase.Pvm.PvcsAddress);
        vcpu.Choices = choices;
        vcpu.Load<TAbi>(testCase);
        SetDoors(testCase);
        _events.Clear();
        _answered = 0;
        _final = null;
        _trace = trace;
        DebugRegisters? debug = testCase.Registers.Debug is DebugRegisters armed ? Paging.Confine(armed, range) : null;
        CpuState cpu = engine.Start(testCase.Limits.Instructions, debug);
        Begin(ref cpu, testCase);
        Drive(ref cpu, testCase);
        SystemState system = vcpu.Verdict <= Verdict.Halt ? vcpu.Capture<TAbi>(ref cpu) : SystemState.Empty;
        engine.ForgetCode(testCase.Code);
        ImmutableArray<MemoryWord> changes = engine.Memory.Unload(testCase);
        return ToOutcome(system, changes);
    }

    private Outcome ToOutcome(SystemState system, ImmutableArray<MemoryWord> changes) =>
        vcpu.Verdict.ToOutcome(vcpu.Reason, [.. _events], _final, system, changes);

    /// <summary>The state in which a case begins. In user mode it begins with the return there.</summary>
    private void Begin(ref CpuState cpu, TestCase testCase)
    {
        RegisterState registers = testCase.Registers;
        bool user = testCase.Start == GuestMode.User;
        vcpu.SelectView(TAbi.SupervisorRights);
        Delivery.Enter(ref cpu, user ? registers with { Rip = 0, Rflags = UnderlyingStates.EntryRflags } : registers with { Rflags = UnderlyingStates.Standardize(registers.Rflags) });
        uint? pkru = !engine.Profile.Has("PKU") ? null : user ? ProtectionKeys.Default(vcpu) : registers.Pkru ?? 0;
        cpu.Pkru = pkru;
        ProtectionKeys.Enable(ref cpu, vcpu, user: false);
        Delivery.SetMode(ref cpu);

        if (user)
        {
            FillContext(registers);
            cpu.SegmentBase[Seg.Gs] = vcpu[SystemRegister.KernelGsBase];
            if (TAbi.SwitchesRoots)
            {
                cpu.Write(X86.Gpr.Rsp, vcpu[SystemRegister.PvmSupervisorRsp]);
            }

            Return(ref cpu, user: true);
        }

        if (testCase.Inject is Injection injection)
        {
            Injections.Add(vcpu, injection);
        }
    }

    private void FillContext(RegisterState registers)
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        pvcs[SystemRegister.PvcsUserCs] = registers.Cs;
        pvcs[SystemRegister.PvcsUserSs] = registers.Ss;
        pvcs[SystemRegister.PvcsUserGsBase] = registers.GsBase;
        pvcs[SystemRegister.PvcsEflags] = registers.Rflags;
        pvcs[SystemRegister.PvcsPkru] = registers.Pkru ?? 0;
        pvcs[SystemRegister.PvcsRip] = registers.Rip;
        pvcs[SystemRegister.PvcsRsp] = registers.Gpr[4];
        pvcs[SystemRegister.PvcsRcx] = registers.Gpr[1];
        pvcs[SystemRegister.PvcsR11] = registers.Gpr[11];
    }

    private void Drive(ref CpuState cpu, TestCase testCase)
    {
        while (vcpu.Verdict == Verdict.Running)
        {
            if (vcpu.LooksOutside && Injections.TryTake<TAbi>(vcpu, out byte vector))
            {
                // Nothing is pending from the instruction before; a breakpoint on the next one is met again afterwards.
                Deliver(ref cpu, new VectorEvent(EventKind.Interrupt, vector, null, null, cpu.Rflags));
                continue;
            }

            if (cpu.Pending == PendingKind.None)
            {
                engine.Doors = vcpu.UserMode ? _doors.AsMemory(_supervisorDoors, _userDoors) : _doors.AsMemory(0, _supervisorDoors);
                ChangedInstructions.RunNatively(engine, ref cpu, testCase.Code, _trace);
            }

            Handle(ref cpu);
        }
    }

    private void Handle(ref CpuState cpu)
    {
        switch (cpu.Pending)
        {
            case PendingKind.None:
                vcpu.End(Verdict.BudgetSpent);
                return;
            case PendingKind.Door:
                AtDoor(ref cpu);
                return;
            case PendingKind.Unsupported or PendingKind.Fault when !engine.FetchFailed && engine.Last.Form == Code.Sysenter:
                ChangedInstructions.Sysenter(ref cpu);
                break;
            case PendingKind.Unsupported when !engine.FetchFailed && engine.Last.Form == Code.Syscall:
                UserSyscall.FromCompatibility(ref cpu, engine.Last.Length);
                break;
            case PendingKind.Unsupported:
                vcpu.End(Verdict.Unsupported, $"model.pvm has no {(Code)cpu.PendingError}");
                return;
            case PendingKind.Fault or PendingKind.Trap when !engine.FetchFailed && ChangedInstructions.IsInt(ref cpu, in engine.Last):
                ChangedInstructions.Interrupt<TAbi>(ref cpu, in engine.Last);
                break;
        }

        if (cpu.TrapDue && EntersByItself(ref cpu))
        {
            DiscardWatchpoint(ref cpu);
        }

        if (vcpu.UserMode)
        {
            HandleUser(ref cpu);
        }
        else if (UnderlyingStates.HasSupervisorSegments(ref cpu, vcpu))
        {
            HandleSupervisor(ref cpu);
        }
    }

    /// <summary>Tells whether a SYSCALL or a software interrupt is pending. With TF clear a trap that is due then is one that MOV SS or POP SS left, since neither accesses data.</summary>
    private static bool EntersByItself(ref CpuState cpu) =>
        (cpu.System & RflagsBits.TF) == 0 && (cpu.Pending == PendingKind.SystemCall || (cpu.Pending == PendingKind.Trap && cpu.PendingVector != 1));

    /// <summary>A watchpoint that MOV SS or POP SS met right before an instruction that enters the supervisor is lost.</summary>
    [Spec("PVM rfc1", "Discarded #DB")]
    private static void DiscardWatchpoint(ref CpuState cpu) => cpu.TrapDue = false;

    private void HandleUser(ref CpuState cpu)
    {
        if (cpu.Pending != PendingKind.SystemCall)
        {
            DeliverPending(ref cpu);
            return;
        }

        TAbi.UserSyscall(ref cpu, vcpu);
        _what = new VectorEvent(EventKind.SystemCall, 0, null, null, 0);
        Land(ref cpu);
    }

    private void HandleSupervisor(ref CpuState cpu)
    {
        if (cpu.Pending == PendingKind.Fault && !engine.FetchFailed && ChangedInstructions.IsForbidden(in engine.Last))
        {
            ChangedInstructions.Forbidden();
        }

        if (cpu.Pending == PendingKind.SystemCall)
        {
            if (SyntheticInstructions.Syscall<TAbi>(ref cpu, vcpu))
            {
                // Back to the guest with RFLAGS from R11: a single step is due after the next instruction.
                AfterHypercall(ref cpu);
                NoteHalt(ref cpu);
            }
            else
            {
                CheckTarget(ref cpu);
            }
        }
        else if (cpu.Pending != PendingKind.Fault || cpu.PendingVector != 13 || engine.FetchFailed || !Emulate(ref cpu))
        {
            DeliverPending(ref cpu);
        }
    }

    [Spec("pvm-readings", "single-step-over-hypercalls")]
    private static void AfterHypercall(ref CpuState cpu) => Delivery.Resume(ref cpu, cpu.Rflags & ~RflagsBits.RF);

    /// <summary>Lets the hypervisor carry an instruction out.</summary>
    /// <returns>False when the fault is the guest's; nothing has changed then.</returns>
    private bool Emulate(ref CpuState cpu)
    {
        ref readonly MicroOp op = ref engine.Last;
        int length = op.Length;
        Attention before = cpu.Attention;
        uint error = cpu.PendingError;
        cpu.Pending = PendingKind.None;
        cpu.Attention &= ~Attention.Stop;
        if (op.Form == Code.Invlpg_m && SyntheticInstructions.IsCpuid(ref cpu))
        {
            SyntheticInstructions.Cpuid<TAbi>(ref cpu, vcpu);
            length = SyntheticInstructions.CpuidBytes.Length;
        }
        else if (!Privileged.TryEmulate<TAbi>(ref cpu, vcpu, in op))
        {
            cpu.Attention = before;
            cpu.Raise(13, error);
            return false;
        }

        if (vcpu.Verdict is not (Verdict.Running or Verdict.Halt))
        {
            return true;
        }

        if (cpu.Pending == PendingKind.None)
        {
            Complete(ref cpu, length);
        }

        if (cpu.Pending != PendingKind.None)
        {
            vcpu.Wake();
        }

        NoteHalt(ref cpu);
        if (vcpu.Verdict == Verdict.Running && cpu.Pending != PendingKind.None)
        {
            DeliverPending(ref cpu);
        }

        return true;
    }

    private void NoteHalt(ref CpuState cpu)
    {
        if (vcpu.Verdict == Verdict.Halt)
        {
            _final = UnderlyingStates.Capture<TAbi>(ref cpu, vcpu);
        }
    }

    /// <summary>An emulated instruction ends as a native one does: RF is cleared, and a single step traps.</summary>
    [Spec("pvm-readings", "single-step-over-emulated-instructions")]
    private static void Complete(ref CpuState cpu, int length)
    {
        cpu.Rip = cpu.InstructionRip + (uint)length;
        if (cpu.Attention != Attention.None)
        {
            Delivery.AfterInstruction(ref cpu);
        }
    }

    /// <summary>After a return: in compatibility mode RIP has 32 bits, or the return faults where it goes.</summary>
    private void CheckTarget(ref CpuState cpu)
    {
        if (vcpu.Verdict == Verdict.Running && cpu.Compatibility && cpu.Rip > uint.MaxValue)
        {
            Deliver(ref cpu, new VectorEvent(EventKind.Fault, 13, 0, null, cpu.Rflags | RflagsBits.RF));
        }
    }

    /// <summary>Makes a vector event of what is pending.</summary>
    [Spec("pvm-readings", "resume-flag-in-frames")]
    private void DeliverPending(ref CpuState cpu)
    {
        _trace?.NotePending(ref cpu);
        byte vector = cpu.PendingVector;
        bool fault = cpu.Pending == PendingKind.Fault;
        ulong? cr2 = fault && vector == 14 ? cpu.PendingCr2 : null;
        if (cr2 is ulong address && IsAgents(ref cpu, address))
        {
            vcpu.End(Verdict.Unsupported, "supervisor code accesses the page of an entry, where targets have their agent");
            return;
        }

        if (vector == 1)
        {
            ControlRegisters.NoteDebugEvent(ref cpu, vcpu, byInstruction: !engine.FetchFailed && engine.Last.Form == Code.Int1);
        }

        Deliver(ref cpu, new VectorEvent(Event.KindOf(vector), vector, Delivery.PushesError(ref cpu) ? cpu.PendingError : null, cr2, Delivery.SavedRflags(ref cpu)));
    }

    /// <summary>Delivers an event by the mode.</summary>
    private void Deliver(ref CpuState cpu, in VectorEvent what)
    {
        _what = what;
        if (vcpu.UserMode)
        {
            TAbi.UserEvent(ref cpu, vcpu, in what);
        }
        else if (UnderlyingStates.HasSupervisorSegments(ref cpu, vcpu))
        {
            TAbi.SupervisorEvent(ref cpu, vcpu, in what);
        }

        Land(ref cpu);
    }

    private bool IsAgents(ref CpuState cpu, ulong address)
    {
        if (vcpu.UserMode || (cpu.PendingError & PageFault.Present) != 0)
        {
            return false;
        }

        foreach (Door door in _doors.AsSpan(0, _supervisorDoors))
        {
            if (address - door.Address < door.Length)
            {
                return true;
            }
        }

        return false;
    }
}
