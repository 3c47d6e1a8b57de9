using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>Near JMP, CALL and RET, Jcc, LOOP and JrCXZ.</summary>
/// <remarks>
/// No flag changes. A target that is not canonical raises #GP(0) at the branch. With prefix 66 in 64-bit mode AMD truncates RIP to 16 bits and Intel ignores the
/// prefix; the decoder knows the vendor, so that the difference lies in which forms it gives.
/// </remarks>
internal static unsafe class Branches
{
    /// <summary>A condition code, by its number in the low four opcode bits.</summary>
    private interface ICondition
    {
        /// <summary>0 to 15.</summary>
        static abstract int Number { get; }
    }

    /// <summary>What LOOP asks besides the count.</summary>
    private interface ILoop
    {
        /// <summary>True to go on.</summary>
        static abstract bool Continues(uint status);
    }

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Jmp_rel8_16, &JumpRelative);
        table.Add(Code.Jmp_rel8_32, &JumpRelative);
        table.Add(Code.Jmp_rel8_64, &JumpRelative);
        table.Add(Code.Jmp_rel16, &JumpRelative);
        table.Add(Code.Jmp_rel32_32, &JumpRelative);
        table.Add(Code.Jmp_rel32_64, &JumpRelative);
        table.Add(Code.Jmp_rm16, &JumpReg<ushort>, &JumpMem<ushort>);
        table.Add(Code.Jmp_rm32, &JumpReg<uint>, &JumpMem<uint>);
        table.Add(Code.Jmp_rm64, &JumpReg<ulong>, &JumpMem<ulong>);
        table.Add(Code.Call_rel16, &CallRelative<ushort>);
        table.Add(Code.Call_rel32_32, &CallRelative<uint>);
        table.Add(Code.Call_rel32_64, &CallRelative<ulong>);
        table.Add(Code.Call_rm16, &CallReg<ushort>, &CallMem<ushort>);
        table.Add(Code.Call_rm32, &CallReg<uint>, &CallMem<uint>);
        table.Add(Code.Call_rm64, &CallReg<ulong>, &CallMem<ulong>);
        table.Add(Code.Retnw, &Return<ushort>);
        table.Add(Code.Retnd, &Return<uint>);
        table.Add(Code.Retnq, &Return<ulong>);
        table.Add(Code.Retnw_imm16, &Return<ushort>);
        table.Add(Code.Retnd_imm16, &Return<uint>);
        table.Add(Code.Retnq_imm16, &Return<ulong>);

        Conditional<Overflow>(table, Code.Jo_rel8_16, Code.Jo_rel16);
        Conditional<Below>(table, Code.Jb_rel8_16, Code.Jb_rel16);
        Conditional<Equal>(table, Code.Je_rel8_16, Code.Je_rel16);
        Conditional<BelowOrEqual>(table, Code.Jbe_rel8_16, Code.Jbe_rel16);
        Conditional<Sign>(table, Code.Js_rel8_16, Code.Js_rel16);
        Conditional<Parity>(table, Code.Jp_rel8_16, Code.Jp_rel16);
        Conditional<Less>(table, Code.Jl_rel8_16, Code.Jl_rel16);
        Conditional<LessOrEqual>(table, Code.Jle_rel8_16, Code.Jle_rel16);

        Loops<Always>(table, Code.Loop_rel8_16_CX);
        Loops<WhileEqual>(table, Code.Loope_rel8_16_CX);
        Loops<WhileNotEqual>(table, Code.Loopne_rel8_16_CX);
        table.Add(Code.Jcxz_rel8_16, &JumpIfCountZero<ushort>);
        table.Add(Code.Jcxz_rel8_32, &JumpIfCountZero<ushort>);
        table.Add(Code.Jecxz_rel8_16, &JumpIfCountZero<uint>);
        table.Add(Code.Jecxz_rel8_32, &JumpIfCountZero<uint>);
        table.Add(Code.Jecxz_rel8_64, &JumpIfCountZero<uint>);
        table.Add(Code.Jrcxz_rel8_16, &JumpIfCountZero<ulong>);
        table.Add(Code.Jrcxz_rel8_64, &JumpIfCountZero<ulong>);
    }

    /// <summary>Goes to an address, or raises #GP(0).</summary>
    /// <returns>False after raising the fault.</returns>
    [Spec("SDM", "vol.2A JMP; vol.1 3.3.7.1 Canonical Addressing")]
    public static bool Jump(ref CpuState cpu, ulong target)
    {
        if (!cpu.Canonical(target))
        {
            cpu.Raise(13);
            return false;
        }

        cpu.Rip = target;
        return true;
    }

    /// <summary>A condition and its negation, each with a short and a near form. Iced numbers 16-, 32- and 64-bit forms in a row, and the negation after them.</summary>
    private static void Conditional<TCondition>(OpTable table, Code rel8, Code rel16)
        where TCondition : struct, ICondition
    {
        for (int i = 0; i < 3; i++)
        {
            table.Add(rel8 + i, &JumpIf<TCondition>);
            table.Add(rel8 + 3 + i, &JumpIf<Not<TCondition>>);
            table.Add(rel16 + i, &JumpIf<TCondition>);
            table.Add(rel16 + 3 + i, &JumpIf<Not<TCondition>>);
        }
    }

    /// <summary>The seven forms of a loop, as Iced numbers them: CX twice, ECX three times, RCX twice.</summary>
    private static void Loops<TLoop>(OpTable table, Code first)
        where TLoop : struct, ILoop
    {
        table.Add(first, &Loop<TLoop, ushort>);
        table.Add(first + 1, &Loop<TLoop, ushort>);
        table.Add(first + 2, &Loop<TLoop, uint>);
        table.Add(first + 3, &Loop<TLoop, uint>);
        table.Add(first + 4, &Loop<TLoop, uint>);
        table.Add(first + 5, &Loop<TLoop, ulong>);
        table.Add(first + 6, &Loop<TLoop, ulong>);
    }

    /// <summary>The decoder has truncated the target to the operand size.</summary>
    [Spec("SDM", "vol.2A JMP")]
    [Spec("APM", "vol.3 JMP (Near)")]
    private static void JumpRelative(ref CpuState cpu, in MicroOp op) => Jump(ref cpu, op.Immediate);

    [Spec("SDM", "vol.2A JMP")]
    private static void JumpReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        Jump(ref cpu, ulong.CreateTruncating(cpu.Read<T>(op.Destination)));

    [Spec("SDM", "vol.2A JMP")]
    private static void JumpMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Load(in op, out T target))
        {
            Jump(ref cpu, ulong.CreateTruncating(target));
        }
    }

    [Spec("SDM", "vol.2A CALL")]
    private static void CallRelative<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        Call<T>(ref cpu, op.Immediate);

    [Spec("SDM", "vol.2A CALL")]
    private static void CallReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        Call<T>(ref cpu, ulong.CreateTruncating(cpu.Read<T>(op.Destination)));

    [Spec("SDM", "vol.2A CALL")]
    private static void CallMem<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Load(in op, out T target))
        {
            Call<T>(ref cpu, ulong.CreateTruncating(target));
        }
    }

    /// <summary>Pushes the return address with the operand's width and goes to the target.</summary>
    /// <remarks>When the stack and the target are both bad, AMD's manual lets the push fail first and Intel's the target. Neither leaves RSP changed.</remarks>
    [Spec("SDM", "vol.2A CALL (near)")]
    [Spec("APM", "vol.3 CALL (Near)")]
    private static void Call<T>(ref CpuState cpu, ulong target)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Canonical(target))
        {
            if (cpu.Push(T.CreateTruncating(cpu.Rip)))
            {
                cpu.Rip = target;
            }
        }
        else if (cpu.Profile.Vendor == CpuVendor.Intel
            || cpu.CheckStore((cpu.StackPointer - (uint)sizeof(T)) & cpu.StackMask, sizeof(T), Seg.Ss))
        {
            cpu.Raise(13);
        }
    }

    /// <summary>The immediate is 0 in the form without one.</summary>
    [Spec("SDM", "vol.2B RET (near)")]
    private static void Return<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Peek(out T target) && Jump(ref cpu, ulong.CreateTruncating(target)))
        {
            cpu.StackPointer += (uint)sizeof(T) + (op.Immediate & ushort.MaxValue);
        }
    }

    /// <summary>RIP is not truncated when the jump is not taken.</summary>
    [Spec("SDM", "vol.2A Jcc")]
    private static void JumpIf<TCondition>(ref CpuState cpu, in MicroOp op)
        where TCondition : struct, ICondition
    {
        if (Flags.Holds(TCondition.Number, cpu.Status))
        {
            Jump(ref cpu, op.Immediate);
        }
    }

    /// <summary>The address size says which count register goes down; a faulting jump leaves it as it was.</summary>
    [Spec("SDM", "vol.2A LOOP/LOOPcc")]
    private static void Loop<TLoop, T>(ref CpuState cpu, in MicroOp op)
        where TLoop : struct, ILoop
        where T : unmanaged, IBinaryInteger<T>
    {
        T count = unchecked(cpu.Read<T>(Gpr.Rcx) - T.One);
        if (count == T.Zero || !TLoop.Continues(cpu.Status) || Jump(ref cpu, op.Immediate))
        {
            cpu.Write(Gpr.Rcx, count);
        }
    }

    [Spec("SDM", "vol.2A Jcc (JCXZ, JECXZ, JRCXZ)")]
    private static void JumpIfCountZero<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Read<T>(Gpr.Rcx) == T.Zero)
        {
            Jump(ref cpu, op.Immediate);
        }
    }

    private readonly struct Not<TCondition> : ICondition
        where TCondition : struct, ICondition
    {
        public static int Number => TCondition.Number + 1;
    }

    private readonly struct Overflow : ICondition
    {
        public static int Number => 0;
    }

    private readonly struct Below : ICondition
    {
        public static int Number => 2;
    }

    private readonly struct Equal : ICondition
    {
        public static int Number => 4;
    }

    private readonly struct BelowOrEqual : ICondition
    {
        public static int Number => 6;
    }

    private readonly struct Sign : ICondition
    {
        public static int Number => 8;
    }

    private readonly struct Parity : ICondition
    {
        public static int Number => 10;
    }

    private readonly struct Less : ICondition
    {
        public static int Number => 12;
    }

    private readonly struct LessOrEqual : ICondition
    {
        public static int Number => 14;
    }

    private readonly struct Always : ILoop
    {
        public static bool Continues(uint status) => true;
    }

    private readonly struct WhileEqual : ILoop
    {
        public static bool Continues(uint status) => (status & Flags.Zero) != 0;
    }

    private readonly struct WhileNotEqual : ILoop
    {
        public static bool Continues(uint status) => (status & Flags.Zero) == 0;
    }
}
