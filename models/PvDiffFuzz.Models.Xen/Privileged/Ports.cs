using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Hypercalls;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>IN, OUT, INS, OUTS, CLI and STI: what the virtual IOPL and the guest's I/O bitmap permit.</summary>
internal static class Ports
{
    private const int ArchitecturalIopl = 4;

    /// <summary>CLI and STI never change anything; they succeed where the virtual IOPL permits them.</summary>
    [Spec("Xen facts", "Privileged instructions: CLI and STI")]
    public static bool PermitsInterruptFlag(Vcpu vcpu) => PermitsByIopl(vcpu);

    /// <summary>Accesses a port of a guest to which none was granted: reads give ones, writes vanish.</summary>
    /// <returns>False for #GP(0).</returns>
    [Spec("Xen facts", "Privileged instructions: I/O")]
    [Spec("xen-readings", "ports")]
    public static bool TryAccess<TGuest>(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
        where TGuest : struct, IXenGuest
    {
        int width = WidthOf(op.Form);
        uint port = TakesImmediate(op.Form) ? (byte)op.Immediate : cpu.Read<ushort>(Gpr.Rdx);
        if (!PermitsByIopl(vcpu) && !PermitsByBitmap<TGuest>(ref cpu, vcpu, port, width))
        {
            return cpu.Pending != PendingKind.None;
        }

        if (IsSpecial(port, width))
        {
            vcpu.End(Verdict.Unsupported, "the guest accesses the timer, the clock or PCI configuration, which are no part of a case");
            return true;
        }

        switch (op.Form.Mnemonic())
        {
            case Mnemonic.In:
                ReadOnes(ref cpu, width);
                break;
            case Mnemonic.Out:
                break;
            case Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd:
                Repeat(ref cpu, vcpu, in op, width, input: true);
                break;
            default:
                Repeat(ref cpu, vcpu, in op, width, input: false);
                break;
        }

        return true;
    }

    /// <summary>The kernel counts as ring 1, or as ring 0 for guests that have asked for the architectural IOPL; user code as ring 3.</summary>
    [Spec("Xen facts", "Privileged instructions: virtual IOPL")]
    private static bool PermitsByIopl(Vcpu vcpu) => vcpu[SystemRegister.XenIopl] >= (vcpu.KernelMode ? (vcpu.Assists(ArchitecturalIopl) ? 0u : 1u) : 3u);

    /// <summary>Every bit of the ports that are accessed is clear. Two bytes are read; one that cannot be is #PF, in older releases it permits nothing.</summary>
    [Spec("Xen facts", "Privileged instructions: I/O bitmap")]
    [Spec("Xen facts", "Version table: I/O bitmap")]
    private static bool PermitsByBitmap<TGuest>(ref CpuState cpu, Vcpu vcpu, uint port, int width)
        where TGuest : struct, IXenGuest
    {
        if (port + (uint)width > vcpu.IoBitmapPorts)
        {
            return false;
        }

        bool kernel = vcpu.KernelMode;
        vcpu.KernelMode = true;
        vcpu.SelectView<TGuest>();
        uint bits = ReadBitmap<TGuest>(ref cpu, vcpu, vcpu.IoBitmap + (port >> 3), kernel);
        vcpu.KernelMode = kernel;
        vcpu.SelectView<TGuest>();
        return cpu.Pending == PendingKind.None && (bits >> (int)(port & 7) & ((1u << width) - 1)) == 0;
    }

    private static uint ReadBitmap<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong at, bool kernel)
        where TGuest : struct, IXenGuest
    {
        uint bits = 0xffff;
        for (int i = 0; i < sizeof(ushort); i++)
        {
            ulong where = at + (uint)i;
            if (GuestCopy.TryRead<TGuest, byte>(vcpu, where, out byte value))
            {
                bits = (bits & ~(0xffu << (8 * i))) | ((uint)value << (8 * i));
            }
            else if (vcpu.Release.FaultsOnIoBitmap)
            {
                cpu.Raise(14, kernel ? 0 : PageFault.User, where);
                break;
            }
        }

        return bits;
    }

    /// <summary>Interval timer, clock and PCI configuration are not plain ports.</summary>
    [Spec("Xen facts", "Privileged instructions: special ports")]
    private static bool IsSpecial(uint port, int width)
    {
        uint last = port + (uint)width - 1;
        return (port <= 0x43 && last >= 0x42) || (port <= 0x61 && last >= 0x61) || (port <= 0x71 && last >= 0x70) || (port <= 0xcff && last >= 0xcf8);
    }

    private static void ReadOnes(ref CpuState cpu, int width)
    {
        switch (width)
        {
            case 1:
                cpu.Write(Gpr.Rax, byte.MaxValue);
                break;
            case 2:
                cpu.Write(Gpr.Rax, ushort.MaxValue);
                break;
            default:
                cpu.Write(Gpr.Rax, uint.MaxValue);
                break;
        }
    }

    /// <summary>INS and OUTS. A fault comes between iterations, with the registers as far as they have got.</summary>
    [Spec("SDM", "vol.2A INS/INSB/INSW/INSD; vol.2B OUTS/OUTSB/OUTSW/OUTSD")]
    [Spec("Xen facts", "Privileged instructions: after success")]
    private static void Repeat(ref CpuState cpu, Vcpu vcpu, in MicroOp op, int width, bool input)
    {
        vcpu.Memory.Mask = cpu.LinearMask;
        byte pointer = input ? Gpr.Rdi : Gpr.Rsi;
        byte segment = input ? Seg.Es : op.Segment;
        bool repeats = (op.Flags & (OpFlags.Rep | OpFlags.Repne)) != 0;
        ulong step = (vcpu.Rflags & RflagsBits.DF) == 0 ? (ulong)width : 0 - (ulong)width;
        while (!repeats || (cpu.Read<ulong>(Gpr.Rcx) & op.AddressMask) != 0)
        {
            ulong at = ((cpu.Read<ulong>(pointer) & op.AddressMask) + cpu.SegmentBase[segment]) & cpu.LinearMask;
            if (!Transfer(ref cpu, at, segment, width, input))
            {
                break;
            }

            // An iteration counts as success, so that the fault of a later one comes with RF clear.
            vcpu.Rflags &= ~RflagsBits.RF;
            Advance(ref cpu, pointer, step, op.AddressMask);
            if (!repeats)
            {
                break;
            }

            Advance(ref cpu, Gpr.Rcx, ulong.MaxValue, op.AddressMask);
            if (--cpu.Budget < 0)
            {
                vcpu.End(Verdict.BudgetSpent);
                break;
            }
        }

        vcpu.Memory.Mask = ulong.MaxValue;
    }

    private static bool Transfer(ref CpuState cpu, ulong at, byte segment, int width, bool input) => (width, input) switch
    {
        (1, true) => cpu.StoreAt(at, segment, byte.MaxValue),
        (2, true) => cpu.StoreAt(at, segment, ushort.MaxValue),
        (_, true) => cpu.StoreAt(at, segment, uint.MaxValue),
        (1, false) => cpu.LoadAt(at, segment, out byte _),
        (2, false) => cpu.LoadAt(at, segment, out ushort _),
        (_, false) => cpu.LoadAt(at, segment, out uint _),
    };

    /// <summary>An address size of 32 bits clears the upper half of a register, one of 16 bits keeps the rest.</summary>
    private static void Advance(ref CpuState cpu, byte register, ulong step, ulong mask)
    {
        ulong value = cpu.Read<ulong>(register) + step;
        if (mask == ushort.MaxValue)
        {
            cpu.Write(register, (ushort)value);
        }
        else
        {
            cpu.Write(register, value & mask);
        }
    }

    private static bool TakesImmediate(Code form) => form is Code.In_AL_imm8 or Code.In_AX_imm8 or Code.In_EAX_imm8 or Code.Out_imm8_AL or Code.Out_imm8_AX or Code.Out_imm8_EAX;

    private static int WidthOf(Code form) => form switch
    {
        Code.In_AL_imm8 or Code.In_AL_DX or Code.Out_imm8_AL or Code.Out_DX_AL or Code.Insb_m8_DX or Code.Outsb_DX_m8 => 1,
        Code.In_AX_imm8 or Code.In_AX_DX or Code.Out_imm8_AX or Code.Out_DX_AX or Code.Insw_m16_DX or Code.Outsw_DX_m16 => 2,
        _ => 4,
    };
}
