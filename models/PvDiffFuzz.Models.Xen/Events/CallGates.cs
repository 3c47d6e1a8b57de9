using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>Far CALL and JMP through call gates of the guest's, whose DPL of 0 makes the processor refuse them.</summary>
internal static class CallGates
{
    private const byte CallGate = 0xc;
    private const int MaximumParameters = 31;

    /// <summary>True for the instructions that can name a gate.</summary>
    public static bool IsFarTransfer(Code form) => form is Code.Call_ptr1616 or Code.Call_ptr1632 or Code.Call_m1616 or Code.Call_m1632 or Code.Call_m1664
        or Code.Jmp_ptr1616 or Code.Jmp_ptr1632 or Code.Jmp_m1616 or Code.Jmp_m1632 or Code.Jmp_m1664;

    /// <summary>Emulation is not wired up for 64-bit guests: the fault is the guest's.</summary>
    [Spec("Xen PV traps", "Notes: Call Gates, emulation is only wired up for PV32")]
    public static bool TryUse64() => false;

    /// <summary>Goes through a gate of a 32-bit guest.</summary>
    /// <returns>False when the fault is the guest's; nothing has changed then.</returns>
    [Spec("Xen PV traps", "Notes: Call Gates, emulation is only wired up for PV32")]
    [Spec("Xen PV traps", "CALL (far) referencing a gate in the GDT")]
    [Spec("xen-readings", "call-gates-of-32-bit-guests")]
    public static bool TryUse32(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        ushort selector = (ushort)cpu.PendingError;
        if (Find(vcpu, selector) is not ulong gate || !TryReadOperand(ref cpu, in op, selector, out int rpl))
        {
            return false;
        }

        int dpl = (int)(gate >> 16 & 3);
        if (dpl < Math.Max(rpl, cpu.Cpl))
        {
            return false;
        }

        ushort target = (ushort)((gate >> 16 & 0xfffc) | (uint)cpu.Cpl);
        uint offset = (uint)(gate & 0xffff) | (uint)(gate >> 32 & 0xffff_0000);
        if (Descriptors.Find(cpu.Profile, target) is not { IsCode: true, Present: true } code || code.Dpl > cpu.Cpl || code.Dpl == 0)
        {
            return false;
        }

        bool inner = !Descriptors.IsConforming(code) && code.Dpl < cpu.Cpl;
        bool jump = op.Form.Mnemonic() == Mnemonic.Jmp;
        if ((jump && inner) || (inner && code.Dpl != BounceFrame32.KernelRing))
        {
            return false;
        }

        bool done = jump || (inner ? TryCallInner(ref cpu, vcpu, in op, (int)(gate >> 32 & MaximumParameters)) : TryCall(ref cpu, vcpu, in op));
        if (!done)
        {
            return true;
        }

        cpu.Rip = offset;
        cpu.Selector[Seg.Cs] = (ushort)((target & ~3) | (inner ? BounceFrame32.KernelRing : cpu.Cpl));
        vcpu.Rflags &= ~RflagsBits.RF;
        if ((vcpu.Rflags & RflagsBits.TF) != 0)
        {
            Exceptions.SingleStep<Pv32>(ref cpu, vcpu);
        }

        return true;
    }

    /// <summary>A gate as it is stored: present, its DPL in the RPL of its selector.</summary>
    private static ulong? Find(Vcpu vcpu, ushort selector)
    {
        foreach ((ushort index, ulong raw) in vcpu.Case.Xen!.Gdt)
        {
            bool found = index == (selector & 0xfff8) && (selector & 4) == 0 && vcpu.OwnDescriptors;
            if (found && GuestDescriptors.TryAudit(raw, BounceFrame32.KernelRing, out ulong stored) && (stored >> 40 & 0x1f) == CallGate && (stored >> 47 & 1) != 0)
            {
                return stored;
            }
        }

        return null;
    }

    /// <summary>The RPL of the selector that the instruction names, if that is the one which the fault names.</summary>
    private static bool TryReadOperand(ref CpuState cpu, in MicroOp op, ushort selector, out int rpl)
    {
        ushort named = (ushort)op.Immediate;
        if ((op.Flags & OpFlags.Memory) != 0)
        {
            uint ahead = op.Form is Code.Call_m1616 or Code.Jmp_m1616 ? sizeof(ushort) : (uint)sizeof(uint);
            ulong at = cpu.LinearAddress(in op, ahead);
            named = cpu.Memory.CanRead(at, sizeof(ushort), out _, out _) ? cpu.Memory.Read<ushort>(at) : (ushort)0;
        }

        rpl = named & 3;
        return (named & 0xfffc) == selector;
    }

    /// <summary>At the same level: CS, then the return address.</summary>
    private static bool TryCall(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        uint at = cpu.Read<uint>(Gpr.Rsp) - (2 * sizeof(uint));
        if (!TryReserve(ref cpu, vcpu, at, 2))
        {
            return false;
        }

        vcpu.Memory.Write(at, (uint)(cpu.InstructionRip + op.Length));
        vcpu.Memory.Write(at + sizeof(uint), (uint)cpu.Selector[Seg.Cs]);
        cpu.Write(Gpr.Rsp, at);
        return true;
    }

    /// <summary>To the kernel: on its stack SS, ESP, the parameters, CS and the return address.</summary>
    private static bool TryCallInner(ref CpuState cpu, Vcpu vcpu, in MicroOp op, int parameters)
    {
        uint stack = cpu.Read<uint>(Gpr.Rsp);
        Span<uint> words = stackalloc uint[4 + MaximumParameters];
        words = words[..(4 + parameters)];
        words[0] = (uint)(cpu.InstructionRip + op.Length);
        words[1] = cpu.Selector[Seg.Cs];
        words[^2] = stack;
        words[^1] = cpu.Selector[Seg.Ss];
        if (parameters > 0 && !vcpu.Memory.CanRead(stack, parameters * sizeof(uint), out ulong cr2, out uint error))
        {
            Exceptions.PageFault<Pv32>(ref cpu, vcpu, error, cr2);
            return false;
        }

        for (int i = 0; i < parameters; i++)
        {
            words[2 + i] = vcpu.Memory.Read<uint>(stack + (uint)(i * sizeof(uint)));
        }

        uint at = (uint)vcpu[SystemRegister.XenKernelSp] - (uint)(words.Length * sizeof(uint));
        vcpu.SwitchMode<Pv32>(ref cpu, kernel: true);
        if (!vcpu.Memory.CanWrite(at, words.Length * sizeof(uint), out _, out _))
        {
            DomainCrash.FrameNotStored(vcpu);
            return false;
        }

        for (int i = 0; i < words.Length; i++)
        {
            vcpu.Memory.Write(at + (uint)(i * sizeof(uint)), words[i]);
        }

        cpu.Selector[Seg.Ss] = (ushort)vcpu[SystemRegister.XenKernelSs];
        cpu.Write(Gpr.Rsp, at);
        return true;
    }

    /// <summary>Room for some words, or a #PF at the instruction.</summary>
    private static bool TryReserve(ref CpuState cpu, Vcpu vcpu, uint at, int words)
    {
        if (vcpu.Memory.CanWrite(at, words * sizeof(uint), out ulong cr2, out uint error))
        {
            return true;
        }

        Exceptions.PageFault<Pv32>(ref cpu, vcpu, error, cr2);
        return false;
    }
}
