using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER and LEAVE at CPL3 with IOPL 0.</summary>
/// <remarks>Only POPF changes flags. Segment registers are pushed and popped with their own family.</remarks>
internal static unsafe class Stack
{
    /// <summary>What POPF loads at CPL3 with IOPL 0: neither IF, IOPL, VIF, VIP, VM nor RF.</summary>
    private const ulong Loadable = RflagsBits.Status | RflagsBits.TF | RflagsBits.DF | RflagsBits.NT | RflagsBits.AC | RflagsBits.ID;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Push_r16, &PushReg<ushort>);
        table.Add(Code.Push_r32, &PushReg<uint>);
        table.Add(Code.Push_r64, &PushReg<ulong>);
        table.Add(Code.Push_rm16, &PushReg<ushort>, &PushMem<ushort>);
        table.Add(Code.Push_rm32, &PushReg<uint>, &PushMem<uint>);
        table.Add(Code.Push_rm64, &PushReg<ulong>, &PushMem<ulong>);
        table.Add(Code.Push_imm16, &PushImm<ushort>);
        table.Add(Code.Pushd_imm32, &PushImm<uint>);
        table.Add(Code.Pushq_imm32, &PushImm<ulong>);
        table.Add(Code.Pushw_imm8, &PushImm<ushort>);
        table.Add(Code.Pushd_imm8, &PushImm<uint>);
        table.Add(Code.Pushq_imm8, &PushImm<ulong>);
        table.Add(Code.Pop_r16, &PopReg<ushort>);
        table.Add(Code.Pop_r32, &PopReg<uint>);
        table.Add(Code.Pop_r64, &PopReg<ulong>);
        table.Add(Code.Pop_rm16, &PopReg<ushort>, &PopMem<ushort>);
        table.Add(Code.Pop_rm32, &PopReg<uint>, &PopMem<uint>);
        table.Add(Code.Pop_rm64, &PopReg<ulong>, &PopMem<ulong>);
        table.Add(Code.Pushaw, &PushAll<ushort>);
        table.Add(Code.Pushad, &PushAll<uint>);
        table.Add(Code.Popaw, &PopAll<ushort>);
        table.Add(Code.Popad, &PopAll<uint>);
        table.Add(Code.Pushfw, &PushFlags<ushort>);
        table.Add(Code.Pushfd, &PushFlags<uint>);
        table.Add(Code.Pushfq, &PushFlags<ulong>);
        table.Add(Code.Popfw, &PopFlags<ushort>);
        table.Add(Code.Popfd, &PopFlags<uint>);
        table.Add(Code.Popfq, &PopFlags<ulong>);
        table.Add(Code.Enterw_imm16_imm8, &Enter<ushort>);
        table.Add(Code.Enterd_imm16_imm8, &Enter<uint>);
        table.Add(Code.Enterq_imm16_imm8, &Enter<ulong>);
        table.Add(Code.Leavew, &Leave<ushort>);
        table.Add(Code.Leaved, &Leave<uint>);
        table.Add(Code.Leaveq, &Leave<ulong>);
    }

    /// <summary>PUSH RSP stores the value from before the push.</summary>
    [Spec("SDM", "vol.2B PUSH")]
    private static void PushReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Push(cpu.Read<T>(op.Destination));

    /// <summary>A memory operand based on RSP is addressed with the value from before the push, and read before the stack is written.</summary>
    [Spec("SDM", "vol.2B PUSH")]
    private static void PushMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        if (cpu.Load(in op, out T value))
        {
            cpu.Push(value);
        }
    }

    [Spec("SDM", "vol.2B PUSH")]
    private static void PushImm<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Push(T.CreateTruncating(op.Immediate));

    /// <summary>RSP moves first, so that POP RSP ends with the popped value.</summary>
    [Spec("SDM", "vol.2B POP")]
    private static void PopReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        if (cpu.Peek(out T value))
        {
            cpu.StackPointer += (uint)sizeof(T);
            cpu.Write(op.Destination, value);
        }
    }

    /// <summary>A destination based on RSP is addressed with the value from after the pop.</summary>
    [Spec("SDM", "vol.2B POP")]
    private static void PopMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        if (cpu.Peek(out T value))
        {
            ulong before = cpu.Read<ulong>(Gpr.Rsp);
            cpu.StackPointer += (uint)sizeof(T);
            if (!cpu.Store(in op, value))
            {
                cpu.Write(Gpr.Rsp, before);
            }
        }
    }

    /// <summary>EAX, ECX, EDX, EBX, the old ESP, EBP, ESI and EDI, in that order downwards. Nothing is stored unless all of it can be.</summary>
    [Spec("SDM", "vol.2B PUSHA/PUSHAD")]
    private static void PushAll<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        ulong top = cpu.StackPointer;
        for (int i = 1; i <= 8; i++)
        {
            if (!cpu.CheckStore((top - (uint)(i * sizeof(T))) & cpu.StackMask, sizeof(T), Seg.Ss))
            {
                return;
            }
        }

        for (int i = 0; i < 8; i++)
        {
            cpu.StoreAt((top - (uint)((i + 1) * sizeof(T))) & cpu.StackMask, Seg.Ss, cpu.Read<T>((byte)(i * 8)));
        }

        cpu.StackPointer = top - (uint)(8 * sizeof(T));
    }

    /// <summary>The reverse of PUSHA, except that ESP is not loaded: AMD reads its slot and discards the value, Intel skips the slot.</summary>
    /// <remarks>Nothing is loaded unless all of it can be. The SDM allows otherwise: a POPA that faults may have loaded general registers.</remarks>
    [Spec("SDM", "vol.2B POPA/POPAD; vol.3A 6.5 Exception Classifications (note on POPAD)")]
    [Spec("APM", "vol.3 POPA, POPAD (the image of eSP is popped and discarded)")]
    [Spec("x86-readings", "popa-fault")]
    private static void PopAll<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        ulong top = cpu.StackPointer;
        bool skips = cpu.Profile.Vendor == CpuVendor.Intel;
        T* values = stackalloc T[8];
        for (int i = 0; i < 8; i++)
        {
            // SAFETY: i is below the eight elements just reserved.
            if ((i != 3 || !skips) && !cpu.LoadAt((top + (uint)(i * sizeof(T))) & cpu.StackMask, Seg.Ss, out values[i]))
            {
                return;
            }
        }

        cpu.StackPointer = top + (uint)(8 * sizeof(T));
        for (int i = 0; i < 8; i++)
        {
            if (i != 3)
            {
                cpu.Write((byte)((7 - i) * 8), values[i]);
            }
        }
    }

    /// <summary>VM and RF are stored as 0.</summary>
    [Spec("SDM", "vol.2B PUSHF/PUSHFD/PUSHFQ")]
    private static void PushFlags<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Push(T.CreateTruncating(cpu.Rflags & ~(RflagsBits.VM | RflagsBits.RF)));

    /// <summary>The 16-bit form leaves RFLAGS above bit 15 alone. A TF that is set here traps after the next instruction.</summary>
    [Spec("SDM", "vol.2B POPF/POPFD/POPFQ; vol.3B 17.3.1.4 Single-Step Exception Condition")]
    private static void PopFlags<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Peek(out T value))
        {
            cpu.StackPointer += (uint)sizeof(T);
            cpu.LoadRflags(ulong.CreateTruncating(value), sizeof(T) == 2 ? Loadable & ushort.MaxValue : Loadable);
        }
    }

    /// <summary>Pushes rBP, then for nesting levels above 0 the outer frame pointers and the new one; makes room below.</summary>
    /// <remarks>
    /// All accesses are tried first, in order, each with the width of the operand; a last one tries a write at the final stack pointer. rBP gets the operand's
    /// width, the stack pointer that of the stack.
    /// </remarks>
    [Spec("SDM", "vol.2A ENTER")]
    private static void Enter<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        int level = (int)(op.Immediate >> 32) & 31;
        ulong mask = cpu.StackMask;
        ulong frame = (cpu.StackPointer - (uint)sizeof(T)) & mask;
        ulong outer = cpu.Read<ulong>(Gpr.Rbp) & mask;
        if (!cpu.CheckStore(frame, sizeof(T), Seg.Ss))
        {
            return;
        }

        for (int i = 1; i <= level; i++)
        {
            uint down = (uint)(i * sizeof(T));
            if ((i < level && !cpu.CheckLoad((outer - down) & mask, sizeof(T), Seg.Ss)) || !cpu.CheckStore((frame - down) & mask, sizeof(T), Seg.Ss))
            {
                return;
            }
        }

        ulong end = (frame - (uint)(level * sizeof(T)) - (op.Immediate & ushort.MaxValue)) & mask;
        if (!cpu.CheckStore(end, sizeof(T), Seg.Ss))
        {
            return;
        }

        cpu.StoreAt(frame, Seg.Ss, cpu.Read<T>(Gpr.Rbp));
        for (int i = 1; i < level; i++)
        {
            uint down = (uint)(i * sizeof(T));
            if (cpu.LoadAt((outer - down) & mask, Seg.Ss, out T pointer))
            {
                cpu.StoreAt((frame - down) & mask, Seg.Ss, pointer);
            }
        }

        if (level > 0)
        {
            cpu.StoreAt((frame - (uint)(level * sizeof(T))) & mask, Seg.Ss, T.CreateTruncating(frame));
        }

        cpu.Write(Gpr.Rbp, T.CreateTruncating(frame));
        cpu.StackPointer = end;
    }

    /// <summary>The stack pointer takes all of rBP; rBP gets the operand's width.</summary>
    [Spec("SDM", "vol.2A LEAVE")]
    private static void Leave<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        ulong from = cpu.Read<ulong>(Gpr.Rbp) & cpu.StackMask;
        if (cpu.LoadAt(from, Seg.Ss, out T value))
        {
            cpu.StackPointer = from + (uint)sizeof(T);
            cpu.Write(Gpr.Rbp, value);
        }
    }
}
