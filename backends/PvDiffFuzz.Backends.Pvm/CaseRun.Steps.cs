using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>The start of a case.</content>
internal sealed partial class CaseRun
{
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
        if (warm && !kept)
        {
            await WarmUpAsync().ConfigureAwait(false);
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
    private async ValueTask WarmUpAsync()
    {
        LoadOwnEntries();
        KvmRegs regs = new() { Rip = GuestMap.AgentAddress + AgentCode.WarmReturn, Rflags = RflagsBits.Fixed1 };
        machine.Vcpu.SetRegs(in regs);
        WriteOwnStructure(GuestMap.AgentDataAddress);
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

    /// <summary>Lets events come to the target's own entries, and its own SYSCALL return.</summary>
    private void LoadOwnEntries()
    {
        machine.Vcpu.SetNmiMask(false);
        _state.LoadMsrs(
            (SystemRegister.PvmVcpuStruct, (ulong)machine.Plan.VcpuStruct),
            (SystemRegister.PvmEventEntry, GuestMap.AgentAddress + AgentCode.WarmEntry),
            (SystemRegister.PvmRetuRip, GuestMap.AgentAddress + AgentCode.WarmReturn),
            (SystemRegister.PvmSwitchCr3, _case.System[SystemRegister.PvmSwitchCr3]));
    }

    /// <summary>A context of user mode for the target's own return.</summary>
    /// <param name="rip">Where user mode goes on.</param>
    private void WriteOwnStructure(ulong rip)
    {
        Span<byte> pvcs = machine.Pvcs;
        pvcs.Clear();
        EventReader.SetField(host.Revision, SystemRegister.PvcsUserCs, pvcs, Selectors.UserCode64);
        EventReader.SetField(host.Revision, SystemRegister.PvcsUserSs, pvcs, Selectors.UserData);
        EventReader.SetField(host.Revision, SystemRegister.PvcsEflags, pvcs, RflagsBits.Fixed1);
        EventReader.SetField(host.Revision, SystemRegister.PvcsRip, pvcs, rip);
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
