using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>MOVNTI, MOVDIRI, MOVDIR64B and CLZERO: stores that bypass the caches, and WAIT.</summary>
/// <remarks>No flag changes. Caches are not modelled, so a non-temporal store is a store.</remarks>
internal static unsafe class DirectStores
{
    private const int Line = 64;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Movnti_m32_r32, &Store<uint>);
        table.Add(Code.Movnti_m64_r64, &Store<ulong>);
        table.Add(Code.Movdiri_m32_r32, &DirectStore<uint>);
        table.Add(Code.Movdiri_m64_r64, &DirectStore<ulong>);
        table.Add(Code.Movdir64b_r16_m512, &MoveLine);
        table.Add(Code.Movdir64b_r32_m512, &MoveLine);
        table.Add(Code.Movdir64b_r64_m512, &MoveLine);
        table.Add(Code.Clzerow, &ZeroLine);
        table.Add(Code.Clzerod, &ZeroLine);
        table.Add(Code.Clzeroq, &ZeroLine);
        table.Add(Code.Wait, &Wait);
    }

    [Spec("SDM", "vol.2B MOVNTI")]
    private static void Store<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Store(in op, cpu.Read<T>(op.Source));

    [Spec("SDM", "vol.2B MOVDIRI")]
    private static void DirectStore<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Store(in op, cpu.Read<T>(op.Source));

    /// <summary>The destination must be aligned to its 64 bytes; the source is read first.</summary>
    [Spec("SDM", "vol.2B MOVDIR64B")]
    private static void MoveLine(ref CpuState cpu, in MicroOp op)
    {
        ulong to = cpu.Read<ulong>(op.Destination) & op.AddressMask;
        ulong from = cpu.LinearAddress(in op);
        if (to % Line != 0)
        {
            cpu.Raise(13);
        }
        else if (cpu.CheckLoad(from, Line, op.Segment) && cpu.CheckStore(to, Line, Seg.Es))
        {
            for (uint at = 0; at < Line; at += sizeof(ulong))
            {
                cpu.LoadAt(from + at, op.Segment, out ulong value);
                cpu.StoreAt(to + at, Seg.Es, value);
            }
        }
    }

    /// <summary>Zeroes the line that holds the address in rAX.</summary>
    [Spec("APM", "vol.3 CLZERO")]
    private static void ZeroLine(ref CpuState cpu, in MicroOp op)
    {
        ulong mask = op.Form == Code.Clzeroq ? ulong.MaxValue : op.Form == Code.Clzerod ? uint.MaxValue : ushort.MaxValue;
        ulong line = ((cpu.Read<ulong>(Gpr.Rax) & mask) + cpu.SegmentBase[op.Segment]) & cpu.LinearMask & ~(ulong)(Line - 1);
        if (cpu.CheckStore(line, Line, op.Segment))
        {
            for (uint at = 0; at < Line; at += sizeof(ulong))
            {
                cpu.StoreAt(line + at, op.Segment, 0UL);
            }
        }
    }

    /// <summary>No floating-point exception is ever pending: the model has no x87 arithmetic. It waits for a task's state where CR0 says so.</summary>
    [Spec("SDM", "vol.2C WAIT/FWAIT")]
    private static void Wait(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.WaitFaults)
        {
            cpu.Raise(7);
        }
    }
}
