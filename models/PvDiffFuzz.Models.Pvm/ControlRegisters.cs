using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>CR0, CR2, CR3, CR4, CR8 and the debug registers as supervisor code reads and writes them.</summary>
internal static class ControlRegisters
{
    /// <summary>CR4.DE: MOV DR4 and MOV DR5 are #UD.</summary>
    private const ulong Cr4De = 1UL << 3;

    private const ulong Cr4Pae = 1UL << 5;
    private const ulong Cr4FsGsBase = 1UL << 16;
    private const ulong Cr4Smep = 1UL << 20;
    private const ulong Cr4Smap = 1UL << 21;
    private const ulong Cr4Pke = 1UL << 22;
    private const ulong Cr4Pks = 1UL << 24;
    private const ulong Cr4Vme = 1;
    private const ulong Cr4Pvi = 2;

    /// <summary>OSFXSR, OSXMMEXCPT, UMIP and OSXSAVE.</summary>
    private const ulong Cr4Host = 0x4_0e00;

    private const ulong Cr4La57 = 1UL << 12;
    private const ulong Cr4Pcide = 1UL << 17;

    /// <summary>Bits of CR4 that no processor has, and VMXE and SMXE, whose instructions a guest does not have.</summary>
    private const ulong Cr4Absent = 0xffff_fffe_ec00_e000;

    /// <summary>KL, CET, UINTR, LAM_SUP and FRED: whether a guest has them is for its hypervisor to say.</summary>
    private const ulong Cr4Optional = 0x1_1288_0000;

    /// <summary>Reads a control register.</summary>
    /// <returns>False after raising a fault or ending the run.</returns>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    public static bool TryRead(ref CpuState cpu, Vcpu vcpu, int number, out ulong value)
    {
        value = 0;
        SystemRegister? register = number switch
        {
            0 => SystemRegister.Cr0,
            2 => SystemRegister.Cr2,
            3 => SystemRegister.Cr3,
            4 => SystemRegister.Cr4,
            8 => SystemRegister.Cr8,
            _ => null,
        };
        if (register is not SystemRegister found)
        {
            cpu.Raise(6);
            return false;
        }

        if (!vcpu.Knows(found))
        {
            vcpu.End(Verdict.Unsupported, "supervisor code reads a control register that the case does not state");
            return false;
        }

        value = vcpu[found];
        return true;
    }

    /// <summary>Writes a control register.</summary>
    public static void Write<TAbi>(ref CpuState cpu, Vcpu vcpu, int number, ulong value)
        where TAbi : struct, IPvmAbi
    {
        switch (number)
        {
            case 0:
                WriteCr0<TAbi>(ref cpu, vcpu, value);
                break;
            case 2:
                vcpu[SystemRegister.Cr2] = value;
                break;
            case 3:
                WriteCr3<TAbi>(ref cpu, vcpu, value);
                break;
            case 4:
                WriteCr4<TAbi>(ref cpu, vcpu, value);
                break;
            case 8:
                WriteCr8(ref cpu, vcpu, value);
                break;
            default:
                cpu.Raise(6);
                break;
        }
    }

    /// <summary>CR0 has one value.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("pvm-readings", "fixed-bits")]
    public static void WriteCr0<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong value)
        where TAbi : struct, IPvmAbi
    {
        if (TAbi.AllowsCr0(value))
        {
            vcpu[SystemRegister.Cr0] = value;
        }
        else
        {
            cpu.Raise(13);
        }
    }

    /// <summary>LMSW changes PE, MP, EM and TS, and cannot clear PE.</summary>
    [Spec("SDM", "vol.2A LMSW")]
    public static void LoadMachineStatus<TAbi>(ref CpuState cpu, Vcpu vcpu, ushort value)
        where TAbi : struct, IPvmAbi
    {
        ulong now = vcpu[SystemRegister.Cr0];
        WriteCr0<TAbi>(ref cpu, vcpu, (now & ~0xeUL) | (value & 0xfUL));
    }

    /// <summary>CLTS clears TS.</summary>
    [Spec("SDM", "vol.2A CLTS")]
    public static void ClearTaskSwitched(Vcpu vcpu) => vcpu[SystemRegister.Cr0] &= ~8UL;

    /// <summary>A root that the case has, or an end. Nothing of what a TLB would keep can be seen; bit 63, which asks to keep it, is reserved unless CR4.PCIDE is set.</summary>
    [Spec("PVM rfc1", "Paging")]
    [Spec("SDM", "vol.2B MOV (control registers)")]
    private static void WriteCr3<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong value)
        where TAbi : struct, IPvmAbi
    {
        const ulong noFlush = 1UL << 63;
        const ulong reserved = 0x7ff0_0000_0000_0000;
        bool mayKeep = (vcpu[SystemRegister.Cr4] & Cr4Pcide) != 0;
        if ((value & (mayKeep ? reserved : reserved | noFlush)) != 0)
        {
            cpu.Raise(13);
            return;
        }

        vcpu[SystemRegister.Cr3] = value & ~noFlush;
        vcpu.Root = vcpu.RootOf(value, switching: false);
        vcpu.SelectView(TAbi.SupervisorRights);
    }

    /// <summary>In IA-32e mode LA57 stays as it is, and PCIDE can be set only while the lower twelve bits of CR3 are 0.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("SDM", "vol.2B MOV (control registers)")]
    [Spec("pvm-readings", "fixed-bits")]
    private static void WriteCr4<TAbi>(ref CpuState cpu, Vcpu vcpu, ulong value)
        where TAbi : struct, IPvmAbi
    {
        const ulong processContext = 0xfff;
        ulong now = vcpu.Knows(SystemRegister.Cr4) ? vcpu[SystemRegister.Cr4] : value;
        bool contextIsInUse = (value & ~now & Cr4Pcide) != 0 && (vcpu[SystemRegister.Cr3] & processContext) != 0;
        if ((value & Cr4Absent) != 0 || ((value ^ now) & Cr4La57) != 0 || contextIsInUse || !TAbi.AllowsCr4(value, now) || ((value & Cr4Pke) != 0 && !cpu.Profile.Has("PKU")))
        {
            cpu.Raise(13);
        }
        else if (((value ^ now) & Cr4Optional) != 0)
        {
            vcpu.End(Verdict.Unsupported, "supervisor code changes a bit of CR4 that some hypervisors have and others do not");
        }
        else
        {
            vcpu[SystemRegister.Cr4] = value;
            ProtectionKeys.Enable(ref cpu, vcpu, user: false);
            Delivery.SetMode(ref cpu);
        }
    }

    /// <summary>VME and PVI are 0, PAE and FSGSBASE 1, and what the host decides stays. SMEP and SMAP cannot be set, and PKS only together with PKE.</summary>
    /// <param name="value">What is written.</param>
    /// <param name="now">What is there.</param>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("PVM rfc1", "Paging")]
    [Spec("PVM rfc1", "Protection Keys")]
    [Spec("PVM rfc1", "SMAP")]
    [Spec("pvm-readings", "pke-and-the-host")]
    public static bool AllowsCr4(ulong value, ulong now) =>
        ((value ^ now) & Cr4Host) == 0 && (value & (Cr4Vme | Cr4Pvi | Cr4Smep | Cr4Smap)) == 0 && (value & (Cr4Pae | Cr4FsGsBase)) == (Cr4Pae | Cr4FsGsBase) && (value & (Cr4Pks | Cr4Pke)) != Cr4Pks;

    /// <summary>PAE is 1 and SMAP cannot be set; SMEP and FSGSBASE can be either.</summary>
    [Spec("PVM 612", "Control registers and MSRs")]
    public static bool AllowsCr4Of612(ulong value) => (value & (Cr4Vme | Cr4Pvi | Cr4Smap)) == 0 && (value & Cr4Pae) != 0;

    /// <summary>The task priority: four bits. Which interrupts come is not for it to say here.</summary>
    [Spec("pvm-readings", "task-priority")]
    private static void WriteCr8(ref CpuState cpu, Vcpu vcpu, ulong value)
    {
        if (value > 15)
        {
            cpu.Raise(13);
        }
        else
        {
            vcpu[SystemRegister.Cr8] = value;
        }
    }

    /// <summary>Reads a debug register.</summary>
    /// <returns>False after raising a fault or ending the run.</returns>
    [Spec("SDM", "vol.2B MOV (debug registers)")]
    public static bool TryReadDebug(ref CpuState cpu, Vcpu vcpu, int number, out ulong value)
    {
        value = 0;
        if (!DebugNumber(ref cpu, vcpu, ref number))
        {
            return false;
        }

        if (number == 6 && !vcpu.Knows(SystemRegister.Dr6))
        {
            vcpu.End(Verdict.Unsupported, "DR6 after a #DB for which there was more than one reason");
            return false;
        }

        value = number switch
        {
            0 => vcpu.Debug.Dr0,
            1 => vcpu.Debug.Dr1,
            2 => vcpu.Debug.Dr2,
            3 => vcpu.Debug.Dr3,
            6 => vcpu[SystemRegister.Dr6],
            _ => vcpu.Debug.Dr7,
        };
        return true;
    }

    /// <summary>Writes a debug register. DR6 and DR7 have fixed bits; their upper halves must be 0.</summary>
    [Spec("SDM", "vol.2B MOV (debug registers); vol.3B 17.2.3 Debug Status Register (DR6); 17.2.4 Debug Control Register (DR7)")]
    public static void WriteDebug(ref CpuState cpu, Vcpu vcpu, int number, ulong value)
    {
        const ulong statusWritable = 0xe00f;
        const ulong controlWritable = 0xffff_0bff;
        const ulong generalDetect = 0x2000;
        if (!DebugNumber(ref cpu, vcpu, ref number))
        {
            return;
        }

        if (number >= 6 && value > uint.MaxValue)
        {
            cpu.Raise(13);
            return;
        }

        DebugRegisters debug = vcpu.Debug;
        switch (number)
        {
            case 6:
                vcpu[SystemRegister.Dr6] = (value & statusWritable) | UnderlyingStates.ResetDr6;
                return;
            case 7 when (value & generalDetect) != 0:
                vcpu.End(Verdict.Unsupported, "DR7.GD, by which accesses to debug registers trap");
                return;
            case 7:
                vcpu[SystemRegister.Dr7] = (value & controlWritable) | UnderlyingStates.ResetDr7;
                debug = debug with { Dr7 = vcpu[SystemRegister.Dr7] };
                break;
            default:
                debug = number switch
                {
                    0 => debug with { Dr0 = value },
                    1 => debug with { Dr1 = value },
                    2 => debug with { Dr2 = value },
                    _ => debug with { Dr3 = value },
                };
                break;
        }

        Arm(ref cpu, vcpu, debug);
    }

    /// <summary>DR6 after a #DB: BS for a single step, nothing for INT1. With breakpoints armed it is not followed which one was met.</summary>
    [Spec("SDM", "vol.3B 17.2.3 Debug Status Register (DR6)")]
    public static void NoteDebugEvent(ref CpuState cpu, Vcpu vcpu, bool byInstruction)
    {
        const ulong singleStep = 1UL << 14;
        if (cpu.Breakpoints is null)
        {
            vcpu[SystemRegister.Dr6] |= byInstruction ? 0 : singleStep;
        }
        else
        {
            vcpu.Forget(SystemRegister.Dr6);
        }
    }

    private static void Arm(ref CpuState cpu, Vcpu vcpu, DebugRegisters debug)
    {
        vcpu.Debug = debug;
        cpu.Breakpoints = Breakpoints.Arm(Paging.Confine(debug, Paging.RangeOf(vcpu, cpu.Profile.LinearBits == 57)));
        Delivery.SetMode(ref cpu);
        cpu.Attention |= cpu.Breakpoints is { OnExecution: true } ? Attention.Step : Attention.None;
    }

    /// <summary>DR4 and DR5 are DR6 and DR7 unless CR4.DE says that they are not there.</summary>
    private static bool DebugNumber(ref CpuState cpu, Vcpu vcpu, ref int number)
    {
        if (number is 4 or 5)
        {
            if ((vcpu[SystemRegister.Cr4] & Cr4De) != 0)
            {
                cpu.Raise(6);
                return false;
            }

            number += 2;
        }

        return true;
    }
}
