using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Instructions;

/// <summary>Privileged instructions of supervisor code: the processor refuses them at CPL3, and the hypervisor does for the guest what CPL0 would do.</summary>
/// <remarks>Supervisor mode is 64-bit supervisor mode of x86 as far as the document does not change it. In user mode the refusal is an event.</remarks>
internal static class Privileged
{
    /// <summary>Carries out an instruction that raised #GP(0).</summary>
    /// <returns>False when it is none of these, so that the #GP is the guest's.</returns>
    [Spec("PVM rfc1", "PVM modes and states")]
    public static bool TryEmulate<TAbi>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TAbi : struct, IPvmAbi
    {
        switch (op.Form.Mnemonic())
        {
            case Mnemonic.Cli:
                SetInterruptFlag<TAbi>(vcpu, enabled: false);
                return true;
            case Mnemonic.Sti:
                SetInterruptFlag<TAbi>(vcpu, enabled: true);
                return true;
            case Mnemonic.Hlt:
                Halt<TAbi>(vcpu);
                return true;
            case Mnemonic.Mov:
                return Move<TAbi>(ref cpu, vcpu, in op);
            case Mnemonic.Rdmsr:
                ReadMsr<TAbi>(ref cpu, vcpu);
                return true;
            case Mnemonic.Wrmsr:
                WriteMsr<TAbi>(ref cpu, vcpu);
                return true;
            case Mnemonic.Clts:
                ControlRegisters.ClearTaskSwitched(vcpu);
                return true;
            case Mnemonic.Lmsw:
                LoadMachineStatus<TAbi>(ref cpu, vcpu, in op);
                return true;
            case Mnemonic.Invlpg or Mnemonic.Invd or Mnemonic.Wbinvd or Mnemonic.Wbnoinvd:
                Flush();
                return true;
            case Mnemonic.Lgdt or Mnemonic.Lidt:
                LoadTable(ref cpu, vcpu, in op);
                return true;
            case Mnemonic.Sgdt or Mnemonic.Sidt:
                StoreTable(ref cpu, vcpu, in op);
                return true;
            case Mnemonic.Smsw:
                StoreMachineStatus(ref cpu, vcpu, in op);
                return true;
            case Mnemonic.Lldt or Mnemonic.Ltr:
                LoadSystemSegment(ref cpu, vcpu, in op);
                return true;
            case Mnemonic.Sldt or Mnemonic.Str or Mnemonic.Rdpmc or Mnemonic.Xsetbv:
                vcpu.End(Verdict.Unsupported, "the hypervisor decides what this instruction does, and PVM does not say");
                return true;
            case Mnemonic.In or Mnemonic.Out or Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd or Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd:
                AccessPort(vcpu);
                return true;
            default:
                return false;
        }
    }

    /// <summary>CLI and STI change the structure's interrupt flag. What waits is taken right after STI.</summary>
    [Spec("PVM rfc1", "PVCS::event_flags")]
    [Spec("pvm-readings", "cli-sti-popf")]
    private static void SetInterruptFlag<TAbi>(Vcpu vcpu, bool enabled)
        where TAbi : struct, IPvmAbi
    {
        if (vcpu.HasPvcs)
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            ulong flags = pvcs[SystemRegister.PvcsEventFlags] & ~Vcpu.InterruptFlag;
            pvcs[SystemRegister.PvcsEventFlags] = flags | (enabled ? Vcpu.InterruptFlag : 0);
        }

        vcpu.LooksOutside = enabled;
    }

    /// <summary>Halts until something is taken, which the interrupt flag decides as anywhere.</summary>
    [Spec("SDM", "vol.2A HLT")]
    [Spec("pvm-readings", "hlt")]
    private static void Halt<TAbi>(Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (Injections.CanTake<TAbi>(vcpu))
        {
            vcpu.LooksOutside = true;
        }
        else
        {
            vcpu.End(Verdict.Halt, "halted");
        }
    }

    /// <summary>MOV to and from control and debug registers.</summary>
    private static bool Move<TAbi>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TAbi : struct, IPvmAbi
    {
        ulong value;
        switch (op.Form)
        {
            case Code.Mov_r64_cr:
                if (ControlRegisters.TryRead(ref cpu, vcpu, op.Source, out value))
                {
                    cpu.Write(op.Destination, value);
                }

                return true;
            case Code.Mov_cr_r64:
                ControlRegisters.Write<TAbi>(ref cpu, vcpu, op.Destination, cpu.Read<ulong>(op.Source));
                return true;
            case Code.Mov_r64_dr:
                if (ControlRegisters.TryReadDebug(ref cpu, vcpu, op.Source, out value))
                {
                    cpu.Write(op.Destination, value);
                }

                return true;
            case Code.Mov_dr_r64:
                ControlRegisters.WriteDebug(ref cpu, vcpu, op.Destination, cpu.Read<ulong>(op.Source));
                return true;
            default:
                return false;
        }
    }

    /// <summary>ECX names the MSR; EDX:EAX gets it, upper halves cleared. One that there is not is #GP(0).</summary>
    [Spec("SDM", "vol.2B RDMSR")]
    private static void ReadMsr<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        switch (Msrs.Read<TAbi>(ref cpu, vcpu, cpu.Read<uint>(Gpr.Rcx), out ulong value))
        {
            case MsrAccess.Done:
                cpu.Write(Gpr.Rax, (uint)value);
                cpu.Write(Gpr.Rdx, (uint)(value >> 32));
                break;
            case MsrAccess.Refused:
                cpu.Raise(13);
                break;
        }
    }

    [Spec("SDM", "vol.2C WRMSR")]
    private static void WriteMsr<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        ulong value = cpu.Read<uint>(Gpr.Rax) | ((ulong)cpu.Read<uint>(Gpr.Rdx) << 32);
        if (Msrs.Write<TAbi>(ref cpu, vcpu, cpu.Read<uint>(Gpr.Rcx), value) == MsrAccess.Refused)
        {
            cpu.Raise(13);
        }
    }

    private static void LoadMachineStatus<TAbi>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TAbi : struct, IPvmAbi
    {
        ushort value = 0;
        if ((op.Flags & OpFlags.Memory) == 0)
        {
            value = cpu.Read<ushort>(op.Destination);
        }
        else if (!cpu.Load(in op, out value))
        {
            return;
        }

        ControlRegisters.LoadMachineStatus<TAbi>(ref cpu, vcpu, value);
    }

    /// <summary>Caches and TLBs do not show.</summary>
    [Spec("PVM rfc1", "TLB")]
    private static void Flush()
    {
    }

    /// <summary>GDTR and IDTR keep what is written and have no effect.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    private static void LoadTable(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        if (!cpu.Load(in op, out ushort limit) || !cpu.LoadAt(cpu.LinearAddress(in op, sizeof(ushort)), op.Segment, out ulong start))
        {
            return;
        }

        if (!cpu.Canonical(start))
        {
            cpu.Raise(13);
        }
        else if (op.Form.Mnemonic() == Mnemonic.Lgdt)
        {
            vcpu.Gdtr = (limit, start);
        }
        else
        {
            vcpu.Idtr = (limit, start);
        }
    }

    /// <summary>Refused at CPL3 where UMIP is in effect: supervisor code gets what it wrote last.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("PVM rfc1", "SGDT/SIDT/SLDT/STR/SMSW")]
    [Spec("pvm-readings", "store-tables-under-umip")]
    private static void StoreTable(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        if ((op.Form.Mnemonic() == Mnemonic.Sgdt ? vcpu.Gdtr : vcpu.Idtr) is not (ushort limit, ulong start))
        {
            vcpu.End(Verdict.Unsupported, "supervisor code stores a descriptor-table register that it has not written");
            return;
        }

        ulong at = cpu.LinearAddress(in op);
        ulong next = cpu.LinearAddress(in op, sizeof(ushort));
        if (cpu.CheckStore(at, sizeof(ushort), op.Segment) && cpu.CheckStore(next, sizeof(ulong), op.Segment))
        {
            cpu.StoreAt(at, op.Segment, limit);
            cpu.StoreAt(next, op.Segment, start);
        }
    }

    /// <summary>Refused at CPL3 where UMIP is in effect: supervisor code gets its CR0.</summary>
    [Spec("PVM rfc1", "SGDT/SIDT/SLDT/STR/SMSW")]
    [Spec("pvm-readings", "store-tables-under-umip")]
    private static void StoreMachineStatus(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        ulong value = vcpu[SystemRegister.Cr0];
        if ((op.Flags & OpFlags.Memory) != 0)
        {
            cpu.Store(in op, (ushort)value);
            return;
        }

        switch (op.Form)
        {
            case Code.Smsw_rm16:
                cpu.Write(op.Destination, (ushort)value);
                break;
            case Code.Smsw_r32m16:
                cpu.Write(op.Destination, (uint)value);
                break;
            default:
                cpu.Write(op.Destination, value);
                break;
        }
    }

    /// <summary>LDTR and TR are ignored. A null LDT selector does nothing; LTR refuses one with #GP(0).</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("pvm-readings", "ldtr-and-tr")]
    private static void LoadSystemSegment(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        ushort selector = 0;
        if ((op.Flags & OpFlags.Memory) == 0)
        {
            selector = cpu.Read<ushort>(op.Destination);
        }
        else if (!cpu.Load(in op, out selector))
        {
            return;
        }

        if ((selector & 0xfffc) != 0)
        {
            vcpu.End(Verdict.Unsupported, "LLDT or LTR with a selector; PVM ignores the registers and does not say what loading them does");
        }
        else if (op.Form.Mnemonic() == Mnemonic.Ltr)
        {
            cpu.Raise(13);
        }
    }

    /// <summary>Ports belong to whoever runs the guest.</summary>
    [Spec("PVM rfc1", "Underlying states")]
    [Spec("pvm-readings", "port-io")]
    private static void AccessPort(Vcpu vcpu) => vcpu.End(Verdict.Unsupported, "supervisor code accesses a port, and what is behind it is no part of the case");
}
