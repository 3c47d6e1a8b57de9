using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>AADD, AAND, AOR and AXOR (RAO-INT), and CMPccXADD: atomic updates of an aligned operand in memory.</summary>
/// <remarks>RAO-INT changes no flag; CMPccXADD sets all six as CMP of the old memory with the second operand.</remarks>
internal static unsafe class MemoryAtomics
{
    private static readonly Code[] Conditional32 =
    [
        Code.VEX_Cmpoxadd_m32_r32_r32, Code.VEX_Cmpnoxadd_m32_r32_r32, Code.VEX_Cmpbxadd_m32_r32_r32, Code.VEX_Cmpnbxadd_m32_r32_r32,
        Code.VEX_Cmpzxadd_m32_r32_r32, Code.VEX_Cmpnzxadd_m32_r32_r32, Code.VEX_Cmpbexadd_m32_r32_r32, Code.VEX_Cmpnbexadd_m32_r32_r32,
        Code.VEX_Cmpsxadd_m32_r32_r32, Code.VEX_Cmpnsxadd_m32_r32_r32, Code.VEX_Cmppxadd_m32_r32_r32, Code.VEX_Cmpnpxadd_m32_r32_r32,
        Code.VEX_Cmplxadd_m32_r32_r32, Code.VEX_Cmpnlxadd_m32_r32_r32, Code.VEX_Cmplexadd_m32_r32_r32, Code.VEX_Cmpnlexadd_m32_r32_r32,
    ];

    private static readonly Code[] Conditional64 =
    [
        Code.VEX_Cmpoxadd_m64_r64_r64, Code.VEX_Cmpnoxadd_m64_r64_r64, Code.VEX_Cmpbxadd_m64_r64_r64, Code.VEX_Cmpnbxadd_m64_r64_r64,
        Code.VEX_Cmpzxadd_m64_r64_r64, Code.VEX_Cmpnzxadd_m64_r64_r64, Code.VEX_Cmpbexadd_m64_r64_r64, Code.VEX_Cmpnbexadd_m64_r64_r64,
        Code.VEX_Cmpsxadd_m64_r64_r64, Code.VEX_Cmpnsxadd_m64_r64_r64, Code.VEX_Cmppxadd_m64_r64_r64, Code.VEX_Cmpnpxadd_m64_r64_r64,
        Code.VEX_Cmplxadd_m64_r64_r64, Code.VEX_Cmpnlxadd_m64_r64_r64, Code.VEX_Cmplexadd_m64_r64_r64, Code.VEX_Cmpnlexadd_m64_r64_r64,
    ];

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Aadd_m32_r32, &Update<uint>);
        table.Add(Code.Aadd_m64_r64, &Update<ulong>);
        table.Add(Code.Aand_m32_r32, &Update<uint>);
        table.Add(Code.Aand_m64_r64, &Update<ulong>);
        table.Add(Code.Aor_m32_r32, &Update<uint>);
        table.Add(Code.Aor_m64_r64, &Update<ulong>);
        table.Add(Code.Axor_m32_r32, &Update<uint>);
        table.Add(Code.Axor_m64_r64, &Update<ulong>);
        for (int condition = 0; condition < Conditional32.Length; condition++)
        {
            table.Add(Conditional32[condition], &CompareAndAdd<uint>);
            table.Add(Conditional64[condition], &CompareAndAdd<ulong>);
        }
    }

    /// <summary>An operand that is not aligned to its size is #GP(0).</summary>
    private static bool Aligned<T>(ref CpuState cpu, ulong address)
        where T : unmanaged
    {
        bool aligned = (address & ((uint)sizeof(T) - 1)) == 0;
        if (!aligned)
        {
            cpu.Raise(13);
        }

        return aligned;
    }

    [Spec("SDM", "vol.2A AADD; AAND; AOR; AXOR")]
    private static void Update<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (!Aligned<T>(ref cpu, address) || !cpu.LoadForUpdateAt(address, op.Segment, out T old))
        {
            return;
        }

        T source = cpu.Read<T>(op.Source);
        T result = op.Form.Mnemonic() switch
        {
            Mnemonic.Aadd => unchecked(old + source),
            Mnemonic.Aand => old & source,
            Mnemonic.Aor => old | source,
            _ => old ^ source,
        };
        cpu.StoreAt(address, op.Segment, result);
    }

    /// <summary>Compares memory with the second operand, adds the third where the condition holds, and gives the second what memory held. The store is always done.</summary>
    [Spec("SDM", "vol.2A CMPccXADD; vol.2A Exceptions Type 14")]
    private static void CompareAndAdd<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        ulong address = cpu.LinearAddress(in op);
        if (!Aligned<T>(ref cpu, address) || !cpu.LoadForUpdateAt(address, op.Segment, out T old))
        {
            return;
        }

        T compared = cpu.Read<T>(op.Source);
        T added = cpu.Read<T>(op.Third);
        int condition = Array.IndexOf(sizeof(T) == sizeof(uint) ? Conditional32 : Conditional64, op.Form);
        cpu.Status = Flags.OfDifference(old, compared, unchecked(old - compared), borrow: old < compared);
        cpu.StoreAt(address, op.Segment, Flags.Holds(condition, cpu.Status) ? unchecked(old + added) : old);
        cpu.Write(op.Source, old);
    }
}
