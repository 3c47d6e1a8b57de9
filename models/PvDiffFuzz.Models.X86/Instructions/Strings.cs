using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>MOVS, CMPS, SCAS, LODS and STOS with their repeat prefixes.</summary>
/// <remarks>
/// <para>MOVS, LODS and STOS change no flag; either repeat prefix repeats them. A fault leaves the count and the pointers as the last complete iteration left them.</para>
/// <para>With TF set each iteration traps; the frame shows RF for every one but the last. Each iteration after the first costs one of the budget.</para>
/// </remarks>
internal static unsafe class Strings
{
    /// <summary>One iteration of a string instruction.</summary>
    private interface IStringOp
    {
        /// <summary>True when rSI points at the source.</summary>
        static abstract bool UsesSource { get; }

        /// <summary>True when rDI points at the destination, or at the second source of CMPS and SCAS.</summary>
        static abstract bool UsesDestination { get; }

        /// <summary>True when ZF ends a repetition early.</summary>
        static abstract bool Compares { get; }

        /// <summary>Does it at linear addresses.</summary>
        /// <returns>False after raising a fault.</returns>
        static abstract bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>;
    }

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        Widths<MoveString>(table, Code.Movsb_m8_m8);
        Widths<CompareStrings>(table, Code.Cmpsb_m8_m8);
        Widths<StoreString>(table, Code.Stosb_m8_AL);
        Widths<LoadString>(table, Code.Lodsb_AL_m8);
        Widths<ScanString>(table, Code.Scasb_AL_m8);
    }

    /// <summary>Iced numbers the four widths in a row.</summary>
    private static void Widths<TOp>(OpTable table, Code first)
        where TOp : struct, IStringOp
    {
        table.Add(first, &Run<TOp, byte>);
        table.Add(first + 1, &Run<TOp, ushort>);
        table.Add(first + 2, &Run<TOp, uint>);
        table.Add(first + 3, &Run<TOp, ulong>);
    }

    private static void Run<TOp, T>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IStringOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
    {
        switch (op.AddressSize)
        {
            case 8:
                Run<TOp, T, ulong>(ref cpu, in op);
                break;
            case 4:
                Run<TOp, T, uint>(ref cpu, in op);
                break;
            default:
                Run<TOp, T, ushort>(ref cpu, in op);
                break;
        }
    }

    private static void Run<TOp, T, TAddress>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IStringOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        where TAddress : unmanaged, IBinaryInteger<TAddress>
    {
        if ((op.Flags & (OpFlags.Rep | OpFlags.Repne)) == 0)
        {
            Once<TOp, T, TAddress>(ref cpu, in op);
        }
        else if (cpu.Read<TAddress>(Gpr.Rcx) == TAddress.Zero)
        {
            SkipAll<TOp, TAddress>(ref cpu);
        }
        else
        {
            Repeat<TOp, T, TAddress>(ref cpu, in op);
        }
    }

    /// <summary>Repeats until the count is 0, a comparison ends it, something is raised, a #DB trap is due or the budget is spent.</summary>
    [Spec("SDM", "vol.2B REP/REPE/REPZ/REPNE/REPNZ; vol.3B 17.3.1.4 Single-Step Exception Condition; 17.3.1.1 Instruction-Breakpoint Exception Condition (RF between iterations)")]
    private static void Repeat<TOp, T, TAddress>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IStringOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        where TAddress : unmanaged, IBinaryInteger<TAddress>
    {
        uint goOn = (op.Flags & OpFlags.Rep) != 0 ? Flags.Zero : 0;
        TAddress count = cpu.Read<TAddress>(Gpr.Rcx);
        cpu.Repeating = false;
        while (Once<TOp, T, TAddress>(ref cpu, in op))
        {
            cpu.Write(Gpr.Rcx, --count);
            if (count == TAddress.Zero || (TOp.Compares && (cpu.Status & Flags.Zero) != goOn))
            {
                return;
            }

            if (cpu.TrapDue)
            {
                cpu.Repeating = true;
                cpu.Rip = cpu.InstructionRip;
                return;
            }

            if (--cpu.Budget < 0)
            {
                cpu.Rip = cpu.InstructionRip;
                return;
            }
        }
    }

    /// <summary>A count of 0 does nothing, except that Intel zero-extends what it would have written with 32-bit addresses.</summary>
    [Spec("SDM", "vol.2B REP/REPE/REPZ/REPNE/REPNZ; vol.1 3.4.1.1 General-Purpose Registers in 64-Bit Mode")]
    [Spec("APM", "vol.3 1.2.6 Repeat Prefixes")]
    [Spec("x86-readings", "rep-zero-count")]
    private static void SkipAll<TOp, TAddress>(ref CpuState cpu)
        where TOp : struct, IStringOp
        where TAddress : unmanaged
    {
        if (sizeof(TAddress) != sizeof(uint) || cpu.Profile.Vendor == CpuVendor.Amd)
        {
            return;
        }

        cpu.Write(Gpr.Rcx, 0u);
        if (TOp.UsesDestination && !TOp.Compares)
        {
            cpu.Write(Gpr.Rdi, cpu.Read<uint>(Gpr.Rdi));
            if (TOp.UsesSource)
            {
                cpu.Write(Gpr.Rsi, cpu.Read<uint>(Gpr.Rsi));
            }
        }
    }

    /// <summary>One iteration: the operation, then the pointers move by the width, downwards when DF is set.</summary>
    private static bool Once<TOp, T, TAddress>(ref CpuState cpu, in MicroOp op)
        where TOp : struct, IStringOp
        where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        where TAddress : unmanaged, IBinaryInteger<TAddress>
    {
        TAddress from = TOp.UsesSource ? cpu.Read<TAddress>(Gpr.Rsi) : TAddress.Zero;
        TAddress to = TOp.UsesDestination ? cpu.Read<TAddress>(Gpr.Rdi) : TAddress.Zero;
        ulong source = (ulong.CreateTruncating(from) + cpu.SegmentBase[op.Segment]) & cpu.LinearMask;
        ulong destination = (ulong.CreateTruncating(to) + cpu.SegmentBase[Seg.Es]) & cpu.LinearMask;
        if (!TOp.Apply<T>(ref cpu, op.Segment, source, destination))
        {
            return false;
        }

        TAddress step = TAddress.CreateTruncating((cpu.System & RflagsBits.DF) != 0 ? -sizeof(T) : sizeof(T));
        if (TOp.UsesSource)
        {
            cpu.Write(Gpr.Rsi, unchecked(from + step));
        }

        if (TOp.UsesDestination)
        {
            cpu.Write(Gpr.Rdi, unchecked(to + step));
        }

        return true;
    }

    [Spec("SDM", "vol.2B MOVS/MOVSB/MOVSW/MOVSD/MOVSQ")]
    private readonly struct MoveString : IStringOp
    {
        public static bool UsesSource => true;

        public static bool UsesDestination => true;

        public static bool Compares => false;

        public static bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            cpu.LoadAt(source, segment, out T value) && cpu.StoreAt(destination, Seg.Es, value);
    }

    /// <summary>Subtracts the rDI operand from the rSI operand. No manual orders the two loads; the rDI one comes first here.</summary>
    [Spec("SDM", "vol.2A CMPS/CMPSB/CMPSW/CMPSD/CMPSQ")]
    [Spec("x86-readings", "cmps-order")]
    private readonly struct CompareStrings : IStringOp
    {
        public static bool UsesSource => true;

        public static bool UsesDestination => true;

        public static bool Compares => true;

        public static bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            if (!cpu.LoadAt(destination, Seg.Es, out T second) || !cpu.LoadAt(source, segment, out T first))
            {
                return false;
            }

            cpu.Status = Flags.OfDifference(first, second, unchecked(first - second), borrow: first < second);
            return true;
        }
    }

    [Spec("SDM", "vol.2B SCAS/SCASB/SCASW/SCASD")]
    private readonly struct ScanString : IStringOp
    {
        public static bool UsesSource => false;

        public static bool UsesDestination => true;

        public static bool Compares => true;

        public static bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            if (!cpu.LoadAt(destination, Seg.Es, out T second))
            {
                return false;
            }

            T first = cpu.Read<T>(Gpr.Rax);
            cpu.Status = Flags.OfDifference(first, second, unchecked(first - second), borrow: first < second);
            return true;
        }
    }

    [Spec("SDM", "vol.2A LODS/LODSB/LODSW/LODSD/LODSQ")]
    private readonly struct LoadString : IStringOp
    {
        public static bool UsesSource => true;

        public static bool UsesDestination => false;

        public static bool Compares => false;

        public static bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T>
        {
            if (!cpu.LoadAt(source, segment, out T value))
            {
                return false;
            }

            cpu.Write(Gpr.Rax, value);
            return true;
        }
    }

    [Spec("SDM", "vol.2B STOS/STOSB/STOSW/STOSD/STOSQ")]
    private readonly struct StoreString : IStringOp
    {
        public static bool UsesSource => false;

        public static bool UsesDestination => true;

        public static bool Compares => false;

        public static bool Apply<T>(ref CpuState cpu, byte segment, ulong source, ulong destination)
            where T : unmanaged, IBinaryInteger<T>, IUnsignedNumber<T> =>
            cpu.StoreAt(destination, Seg.Es, cpu.Read<T>(Gpr.Rax));
    }
}
