using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>AAA, AAS, AAM, AAD, DAA, DAS and SALC. They exist in compatibility mode only.</summary>
/// <remarks>Undefined flags (OF after all of them; SF, ZF and PF after AAA and AAS; CF and AF after AAM and AAD) keep their value.</remarks>
internal static unsafe class Bcd
{
    private const uint OfAl = Flags.Sign | Flags.Zero | Flags.Parity;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Aaa, &AsciiAdjustAfterAddition);
        table.Add(Code.Aas, &AsciiAdjustAfterSubtraction);
        table.Add(Code.Aam_imm8, &AsciiAdjustAfterMultiply);
        table.Add(Code.Aad_imm8, &AsciiAdjustBeforeDivision);
        table.Add(Code.Daa, &DecimalAdjustAfterAddition);
        table.Add(Code.Das, &DecimalAdjustAfterSubtraction);
        table.Add(Code.Salc, &SetAlOnCarry);
    }

    /// <summary>The addition is one of 16 bits, so AL carries into AH.</summary>
    [Spec("SDM", "vol.2A AAA")]
    [Spec("APM", "vol.3 AAA")]
    private static void AsciiAdjustAfterAddition(ref CpuState cpu, in MicroOp op) => AsciiAdjust(ref cpu, 0x106);

    /// <summary>The subtraction is one of 16 bits, so AL borrows from AH.</summary>
    [Spec("SDM", "vol.2A AAS")]
    [Spec("APM", "vol.3 AAS")]
    private static void AsciiAdjustAfterSubtraction(ref CpuState cpu, in MicroOp op) => AsciiAdjust(ref cpu, -0x106);

    private static void AsciiAdjust(ref CpuState cpu, int correction)
    {
        ushort ax = cpu.Read<ushort>(Gpr.Rax);
        if (NeedsLowDigit((byte)ax, cpu.Status))
        {
            ax = (ushort)(ax + correction);
            cpu.Status |= Flags.Adjust | Flags.Carry;
        }
        else
        {
            cpu.Status &= ~(Flags.Adjust | Flags.Carry);
        }

        cpu.Write(Gpr.Rax, (ushort)(ax & 0xff0f));
    }

    [Spec("SDM", "vol.2A AAM; vol.3A 6.15 Interrupt 0, Divide Error Exception (#DE)")]
    [Spec("APM", "vol.3 AAM")]
    private static void AsciiAdjustAfterMultiply(ref CpuState cpu, in MicroOp op)
    {
        byte radix = (byte)op.Immediate;
        if (radix == 0)
        {
            cpu.Raise(0);
            return;
        }

        byte al = cpu.Read<byte>(Gpr.Rax);
        cpu.Write(Gpr.Ah, (byte)(al / radix));
        WriteAl(ref cpu, (byte)(al % radix));
    }

    [Spec("SDM", "vol.2A AAD")]
    [Spec("APM", "vol.3 AAD")]
    private static void AsciiAdjustBeforeDivision(ref CpuState cpu, in MicroOp op)
    {
        byte al = (byte)(cpu.Read<byte>(Gpr.Rax) + (cpu.Read<byte>(Gpr.Ah) * (byte)op.Immediate));
        cpu.Write<byte>(Gpr.Ah, 0);
        WriteAl(ref cpu, al);
    }

    /// <summary>CF comes from the upper digit alone: a carry out of the lower correction implies that the upper one is due.</summary>
    [Spec("SDM", "vol.2A DAA")]
    [Spec("APM", "vol.3 DAA")]
    private static void DecimalAdjustAfterAddition(ref CpuState cpu, in MicroOp op)
    {
        byte old = cpu.Read<byte>(Gpr.Rax);
        bool low = NeedsLowDigit(old, cpu.Status);
        bool high = NeedsHighDigit(old, cpu.Status);
        SetCarries(ref cpu, adjust: low, carry: high);
        WriteAl(ref cpu, (byte)(old + (low ? 6 : 0) + (high ? 0x60 : 0)));
    }

    /// <summary>CF is also set by a borrow out of the lower correction alone, as of AL 0 to 5 with AF.</summary>
    [Spec("SDM", "vol.2A DAS")]
    [Spec("APM", "vol.3 DAS")]
    private static void DecimalAdjustAfterSubtraction(ref CpuState cpu, in MicroOp op)
    {
        byte old = cpu.Read<byte>(Gpr.Rax);
        bool low = NeedsLowDigit(old, cpu.Status);
        bool high = NeedsHighDigit(old, cpu.Status);
        SetCarries(ref cpu, adjust: low, carry: high || (low && old < 6));
        WriteAl(ref cpu, (byte)(old - (low ? 6 : 0) - (high ? 0x60 : 0)));
    }

    /// <summary>AL becomes all ones or all zeros. No manual describes the result; that the opcode is valid is all they say.</summary>
    [Spec("SDM", "vol.3B 22.15 Undefined Opcodes (D6, SALC)")]
    private static void SetAlOnCarry(ref CpuState cpu, in MicroOp op) => cpu.Write(Gpr.Rax, (cpu.Status & Flags.Carry) != 0 ? byte.MaxValue : byte.MinValue);

    private static bool NeedsLowDigit(byte al, uint status) => (al & 0xf) > 9 || (status & Flags.Adjust) != 0;

    private static bool NeedsHighDigit(byte al, uint status) => al > 0x99 || (status & Flags.Carry) != 0;

    private static void SetCarries(ref CpuState cpu, bool adjust, bool carry) =>
        cpu.Status = (cpu.Status & ~(Flags.Adjust | Flags.Carry)) | (adjust ? Flags.Adjust : 0) | (carry ? Flags.Carry : 0);

    private static void WriteAl(ref CpuState cpu, byte al)
    {
        cpu.Write(Gpr.Rax, al);
        cpu.Status = (cpu.Status & ~OfAl) | (Flags.OfResult(al) & OfAl);
    }
}
