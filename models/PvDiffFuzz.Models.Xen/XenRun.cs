using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Events;
using PvDiffFuzz.Models.Xen.Privileged;

namespace PvDiffFuzz.Models.Xen;

/// <summary>Runs cases of one kind of guest: the payload on the processor, and Xen whenever something is pending.</summary>
/// <typeparam name="TGuest">The kind of guest.</typeparam>
/// <param name="engine">The processor.</param>
/// <param name="vcpu">The virtual CPU on it.</param>
internal sealed partial class XenRun<TGuest>(X86Engine engine, Vcpu vcpu)
    where TGuest : struct, IXenGuest
{
    private readonly List<Event> _events = [];
    private int _answered;
    private RegisterState? _final;
    private PageLayout? _kernelLayout;
    private PageLayout? _userLayout;

    /// <summary>Runs a case.</summary>
    /// <param name="testCase">A well-formed case of the guest's ABI.</param>
    /// <param name="host">The host's processor.</param>
    /// <param name="trace">Receives the instructions; null when nobody asks.</param>
    public Outcome Run(TestCase testCase, CpuProfile host, Tracer? trace)
    {
        if (!vcpu.Load<TGuest>(testCase, host))
        {
            return Outcome.Unsupported("Xen refuses a descriptor of the case's GDT");
        }

        if (!TGuest.Exists(vcpu.Release))
        {
            return Outcome.Unsupported($"Xen {vcpu.Release.Version} has no guests of {testCase.Abi.Text()}");
        }

        engine.Memory.Load(testCase, testCase.Layout, UserLayoutOf(testCase), privatePage: null);
        SetDoors(testCase);
        _events.Clear();
        _answered = 0;
        _final = null;
        CpuState cpu = engine.Start(testCase.Limits.Instructions, testCase.Registers.Debug);
        cpu.KeysOff = true;
        cpu.SyscallKeepsRegisters = !TGuest.LoadsRcx(vcpu.Release);
        Begin(ref cpu, testCase);
        Drive(ref cpu, testCase, trace);
        SystemState system = vcpu.Verdict <= Verdict.Halt ? vcpu.Capture() : SystemState.Empty;
        engine.ForgetCode(testCase.Code);
        ImmutableArray<MemoryWord> changes = engine.Memory.Unload(testCase);
        return ToOutcome(system, changes);
    }

    /// <summary>Without a user root no user code runs; the pages stay as they were for the case before, since to map others takes long.</summary>
    [ExcludeFromCodeCoverage(Justification = "What it does depends on the case before.")]
    private PageLayout UserLayoutOf(TestCase testCase)
    {
        PageLayout user = testCase.Xen!.UserLayout ?? testCase.Layout;
        if (user.Ranges.IsEmpty)
        {
            user = _userLayout is not null && ReferenceEquals(testCase.Layout, _kernelLayout) ? _userLayout : testCase.Layout;
        }

        (_kernelLayout, _userLayout) = (testCase.Layout, user);
        return user;
    }

    private Outcome ToOutcome(SystemState system, ImmutableArray<MemoryWord> changes) =>
        vcpu.Verdict.ToOutcome(vcpu.Reason, [.. _events], _final, system, changes);

    /// <summary>The state in which a case begins: the guest kernel is simply there, or the payload is entered by HYPERVISOR_iret from the agent.</summary>
    private void Begin(ref CpuState cpu, TestCase testCase)
    {
        RegisterState registers = testCase.Registers;
        vcpu.SelectView<TGuest>();
        if (testCase.Xen!.IretFlags is not ulong flags)
        {
            X86.Delivery.Enter(ref cpu, registers);
            return;
        }

        // The agent: what the return does not load is in place, and Xen has control.
        X86.Delivery.Load(ref cpu, registers);
        cpu.Rip = 0;
        cpu.Selector[Seg.Cs] = TGuest.KernelCode();
        cpu.Selector[Seg.Ss] = TGuest.KernelStack();
        vcpu.Memory.Mask = ulong.MaxValue;
        if (testCase.Start == GuestMode.User && TGuest.SwapsGs())
        {
            ulong kernels = vcpu[SystemRegister.KernelGsBase];
            vcpu[SystemRegister.KernelGsBase] = registers.GsBase;
            cpu.SegmentBase[Seg.Gs] = kernels;
        }

        TGuest.LeaveAgent(ref cpu, vcpu);
        TGuest.Return(ref cpu, vcpu, new ReturnFrame(
            registers.Gpr[0], registers.Gpr[11], registers.Gpr[1], flags, registers.Rip, registers.Cs, registers.Rflags, registers.Gpr[4], registers.Ss));
        Leave(ref cpu);
    }

    private void Drive(ref CpuState cpu, TestCase testCase, Tracer? trace)
    {
        while (vcpu.Verdict == Verdict.Running)
        {
            if (cpu.Pending == PendingKind.None)
            {
                cpu.WaitFaults = (vcpu[SystemRegister.Cr0] & Vcpu.WaitFaults) == Vcpu.WaitFaults;
                engine.Doors = vcpu.KernelMode ? _doors.AsMemory(0, _kernelDoors) : ReadOnlyMemory<Door>.Empty;
                engine.Execute(ref cpu, testCase.Code, trace);
            }

            Handle(ref cpu, trace);
        }
    }

    /// <summary>Something is pending in the processor.</summary>
    private void Handle(ref CpuState cpu, Tracer? trace)
    {
        switch (cpu.Pending)
        {
            case PendingKind.None:
                vcpu.End(Verdict.BudgetSpent);
                return;
            case PendingKind.Door:
                AtDoor(ref cpu);
                return;
            case PendingKind.Unsupported when engine.FetchFailed || engine.Last.Form is not (Code.Sysenter or Code.Syscall):
                vcpu.End(Verdict.Unsupported, $"model.xen has no {(Code)cpu.PendingError}");
                return;
        }

        ulong end = vcpu.Case.Code.End;
        if (vcpu.Case.Start == GuestMode.Supervisor && vcpu.KernelMode && !engine.FetchFailed && cpu.InstructionRip < end && cpu.InstructionRip + engine.Last.Length > end)
        {
            vcpu.End(Verdict.Unsupported, "an instruction of the payload reaches into the jump stub");
            return;
        }

        // Xen accesses the guest's memory in 64-bit mode, whatever the guest runs in.
        vcpu.Memory.Mask = ulong.MaxValue;
        vcpu.Rflags = X86.Delivery.SavedRflags(ref cpu);
        vcpu.Raised = null;
        Dispatch(ref cpu);
        if (vcpu.Raised is RaisedException raised)
        {
            trace?.Note(ref cpu, raised);
        }

        if (vcpu.Verdict == Verdict.Halt)
        {
            _final = X86.Delivery.Capture(ref cpu, vcpu.Rflags);
        }

        Leave(ref cpu);
    }

    private void Dispatch(ref CpuState cpu)
    {
        bool known = !engine.FetchFailed;
        Code form = known ? engine.Last.Form : Code.INVALID;
        ref readonly MicroOp op = ref engine.Last;
        switch (cpu.Pending)
        {
            case PendingKind.SystemCall:
                TGuest.Syscall(ref cpu, vcpu, in op);
                return;
            case PendingKind.Unsupported when form == Code.Sysenter:
                TGuest.Sysenter(ref cpu, vcpu, in op);
                return;
            case PendingKind.Unsupported:
                TGuest.Syscall(ref cpu, vcpu, in op);
                return;
            case PendingKind.Trap when form is Code.Int3 or Code.Into or Code.Int_imm8 && cpu.PendingVector != 1:
                TGuest.Interrupt(ref cpu, vcpu, in op, cpu.PendingVector);
                return;
            case PendingKind.Fault when known && cpu.PendingVector == 13 && form is Code.Int_imm8:
                TGuest.RefusedInterrupt(ref cpu, vcpu, in op, (byte)op.Immediate);
                return;
            case PendingKind.Fault when known && cpu.PendingVector == 13 && cpu.PendingError == 0 && Emulation.TryRun<TGuest>(ref cpu, vcpu, in op):
                return;
            case PendingKind.Fault when known && form == Code.Ud2 && ForcedEmulation.TryRun<TGuest>(ref cpu, vcpu):
                return;
            case PendingKind.Fault when cpu.PendingVector == 14 && IsAgents(cpu.PendingCr2, cpu.PendingError):
                vcpu.End(Verdict.Unsupported, "the guest kernel accesses pages in which targets have their agent");
                return;
            case PendingKind.Fault when cpu.PendingVector == 14 && TGuest.IsXens(cpu.PendingCr2):
                vcpu.End(Verdict.Unsupported, "the guest accesses memory that Xen keeps, of which some can be read");
                return;
            case PendingKind.Fault when known && cpu.PendingVector == 13 && CallGates.IsFarTransfer(form) && TGuest.TryGate(ref cpu, vcpu, in op):
                return;
            case PendingKind.Trap when form == Code.Int1 && cpu.DebugStatus == 0:
                Exceptions.Int1<TGuest>(ref cpu, vcpu);
                return;
            default:
                Exceptions.Deliver<TGuest>(ref cpu, vcpu);
                return;
        }
    }

    /// <summary>Xen goes back to the guest: with an event upcall if one is due, and with the faults of its own return.</summary>
    private void Leave(ref CpuState cpu)
    {
        while (vcpu.Verdict == Verdict.Running)
        {
            Upcalls.DeliverDue<TGuest>(ref cpu, vcpu);
            if (vcpu.Verdict == Verdict.Running && TGuest.TryLeave(ref cpu, vcpu))
            {
                Land(ref cpu);
                return;
            }
        }
    }
}
