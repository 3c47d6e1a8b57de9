using Iced.Intel;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>CLC, STC, CMC, CLD, STD, LAHF, SAHF, CLI and STI.</summary>
internal static unsafe class FlagOps
{
    /// <summary>What SAHF loads and LAHF shows; bit 1 reads as 1.</summary>
    private const uint LowByte = Flags.Carry | Flags.Parity | Flags.Adjust | Flags.Zero | Flags.Sign;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Clc, &ClearCarry);
        table.Add(Code.Stc, &SetCarry);
        table.Add(Code.Cmc, &ComplementCarry);
        table.Add(Code.Cld, &ClearDirection);
        table.Add(Code.Std, &SetDirection);
        table.Add(Code.Lahf, &LoadAh);
        table.Add(Code.Sahf, &StoreAh);
        table.Add(Code.Cli, &ChangeInterruptFlag);
        table.Add(Code.Sti, &ChangeInterruptFlag);
    }

    [Spec("SDM", "vol.2A CLC")]
    private static void ClearCarry(ref CpuState cpu, in MicroOp op) => cpu.Status &= ~Flags.Carry;

    [Spec("SDM", "vol.2B STC")]
    private static void SetCarry(ref CpuState cpu, in MicroOp op) => cpu.Status |= Flags.Carry;

    [Spec("SDM", "vol.2A CMC")]
    private static void ComplementCarry(ref CpuState cpu, in MicroOp op) => cpu.Status ^= Flags.Carry;

    [Spec("SDM", "vol.2A CLD")]
    private static void ClearDirection(ref CpuState cpu, in MicroOp op) => cpu.System &= ~RflagsBits.DF;

    [Spec("SDM", "vol.2B STD")]
    private static void SetDirection(ref CpuState cpu, in MicroOp op) => cpu.System |= RflagsBits.DF;

    [Spec("SDM", "vol.2A LAHF")]
    private static void LoadAh(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Ah, (byte)((cpu.Status & LowByte) | 2));

    /// <summary>OF is kept.</summary>
    [Spec("SDM", "vol.2B SAHF")]
    private static void StoreAh(ref CpuState cpu, in MicroOp op) => cpu.Status = (cpu.Status & Flags.Overflow) | (cpu.Read<byte>(Gpr.Ah) & LowByte);

    /// <summary>#GP(0): CPL is above IOPL, and CR4.PVI is clear.</summary>
    [Spec("SDM", "vol.2A CLI; vol.2B STI")]
    private static void ChangeInterruptFlag(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);
}
