using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>The hardware state under which a guest runs, in all modes at CPL3.</summary>
internal static class UnderlyingStates
{
    /// <summary>CR0: PE, PG, WP, ET, NE, AM and MP set, CD, NW, EM and TS clear.</summary>
    public const ulong Cr0 = 0x8005_0033;

    /// <summary>DR6 before a #DB.</summary>
    public const ulong ResetDr6 = 0xffff_0ff0;

    /// <summary>DR7 before anybody writes it.</summary>
    public const ulong ResetDr7 = 0x400;

    /// <summary>RFLAGS at every entry of the supervisor, and what R11 shows of it.</summary>
    public const ulong EntryRflags = RflagsBits.IF | RflagsBits.Fixed1;

    /// <summary>RFLAGS as they can be loaded: IOPL, VM, VIF and VIP cleared, IF and bit 1 set, reserved bits dropped.</summary>
    [Spec("PVM rfc1", "Underlying states")]
    [Spec("PVM rfc1", "PVCS::user_cs, PVCS::user_ss, PVCS::user_gsbase, PVCS::pkru, PVCS::rsp, PVCS::eflags, PVCS::rip, PVCS::rcx, PVCS::r11")]
    public static ulong Standardize(ulong rflags) => (rflags & RflagsBits.UserLoadable) | RflagsBits.IF | RflagsBits.Fixed1;

    /// <summary>RFLAGS as supervisor mode has them: the underlying ones, with bit 9 of the structure's event flags for IF.</summary>
    /// <param name="vcpu">The virtual CPU.</param>
    /// <param name="rflags">The underlying ones.</param>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    [Spec("PVM rfc1", "PVCS::event_flags")]
    public static ulong SupervisorRflags<TAbi>(Vcpu vcpu, ulong rflags)
        where TAbi : struct, IPvmAbi =>
        (rflags & ~RflagsBits.IF) | (vcpu.HasPvcs ? vcpu.Pvcs<TAbi>()[SystemRegister.PvcsEventFlags] & Vcpu.InterruptFlag : 0);

    /// <summary>The registers now, with IF as the mode has it: 1 in user mode.</summary>
    [Spec("PVM rfc1", "States or registers on PVM modes")]
    public static RegisterState Capture<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        RegisterState registers = Delivery.Capture(ref cpu, vcpu.UserMode ? cpu.Rflags : SupervisorRflags<TAbi>(vcpu, cpu.Rflags));
        return vcpu.Case.Registers.Pkru is null ? registers with { Pkru = null } : registers;
    }

    /// <summary>Enters the supervisor: 64-bit mode with the underlying selectors of user code, RCX and RIP at the entry.</summary>
    [Spec("PVM rfc1", "Vector events in user mode")]
    [Spec("PVM rfc1", "Vector events in supervisor mode")]
    public static void Enter(ref CpuState cpu, Vcpu vcpu, ulong entry, EntryPoint door)
    {
        vcpu.InterruptedRip = cpu.Rip;
        vcpu.Entry = door;
        cpu.Rip = entry;
        cpu.Write(Gpr.Rcx, entry);
        cpu.Write(Gpr.R11, EntryRflags);
        cpu.Selector[Seg.Cs] = Selectors.UserCode64;
        cpu.Selector[Seg.Ss] = Selectors.UserData;
        Delivery.Resume(ref cpu, EntryRflags);
    }

    /// <summary>Tells whether supervisor code still has the segments that it must have. It can load others natively; what follows is not said.</summary>
    [Spec("PVM rfc1", "Underlying states")]
    [Spec("pvm-readings", "supervisor-segments")]
    public static bool HasSupervisorSegments(ref CpuState cpu, Vcpu vcpu)
    {
        if (cpu.Selector[Seg.Cs] == Selectors.UserCode64 && cpu.Selector[Seg.Ss] == Selectors.UserData)
        {
            return true;
        }

        vcpu.End(Verdict.Unsupported, "supervisor code runs with a CS or SS that PVM does not define there");
        return false;
    }
}
