using System.Buffers.Binary;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>The start of a case, and what the supervisor does after an event.</content>
internal sealed partial class CaseRun
{
    private const string TakenAway = "the payload took away the SYSCALL by which responses return";

    private bool _inCall;
    private bool _atEnd;
    private bool _windowAsked;
    private (ulong Cr3, ulong SwitchCr3)? _warmFor;

    /// <summary>Loads everything.</summary>
    /// <returns>False when KVM does not take a value; the reason says which call.</returns>
    private async ValueTask<bool> LoadAsync()
    {
        _loading = true;
        _steady = BatchRules.IsSteady(_case);
        bool user = _case.Start == GuestMode.User;
        SystemState system = _case.System;
        KvmRegs regs = Registers(_case.Registers);
        if (user)
        {
            regs.Rip = system[SystemRegister.PvmRetuRip];
            regs.Rsp = host.Revision == Abi.PvmRfc1 ? system[SystemRegister.PvmSupervisorRsp] : regs.Rsp;
            regs.Rflags = RflagsBits.Fixed1 | (system[SystemRegister.PvmVcpuStruct] == 0 ? 0 : system[SystemRegister.PvcsEventFlags] & RflagsBits.IF);
        }

        _inCall = false;
        machine.Vcpu.WantsInterruptWindow = false;
        if (!await LoadProcessorAsync(regs, user ? system[SystemRegister.KernelGsBase] : _case.Registers.GsBase).ConfigureAwait(false))
        {
            return false;
        }

        // Bit 9 of RFLAGS goes into the structure's flags too, so the structure is written behind it.
        WriteStructure();
        if (_case.Inject is Injection injection)
        {
            Pend(injection, atReturn: user);
            if (!user && (regs.Rflags & RflagsBits.IF) != 0)
            {
                InjectHighest();
            }
        }

        return true;
    }

    /// <summary>Loads what ioctls load.</summary>
    /// <exception cref="KvmException">KVM does not take a value.</exception>
    private async ValueTask<bool> LoadProcessorAsync(KvmRegs regs, ulong gsBase)
    {
        SystemState system = _case.System;
        bool warm = _case.Pvm!.Path == HostPath.Warm;

        // A case that left control registers and roots alone leaves the roots warm for the next one.
        bool kept = _state.LoadControl(_case, gsBase, freshRoots: !warm) && _warmFor == (system[SystemRegister.Cr3], system[SystemRegister.PvmSwitchCr3]);
        if (warm && !kept && machine.Plan.EventEntry is ulong entry)
        {
            await WarmUpAsync(entry).ConfigureAwait(false);
            _state.ForgetAllButDebugRegisters();
            _state.LoadControl(_case, gsBase, freshRoots: false);
        }

        _warmFor = warm && _steady ? (system[SystemRegister.Cr3], system[SystemRegister.PvmSwitchCr3]) : null;
        _state.LoadMsrs(_case, gsBase);
        if (_descriptorsLeft)
        {
            await ForgetDescriptorsAsync().ConfigureAwait(false);
        }

        if (!_state.LoadDebugRegisters(_case))
        {
            _reason = "KVM refuses these debug registers";
            return false;
        }

        machine.Vcpu.SetNmiMask(system[SystemRegister.NmiMasked] != 0);
        if (_windowAsked)
        {
            // KVM forgets that it waits for an interrupt window when the guest enables interrupts.
            machine.Vcpu.SetRegs(regs with { Rflags = RflagsBits.Fixed1 });
            machine.Vcpu.SetRegs(regs with { Rflags = RflagsBits.Fixed1 | RflagsBits.IF });
            _windowAsked = false;
        }

        machine.Vcpu.SetRegs(in regs);
        return true;
    }

    private void WriteStructure()
    {
        machine.Memory.Slice(machine.Plan.VcpuStruct, PageLayout.PageSize).Clear();
        Span<byte> image = stackalloc byte[PvcsLayout.Size];
        image.Clear();
        StructureImage.Write(_case, image);
        machine.Store(machine.Plan.VcpuStruct, image);
    }

    /// <summary>Empties the descriptors for thread-local storage that an earlier case may have loaded: no ioctl does.</summary>
    private async ValueTask ForgetDescriptorsAsync()
    {
        const ulong loadTls = 0x1708_8209;
        KvmRegs regs = new() { Rax = loadTls, Rip = GuestMap.AgentAddress + AgentCode.Call, Rflags = RflagsBits.Fixed1 };
        machine.Vcpu.SetRegs(in regs);
        Stop stop = await WaitAsync(returning: null, RunReads.Registers).ConfigureAwait(false);
        _loading = true;
        if (stop != Stop.Port || machine.Vcpu.IoPort != (ushort)AgentPort.Called)
        {
            throw new KvmException($"the descriptors cannot be emptied, {machine.Vcpu.DescribeExit()}: KVM_RUN", Interop.LinuxAbi.EINVAL);
        }

        _descriptorsLeft = false;
    }

    /// <summary>A return to user mode and a fault back, so that the host has prepared both roots.</summary>
    private async ValueTask WarmUpAsync(ulong entry)
    {
        machine.Vcpu.SetNmiMask(false);
        _state.LoadMsrs(
            (SystemRegister.PvmVcpuStruct, (ulong)machine.Plan.VcpuStruct),
            (SystemRegister.PvmEventEntry, entry),
            (SystemRegister.PvmRetuRip, GuestMap.AgentAddress + AgentCode.WarmReturn),
            (SystemRegister.PvmSwitchCr3, _case.System[SystemRegister.PvmSwitchCr3]));
        KvmRegs regs = new() { Rip = GuestMap.AgentAddress + AgentCode.WarmReturn, Rflags = RflagsBits.Fixed1 };
        machine.Vcpu.SetRegs(in regs);
        WriteWarmStructure();
        Stop stop = await WaitAsync(returning: null, RunReads.Registers).ConfigureAwait(false);
        if (stop == Stop.Crash)
        {
            // Segments of the last case; see RunAsync. They are replaced by now.
            machine.Vcpu.SetRegs(in regs);
            stop = await WaitAsync(returning: null, RunReads.Registers).ConfigureAwait(false);
        }

        _loading = true;
        if (stop != Stop.Port || machine.Vcpu.IoPort != (ushort)AgentPort.UserEntry)
        {
            throw new KvmException($"the way to user mode and back ended with {machine.Vcpu.DescribeExit()}: KVM_RUN", Interop.LinuxAbi.EINVAL);
        }

        _crashed = false;
    }

    private void WriteWarmStructure()
    {
        Span<byte> pvcs = machine.Pvcs;
        pvcs.Clear();
        EventReader.SetField(host.Revision, SystemRegister.PvcsUserCs, pvcs, Selectors.UserCode64);
        EventReader.SetField(host.Revision, SystemRegister.PvcsUserSs, pvcs, Selectors.UserData);
        EventReader.SetField(host.Revision, SystemRegister.PvcsEflags, pvcs, RflagsBits.Fixed1);
        EventReader.SetField(host.Revision, SystemRegister.PvcsRip, pvcs, GuestMap.AgentDataAddress);
    }

    /// <summary>Makes something pending.</summary>
    /// <param name="injection">What.</param>
    /// <param name="atReturn">True when the guest is about to return: it comes behind the return, which NMIs wait for by being masked until then.</param>
    private void Pend(Injection injection, bool atReturn)
    {
        if (injection.Kind == InjectionKind.Nmi)
        {
            if (atReturn)
            {
                machine.Vcpu.SetNmiMask(true);
            }

            machine.Vcpu.Nmi();
        }
        else
        {
            _waiting.Add(injection.Vector);
            machine.Vcpu.WantsInterruptWindow = true;
            _windowAsked = true;
        }
    }

    /// <summary>Calls, patches, and the way back.</summary>
    /// <param name="what">The event.</param>
    /// <param name="response">What to do.</param>
    /// <returns>How the case ended meanwhile; null when it goes on, to the instruction at <see cref="_returning"/>.</returns>
    private async ValueTask<Stop?> AnswerAsync(Event what, Response response)
    {
        _returning = null;
        KvmRegs saved = _regs;
        foreach (Hypercall call in response.Hypercalls)
        {
            if (await CallAsync(what, call, saved).ConfigureAwait(false) is Stop stop)
            {
                return stop;
            }
        }

        _regs = saved with { Rflags = _regs.Rflags };
        return response.Return switch
        {
            ReturnKind.Eretu => ReturnToUser(response),
            ReturnKind.Erets => ReturnToSupervisor(what, response),
            _ => ReturnByInterruptReturn(response),
        };
    }

    /// <summary>Makes a hypercall, which is an event of its own.</summary>
    private async ValueTask<Stop?> CallAsync(Event what, Hypercall call, KvmRegs saved)
    {
        _regs = saved with { Rax = call.Number, Rip = GuestMap.AgentAddress + AgentCode.Call, Rflags = _regs.Rflags };
        _regs.Rbx = call.Arguments.Length > 0 ? call.Arguments[0] : saved.Rbx;
        _regs.R10 = call.Arguments.Length > 1 ? call.Arguments[1] : saved.R10;
        _regs.Rdx = call.Arguments.Length > 2 ? call.Arguments[2] : saved.Rdx;
        machine.Vcpu.SetRegs(in _regs);
        Stop stop = await WaitAsync(returning: null, RunReads.All).ConfigureAwait(false);
        if (stop is not (Stop.Port or Stop.Halt))
        {
            return stop;
        }

        ReadRegisters();
        if (stop == Stop.Port && machine.Vcpu.IoPort != (ushort)AgentPort.Called)
        {
            _reason = "a hypercall of a response lets something in while the agent runs";
            return Stop.Unsupported;
        }

        _events.Add(new Event(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, Capture(what.Registers.Rip)));
        _inCall = stop == Stop.Halt;
        return stop == Stop.Halt ? stop : null;
    }

    private Stop? ReturnToUser(Response response)
    {
        bool ready = CanReturnBy(SystemRegister.PvmRetuRip);
        foreach ((Register register, ulong value) in response.Patches)
        {
            if (StructureImage.FieldOf(host.Revision, register) is SystemRegister place)
            {
                EventReader.SetField(host.Revision, place, machine.Pvcs, value);
            }
            else
            {
                Patch(register, value);
            }
        }

        return ready ? ReturnBy(SystemRegister.PvmRetuRip, response) : Stop.Unsupported;
    }

    /// <summary>By the frame that the event pushed, or by one that the agent makes of the structure.</summary>
    private Stop? ReturnToSupervisor(Event what, Response response)
    {
        bool ready = CanReturnBy(SystemRegister.PvmRetsRip);
        bool pushed = what.Entry == EntryPoint.PvmSupervisor;
        if (!pushed)
        {
            ReadOnlySpan<SystemRegister> fields =
            [
                SystemRegister.PvcsEventErrcode, SystemRegister.PvcsRip, SystemRegister.PvcsUserCs, SystemRegister.PvcsEflags, SystemRegister.PvcsRsp, SystemRegister.PvcsUserSs,
                SystemRegister.PvcsRcx, SystemRegister.PvcsR11,
            ];
            for (int i = 0; i < fields.Length; i++)
            {
                WriteFrame(i, EventReader.Field(host.Revision, fields[i], machine.Pvcs));
            }
        }

        foreach ((Register register, ulong value) in response.Patches)
        {
            int slot = register switch
            {
                Register.Rip => 1,
                Register.Cs => 2,
                Register.Rflags => 3,
                Register.Rsp => 4,
                Register.Ss => 5,
                Register.Rcx => 6,
                Register.R11 => 7,
                _ => -1,
            };
            if (slot < 0)
            {
                Patch(register, value);
            }
            else if (pushed)
            {
                WriteLinear(_regs.Rsp + ((ulong)slot * sizeof(ulong)), value);
            }
            else
            {
                WriteFrame(slot, value);
            }
        }

        _regs.Rsp = pushed ? _regs.Rsp : GuestMap.AgentDataAddress;
        return ready ? ReturnBy(SystemRegister.PvmRetsRip, response) : Stop.Unsupported;
    }

    /// <summary>By IRETQ at CPL3, from a frame that the agent makes of the structure and of RSP.</summary>
    private Stop? ReturnByInterruptReturn(Response response)
    {
        const int rip = 0, cs = 1, rflags = 2, rsp = 3, ss = 4;
        _returning = GuestMap.AgentAddress + AgentCode.InterruptReturn;
        WriteFrame(rip, EventReader.Field(host.Revision, SystemRegister.PvcsRip, machine.Pvcs));
        WriteFrame(cs, Selectors.UserCode64);
        WriteFrame(rflags, EventReader.Field(host.Revision, SystemRegister.PvcsEflags, machine.Pvcs));
        WriteFrame(ss, Selectors.UserData);
        _regs.Rcx = EventReader.Field(host.Revision, SystemRegister.PvcsRcx, machine.Pvcs);
        _regs.R11 = EventReader.Field(host.Revision, SystemRegister.PvcsR11, machine.Pvcs);
        foreach ((Register register, ulong value) in response.Patches)
        {
            int slot = register switch
            {
                Register.Rip => rip,
                Register.Cs => cs,
                Register.Rflags => rflags,
                Register.Ss => ss,
                _ => -1,
            };
            if (slot >= 0)
            {
                WriteFrame(slot, value);
            }
            else
            {
                Patch(register, value);
            }
        }

        WriteFrame(rsp, _regs.Rsp);
        EventReader.SetField(host.Revision, SystemRegister.PvcsEventVector, machine.Pvcs, 0);
        Go(response, GuestMap.AgentAddress + AgentCode.InterruptReturn, GuestMap.AgentDataAddress);
        return null;
    }

    /// <summary>True when the SYSCALL that the case has for a return is still there. Asked before anything is patched: its MSR has just been read along where the case could have changed it.</summary>
    private bool CanReturnBy(SystemRegister register)
    {
        ulong address = _case.System[register];
        if (_steady || _state.ReadMsr(register) == address)
        {
            return true;
        }

        _reason = TakenAway;
        return false;
    }

    /// <summary>Goes back by the SYSCALL that the case has for it; the payload or a patch of the frame may have overwritten the instruction.</summary>
    private Stop? ReturnBy(SystemRegister register, Response response)
    {
        ulong address = _case.System[register];
        _returning = address;
        Span<byte> bytes = stackalloc byte[2];
        ReadLinear(address, bytes);
        if (bytes is not [0x0f, 0x05])
        {
            _reason = TakenAway;
            return Stop.Unsupported;
        }

        Go(response, address, _regs.Rsp);
        return null;
    }

    private void Go(Response response, ulong rip, ulong rsp)
    {
        _regs.Rip = rip;
        _regs.Rsp = rsp;
        machine.Vcpu.SetRegs(in _regs);
        if (response.Inject is Injection injection)
        {
            Pend(injection, atReturn: true);
        }
    }

    private void WriteFrame(int slot, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(machine.Memory[(GuestMap.AgentData + (slot * sizeof(ulong)))..], value);

    /// <summary>Changes a register in place.</summary>
    private void Patch(Register register, ulong value)
    {
        switch (register)
        {
            case <= Register.R15:
                KvmRegs regs = _regs;
                Set(ref regs, register, value);
                _regs = regs;
                break;
            case Register.FsBase or Register.GsBase:
                machine.Vcpu.SetMsrs(new KvmMsrEntry { Index = register == Register.FsBase ? PvmMsrs.FsBase : PvmMsrs.GsBase, Data = value });
                break;
            case Register.Ds or Register.Es or Register.Fs or Register.Gs:
                PatchSelector(register, (ushort)value);
                break;
        }
    }

    /// <summary>Loading segments makes KVM set STAR by CS, so it is put back.</summary>
    private void PatchSelector(Register register, ushort value)
    {
        ulong star = _state.ReadMsr(SystemRegister.Star);
        machine.Vcpu.GetSregs(out KvmSregs sregs);
        switch (register)
        {
            case Register.Ds:
                sregs.Ds.Selector = value;
                break;
            case Register.Es:
                sregs.Es.Selector = value;
                break;
            case Register.Fs:
                sregs.Fs.Selector = value;
                break;
            default:
                sregs.Gs.Selector = value;
                break;
        }

        machine.Vcpu.SetSregs(in sregs);
        _state.LoadMsrs((SystemRegister.Star, star));
    }

    private static KvmRegs Registers(RegisterState state)
    {
        KvmRegs regs = new() { Rip = state.Rip, Rflags = state.Rflags };
        for (int i = 0; i < GprFile.Count; i++)
        {
            Set(ref regs, (Register)i, state.Gpr[i]);
        }

        return regs;
    }

    private static void Set(ref KvmRegs regs, Register register, ulong value)
    {
        ref ulong place = ref regs.Rax;
        switch (register)
        {
            case Register.Rcx: place = ref regs.Rcx; break;
            case Register.Rdx: place = ref regs.Rdx; break;
            case Register.Rbx: place = ref regs.Rbx; break;
            case Register.Rsp: place = ref regs.Rsp; break;
            case Register.Rbp: place = ref regs.Rbp; break;
            case Register.Rsi: place = ref regs.Rsi; break;
            case Register.Rdi: place = ref regs.Rdi; break;
            case Register.R8: place = ref regs.R8; break;
            case Register.R9: place = ref regs.R9; break;
            case Register.R10: place = ref regs.R10; break;
            case Register.R11: place = ref regs.R11; break;
            case Register.R12: place = ref regs.R12; break;
            case Register.R13: place = ref regs.R13; break;
            case Register.R14: place = ref regs.R14; break;
            case Register.R15: place = ref regs.R15; break;
        }

        place = value;
    }
}
