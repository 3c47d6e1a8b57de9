using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>NOP, prefetches, fences, cache-line flushes, CET hints with CET off, and the FS and GS base instructions: nothing a program sees, or one base.</summary>
/// <remarks>No flag changes. Hints never touch their operand; flushes check it as a byte load would.</remarks>
internal static unsafe class Nops
{
    /// <summary>Encodings that were no-operations before they got a name, so that a processor without the feature still executes them as such.</summary>
    private static readonly Mnemonic[] Hints =
    [
        Mnemonic.Endbr32, Mnemonic.Endbr64, Mnemonic.Rdsspd, Mnemonic.Rdsspq, Mnemonic.Cldemote, Mnemonic.Prefetch, Mnemonic.Prefetchw, Mnemonic.Prefetchwt1,
        Mnemonic.Prefetchit0, Mnemonic.Prefetchit1,
    ];

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[
            Mnemonic.Nop, Mnemonic.Pause, Mnemonic.Lfence, Mnemonic.Sfence, Mnemonic.Mfence, Mnemonic.Prefetchnta, Mnemonic.Prefetcht0, Mnemonic.Prefetcht1,
            Mnemonic.Prefetcht2, Mnemonic.Serialize, .. Hints])
        {
            table.AddAll(mnemonic, &Nothing);
        }

        foreach (Code code in OpTable.FormsOf(Mnemonic.Reservednop))
        {
            bool prefetch = code is Code.Reservednop_rm16_r16_0F0D or Code.Reservednop_rm32_r32_0F0D or Code.Reservednop_rm64_r64_0F0D;
            if (prefetch && profile.Vendor == CpuVendor.Amd)
            {
                table.Add(code, &RegisterPrefetch, &Nothing);
            }
            else
            {
                table.Add(code, &Nothing);
            }
        }

        table.Add(Code.Ptwrite_rm32, &Nothing, &TraceOperand<uint>);
        table.Add(Code.Ptwrite_rm64, &Nothing, &TraceOperand<ulong>);
        table.AddAll(Mnemonic.Clflush, &FlushLine);
        table.AddAll(Mnemonic.Clflushopt, &FlushLine);
        table.AddAll(Mnemonic.Clwb, &FlushLine);
        table.Add(Code.Rdfsbase_r32, &ReadFs<uint>);
        table.Add(Code.Rdfsbase_r64, &ReadFs<ulong>);
        table.Add(Code.Rdgsbase_r32, &ReadGs<uint>);
        table.Add(Code.Rdgsbase_r64, &ReadGs<ulong>);
        table.Add(Code.Wrfsbase_r32, &WriteFs<uint>);
        table.Add(Code.Wrfsbase_r64, &WriteFs<ulong>);
        table.Add(Code.Wrgsbase_r32, &WriteGs<uint>);
        table.Add(Code.Wrgsbase_r64, &WriteGs<ulong>);
    }

    /// <summary>True for the hints.</summary>
    public static bool IsHint(Mnemonic mnemonic) => Array.IndexOf(Hints, mnemonic) >= 0;

    [Spec("SDM", "vol.2B NOP; vol.2B PREFETCHh; vol.2B SERIALIZE; vol.2A LFENCE; vol.2A ENDBR64; vol.2B RDSSPD/RDSSPQ (CET disabled)")]
    private static void Nothing(ref CpuState cpu, in MicroOp op)
    {
    }

    /// <summary>PREFETCH and PREFETCHW exist for memory only; Intel leaves the register encoding a no-operation.</summary>
    [Spec("APM", "vol.3 PREFETCHx")]
    private static void RegisterPrefetch(ref CpuState cpu, in MicroOp op) => cpu.Raise(6);

    /// <summary>No trace is being taken, but the operand is read.</summary>
    [Spec("SDM", "vol.2B PTWRITE")]
    private static void TraceOperand<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged =>
        cpu.Load(in op, out T _);

    [Spec("SDM", "vol.2A CLFLUSH; CLFLUSHOPT; CLWB")]
    private static void FlushLine(ref CpuState cpu, in MicroOp op) => cpu.Load(in op, out byte _);

    [Spec("SDM", "vol.2B RDFSBASE/RDGSBASE")]
    private static void ReadFs<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, T.CreateTruncating(cpu.SegmentBase[Seg.Fs]));

    [Spec("SDM", "vol.2B RDFSBASE/RDGSBASE")]
    private static void ReadGs<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, T.CreateTruncating(cpu.SegmentBase[Seg.Gs]));

    [Spec("SDM", "vol.2C WRFSBASE/WRGSBASE")]
    private static void WriteFs<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        WriteBase(ref cpu, Seg.Fs, ulong.CreateTruncating(cpu.Read<T>(op.Destination)));

    [Spec("SDM", "vol.2C WRFSBASE/WRGSBASE")]
    private static void WriteGs<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        WriteBase(ref cpu, Seg.Gs, ulong.CreateTruncating(cpu.Read<T>(op.Destination)));

    private static void WriteBase(ref CpuState cpu, byte segment, ulong value)
    {
        if (cpu.Canonical(value))
        {
            cpu.SegmentBase[segment] = value;
            Delivery.UpdateSegment(ref cpu, segment);
        }
        else
        {
            cpu.Raise(13);
        }
    }
}
