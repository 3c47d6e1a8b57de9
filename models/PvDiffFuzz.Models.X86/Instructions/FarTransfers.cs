using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>Far JMP, CALL and RET, and IRET, between 64-bit and compatibility mode at CPL3.</summary>
/// <remarks>
/// Only IRET changes flags. AMD has no 64-bit far pointer in memory; the decoder knows the vendor, so that the forms for it never come. Code segments with a base, a
/// limit or 16-bit defaults end the case as unsupported, and so do call gates that CPL3 may use. The manuals leave open in which order the slots of a stack are read;
/// AMD's is the one that its processors show, Intel's the one of its description.
/// </remarks>
internal static unsafe class FarTransfers
{
    /// <summary>Type of a call gate in long mode.</summary>
    private const byte CallGate = 0xc;

    /// <summary>What IRET loads at CPL3 with IOPL 0: neither IF, IOPL, VM, VIF nor VIP.</summary>
    private const ulong Loadable = Core.RflagsBits.UserLoadable;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Jmp_ptr1616, &JumpDirect);
        table.Add(Code.Jmp_ptr1632, &JumpDirect);
        table.Add(Code.Jmp_m1616, &JumpMem<ushort>);
        table.Add(Code.Jmp_m1632, &JumpMem<uint>);
        table.Add(Code.Jmp_m1664, &JumpMem<ulong>);
        table.Add(Code.Call_ptr1616, &CallDirect<ushort>);
        table.Add(Code.Call_ptr1632, &CallDirect<uint>);
        table.Add(Code.Call_m1616, &CallMem<ushort>);
        table.Add(Code.Call_m1632, &CallMem<uint>);
        table.Add(Code.Call_m1664, &CallMem<ulong>);
        table.Add(Code.Retfw, &Return<ushort>);
        table.Add(Code.Retfd, &Return<uint>);
        table.Add(Code.Retfq, &Return<ulong>);
        table.Add(Code.Retfw_imm16, &Return<ushort>);
        table.Add(Code.Retfd_imm16, &Return<uint>);
        table.Add(Code.Retfq_imm16, &Return<ulong>);
        table.Add(Code.Iretw, &InterruptReturn<ushort>);
        table.Add(Code.Iretd, &InterruptReturn<uint>);
        table.Add(Code.Iretq, &InterruptReturn<ulong>);
    }

    [Spec("SDM", "vol.2A JMP (far)")]
    private static void JumpDirect(ref CpuState cpu, in MicroOp op) => Jump(ref cpu, in op, (ushort)op.Immediate, op.Immediate >> 32);

    [Spec("SDM", "vol.2A JMP (far)")]
    private static void JumpMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (LoadPointer(ref cpu, in op, out T offset, out ushort selector))
        {
            Jump(ref cpu, in op, selector, ulong.CreateTruncating(offset));
        }
    }

    private static void Jump(ref CpuState cpu, in MicroOp op, ushort selector, ulong offset)
    {
        if (Check(ref cpu, in op, selector, offset, returning: false) is SegmentDescriptor code)
        {
            Go(ref cpu, code, selector, offset, cpu.Read<ulong>(Gpr.Rsp));
        }
    }

    [Spec("SDM", "vol.2A CALL (far)")]
    private static void CallDirect<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        Call<T>(ref cpu, in op, (ushort)op.Immediate, op.Immediate >> 32);

    [Spec("SDM", "vol.2A CALL (far)")]
    [Spec("APM", "vol.3 CALL (Far) (READ_MEM.z of the pointer, PUSH.v of the slots)")]
    [Spec("x86-readings", "far-call-rex-w")]
    private static void CallMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (LoadPointer(ref cpu, in op, out T offset, out ushort selector))
        {
            if (op.Size == sizeof(ulong))
            {
                // AMD: REX.W makes the slots wide, not the pointer.
                Call<ulong>(ref cpu, in op, selector, ulong.CreateTruncating(offset));
            }
            else
            {
                Call<T>(ref cpu, in op, selector, ulong.CreateTruncating(offset));
            }
        }
    }

    /// <summary>The target is checked before the stack. CS is pushed first, zero-extended to the operand size, then the return address.</summary>
    /// <remarks>Nothing is stored unless both can be. When the mode changes, AMD loads CS first and so pushes by the rules and with the stack pointer of the new mode; Intel pushes in the old mode.</remarks>
    [Spec("SDM", "vol.2A CALL (far)")]
    [Spec("APM", "vol.3 CALL (Far)")]
    [Spec("x86-readings", "far-call-new-mode")]
    private static void Call<T>(ref CpuState cpu, in MicroOp op, ushort selector, ulong offset)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (Check(ref cpu, in op, selector, offset, returning: false) is not SegmentDescriptor code)
        {
            return;
        }

        ushort caller = cpu.Selector[Seg.Cs];
        bool early = cpu.Profile.Vendor == CpuVendor.Amd && code.Long == cpu.Compatibility;
        if (early)
        {
            SetCode(ref cpu, selector);
        }

        ulong first = (cpu.StackPointer - (uint)sizeof(T)) & cpu.StackMask;
        ulong second = (first - (uint)sizeof(T)) & cpu.StackMask;
        if (cpu.CheckStore(first, sizeof(T), Seg.Ss) && cpu.CheckStore(second, sizeof(T), Seg.Ss))
        {
            cpu.StoreAt(first, Seg.Ss, T.CreateTruncating(caller));
            cpu.StoreAt(second, Seg.Ss, T.CreateTruncating(cpu.Rip));
            Go(ref cpu, code, selector, offset, second);
        }
        else if (early)
        {
            SetCode(ref cpu, caller);
        }
    }

    /// <summary>The immediate is 0 in the form without one. Both slots have the operand size.</summary>
    [Spec("SDM", "vol.2B RET (far)")]
    [Spec("APM", "vol.3 RET (Far); vol.2 4.11.3 Return Control Transfers")]
    [Spec("x86-readings", "return-slot-order")]
    private static void Return<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        ReadOnlySpan<byte> order = cpu.Profile.Vendor == CpuVendor.Amd ? [1, 0, 3, 2] : [0, 1, 2, 3];
        Span<ulong> slots = stackalloc ulong[4];
        ulong top = cpu.StackPointer;
        uint released = (uint)op.Immediate & ushort.MaxValue;
        if (!ReadSlots<T>(ref cpu, top, order[..2], slots) || (ReadsOuterStack(ref cpu, slots[1]) && !ReadSlots<T>(ref cpu, top + released, order[2..], slots)))
        {
            return;
        }

        ushort selector = (ushort)slots[1];
        if (Check(ref cpu, in op, selector, slots[0], returning: true) is SegmentDescriptor code)
        {
            ulong stack = (top + (uint)(2 * sizeof(T)) + released) & cpu.StackMask;
            Go(ref cpu, code, selector, slots[0], stack);
        }
    }

    /// <summary>Loads RIP, CS and RFLAGS, and when it runs in 64-bit mode RSP and SS. With NT set it is #GP(0) before anything is read.</summary>
    /// <remarks>CS is checked before RIP and RIP before SS. RF as loaded holds for the next instruction, or for the frame of a single step.</remarks>
    [Spec("SDM", "vol.2A IRET/IRETD/IRETQ")]
    [Spec("APM", "vol.3 IRET")]
    [Spec("x86-readings", "return-slot-order")]
    private static void InterruptReturn<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if ((cpu.System & Core.RflagsBits.NT) != 0)
        {
            cpu.Raise(13);
            return;
        }

        bool popsStack = !cpu.Compatibility;
        ReadOnlySpan<byte> order = cpu.Profile.Vendor == CpuVendor.Amd ? [2, 1, 0, 4, 3] : [0, 1, 2, 3, 4];
        Span<ulong> slots = stackalloc ulong[5];
        ulong top = cpu.StackPointer;
        if (!ReadSlots<T>(ref cpu, top, order[..3], slots) || ((popsStack || ReadsOuterStack(ref cpu, slots[1])) && !ReadSlots<T>(ref cpu, top, order[3..], slots)))
        {
            return;
        }

        ushort selector = (ushort)slots[1];
        if (Check(ref cpu, in op, selector, slots[0], returning: true) is not SegmentDescriptor code)
        {
            return;
        }

        ulong stack = (top + (uint)(3 * sizeof(T))) & cpu.StackMask;
        if (popsStack)
        {
            if (!CheckStack(ref cpu, (ushort)slots[4]))
            {
                return;
            }

            cpu.Selector[Seg.Ss] = (ushort)slots[4];
            stack = slots[3];
        }

        bool narrow = sizeof(T) == sizeof(ushort);
        cpu.LoadRflags(slots[2], narrow ? Loadable & ushort.MaxValue : Loadable);
        cpu.Attention |= narrow ? Attention.None : Attention.Resume;
        Go(ref cpu, code, selector, slots[0], stack);
    }

    /// <summary>The offset comes first in memory, and is read first.</summary>
    private static bool LoadPointer<T>(ref CpuState cpu, in MicroOp op, out T offset, out ushort selector)
        where T : unmanaged
    {
        selector = 0;
        return cpu.Load(in op, out offset) && cpu.LoadAt(cpu.LinearAddress(in op, (uint)sizeof(T)), op.Segment, out selector);
    }

    /// <summary>AMD reads the stack of an outer level before it finds that a return to an inner one is none.</summary>
    [Spec("APM", "vol.2 4.11.3 Return Control Transfers (Stack Switching)")]
    [Spec("x86-readings", "return-outer-stack")]
    private static bool ReadsOuterStack(ref CpuState cpu, ulong selector) => cpu.Profile.Vendor == CpuVendor.Amd && (selector & 3) != (ulong)cpu.Cpl;

    /// <summary>Reads stack slots of the operand size, counted upwards from an address.</summary>
    /// <returns>False after raising a fault.</returns>
    private static bool ReadSlots<T>(ref CpuState cpu, ulong first, scoped ReadOnlySpan<byte> order, scoped Span<ulong> slots)
        where T : unmanaged, IBinaryInteger<T>
    {
        foreach (byte slot in order)
        {
            if (!cpu.LoadAt((first + (uint)(slot * sizeof(T))) & cpu.StackMask, Seg.Ss, out T value))
            {
                return false;
            }

            slots[slot] = ulong.CreateTruncating(value);
        }

        return true;
    }

    /// <summary>Checks a new CS:RIP. CPL3 is the outermost level, so a transfer stays there or faults.</summary>
    /// <param name="cpu">State; gets the fault when there is one.</param>
    /// <param name="op">The instruction.</param>
    /// <param name="selector">New CS; its RPL does not matter to JMP and CALL, which always keep the CPL.</param>
    /// <param name="offset">New RIP, zero-extended from the operand size.</param>
    /// <param name="returning">True for RET and IRET, which need RPL 3 and know no gates.</param>
    /// <returns>The code segment; null after raising a fault or meeting a segment that the model cannot represent.</returns>
    [Spec("SDM", "vol.3A 5.8.1 Direct Calls or Jumps to Code Segments; 5.8.6 Returning from a Called Procedure; 5.2.1 Code-Segment Descriptor in 64-bit Mode (L and D)")]
    [Spec("APM", "vol.2 4.11 Control-Transfer Privilege Checks")]
    private static SegmentDescriptor? Check(ref CpuState cpu, in MicroOp op, ushort selector, ulong offset, bool returning)
    {
        uint error = selector & 0xfffcu;
        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        if (found is { System: true, Type: CallGate } && !returning && found.Dpl >= Math.Max(cpu.Cpl, selector & 3))
        {
            RefuseGate(ref cpu, in op, found, error);
        }
        else if (found is not { IsCode: true } || (found.Long && found.Big) || !Permits(in cpu, found, selector, returning))
        {
            cpu.Raise(13, error);
        }
        else if (!found.Present)
        {
            cpu.Raise(11, error);
        }
        else if (found.Long ? !cpu.Canonical(offset) : offset > found.Limit)
        {
            cpu.Raise(13);
        }
        else if (returning && (selector & 3) != cpu.Cpl)
        {
            // To an outer level, which takes a stack with it: nobody but the kernel of a 32-bit guest of Xen has one.
            OpTable.NotModelled(ref cpu, in op);
        }
        else if (!found.Long && (!found.Big || found.Base != 0 || found.Limit != uint.MaxValue))
        {
            OpTable.NotModelled(ref cpu, in op);
        }
        else
        {
            return found;
        }

        return null;
    }

    private static bool Permits(in CpuState cpu, SegmentDescriptor code, ushort selector, bool returning)
    {
        int level = returning ? selector & 3 : cpu.Cpl;
        return level >= cpu.Cpl && (Descriptors.IsConforming(code) ? code.Dpl <= level : code.Dpl == level);
    }

    private static void RefuseGate(ref CpuState cpu, in MicroOp op, SegmentDescriptor gate, uint error)
    {
        if (gate.Present)
        {
            OpTable.NotModelled(ref cpu, in op);
        }
        else
        {
            cpu.Raise(11, error);
        }
    }

    /// <summary>SS must be writable data of DPL and RPL 3; at CPL3 it cannot be null even in 64-bit mode.</summary>
    [Spec("SDM", "vol.2A IRET/IRETD/IRETQ")]
    private static bool CheckStack(ref CpuState cpu, ushort selector)
    {
        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        if (found is null || !Segment.FitsStack(in cpu, found, selector))
        {
            cpu.Raise(13, selector & 0xfffcu);
            return false;
        }

        if (!found.Present)
        {
            cpu.Raise(12, selector & 0xfffcu);
            return false;
        }

        return true;
    }

    /// <summary>Commits a transfer. RPL of CS is the CPL.</summary>
    /// <remarks>The manuals leave the upper halves of registers open in compatibility mode: RSP loses it here, the others keep it.</remarks>
    [Spec("SDM", "vol.1 3.4.1.1 General-Purpose Registers in 64-Bit Mode (mode switches)")]
    [Spec("x86-readings", "upper-halves")]
    private static void Go(ref CpuState cpu, SegmentDescriptor code, ushort selector, ulong offset, ulong stack)
    {
        cpu.Rip = offset;
        cpu.Write(Gpr.Rsp, code.Long ? stack : (uint)stack);
        SetCode(ref cpu, selector);
    }

    private static void SetCode(ref CpuState cpu, ushort selector)
    {
        cpu.Selector[Seg.Cs] = (ushort)((selector & ~3) | cpu.Cpl);
        Delivery.SetMode(ref cpu);
    }
}
