using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_set_debugreg and HYPERVISOR_get_debugreg. MOV to and from debug registers is carried out by the same.</summary>
internal static class DebugRegisterFile
{
    /// <summary>L0 to G3 of DR7.</summary>
    private const ulong Enables = 0xff;

    /// <summary>CR4.DE.</summary>
    private const ulong DebuggingExtensions = 8;

    private const ulong Cr4De = 1UL << 3;
    private const ulong GeneralDetect = 1UL << 13;

    /// <summary>Bits of DR7 that are 0 always: 11, 12, 14 and 15.</summary>
    private const ulong Dr7Reserved = 0xd800;

    /// <summary>A bit of DR6 that is 0 always.</summary>
    private const ulong Dr6Zero = 1UL << 12;

    /// <summary>Writes a debug register.</summary>
    /// <returns>0; -EPERM for an address that is not the guest's and for general detection, -EINVAL for upper halves of DR6 and DR7, -ENODEV for a register that there is not.</returns>
    [Spec("Xen facts", "Hypercall ABI: set_debugreg")]
    public static long Set<TGuest>(ref CpuState cpu, Vcpu vcpu, uint number, ulong value)
        where TGuest : struct, IXenGuest
    {
        switch (Resolve(vcpu, number))
        {
            case 6:
                return SetStatus(vcpu, value);
            case 7:
                return SetControl(ref cpu, vcpu, value);
            case null:
                return Errno.ENODEV;
            default:
                return SetAddress<TGuest>(ref cpu, vcpu, (int)number, value);
        }
    }

    /// <summary>Reads a debug register: its value, or -ENODEV.</summary>
    [Spec("Xen facts", "Hypercall ABI: get_debugreg")]
    public static long Get(Vcpu vcpu, uint number) => TryGet(vcpu, number, out ulong value) ? (long)value : Errno.ENODEV;

    /// <summary>Reads a debug register.</summary>
    /// <returns>False when there is no such register.</returns>
    public static bool TryGet(Vcpu vcpu, uint number, out ulong value)
    {
        DebugRegisters debug = vcpu.Debug;
        int? resolved = Resolve(vcpu, number);
        value = resolved switch
        {
            0 => debug.Dr0,
            1 => debug.Dr1,
            2 => debug.Dr2,
            3 => debug.Dr3,
            6 => vcpu[SystemRegister.Dr6],
            7 => debug.Dr7,
            _ => 0,
        };
        return resolved is not null;
    }

    /// <summary>DR4 and DR5 are DR6 and DR7 unless the guest's CR4.DE says that they are not there.</summary>
    [Spec("Xen facts", "Privileged instructions: debug registers")]
    private static int? Resolve(Vcpu vcpu, uint number) => number switch
    {
        <= 3 => (int)number,
        4 or 5 => (vcpu[SystemRegister.Cr4] & Cr4De) != 0 ? null : (int)number + 2,
        6 or 7 => (int)number,
        _ => null,
    };

    private static long SetAddress<TGuest>(ref CpuState cpu, Vcpu vcpu, int number, ulong value)
        where TGuest : struct, IXenGuest
    {
        if (!TGuest.IsGuestAddress(value))
        {
            return Errno.EPERM;
        }

        DebugRegisters debug = vcpu.Debug;
        Arm(ref cpu, vcpu, number switch
        {
            0 => debug with { Dr0 = value },
            1 => debug with { Dr1 = value },
            2 => debug with { Dr2 = value },
            _ => debug with { Dr3 = value },
        });
        return 0;
    }

    /// <summary>Reserved bits of DR6 have their values whatever is written.</summary>
    [Spec("Xen facts", "Privileged instructions: DR6 reserved bits")]
    private static long SetStatus(Vcpu vcpu, ulong value)
    {
        if (value > uint.MaxValue)
        {
            return Errno.EINVAL;
        }

        vcpu[SystemRegister.Dr6] = (value | Vcpu.ResetDr6) & ~Dr6Zero;
        return 0;
    }

    [Spec("Xen facts", "Privileged instructions: debug registers")]
    [Spec("xen-readings", "dr7-reserved-bits")]
    private static long SetControl(ref CpuState cpu, Vcpu vcpu, ulong value)
    {
        if (value > uint.MaxValue)
        {
            return Errno.EINVAL;
        }

        if ((value & GeneralDetect) != 0)
        {
            return Errno.EPERM;
        }

        if ((value & Enables) != 0 && WatchesPorts(value) && (vcpu[SystemRegister.Cr4] & DebuggingExtensions) == 0)
        {
            return Errno.EPERM;
        }

        ulong stored = (value & ~Dr7Reserved) | Vcpu.ResetDr7;
        if (vcpu.Knows(SystemRegister.Dr7))
        {
            vcpu[SystemRegister.Dr7] = stored;
        }

        Arm(ref cpu, vcpu, vcpu.Debug with { Dr7 = stored });
        return 0;
    }

    /// <summary>True when a breakpoint, enabled or not, is one on port accesses.</summary>
    private static bool WatchesPorts(ulong control)
    {
        const int first = 16;
        const int each = 4;
        for (int i = 0; i < 4; i++)
        {
            if ((control >> (first + (i * each)) & 3) == 2)
            {
                return true;
            }
        }

        return false;
    }

    private static void Arm(ref CpuState cpu, Vcpu vcpu, DebugRegisters debug)
    {
        vcpu.Debug = debug;
        cpu.Breakpoints = Breakpoints.Arm(debug);
    }
}
