using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Instructions;

/// <summary>Instructions that do something else in a guest than on the processor at CPL3.</summary>
/// <remarks>The others of the chapter run as on the processor: CPUID, SGDT and the like with the host's answers, LAR and the like on the host's GDT, RDPKRU and WRPKRU on the underlying PKRU.</remarks>
internal static class ChangedInstructions
{
    /// <summary>Everything that the processor does not refuse at CPL3 runs natively, so with the host's answers where an instruction asks for any.</summary>
    /// <remarks>Instructions that the document forbids to supervisor code, such as SWAPGS, are refused by the processor like others.</remarks>
    [Spec("PVM rfc1", "CPUID")]
    [Spec("PVM rfc1", "SGDT/SIDT/SLDT/STR/SMSW")]
    [Spec("PVM rfc1", "LAR/LSL/VERR/VERW")]
    [Spec("PVM rfc1", "RDPKRU/WRPKRU")]
    [Spec("PVM rfc1", "STAC/CLAC, SWAPGS, SYSEXIT, SYSRET")]
    [Spec("pvm-readings", "forbidden-instructions")]
    public static void RunNatively(X86Engine engine, ref CpuState cpu, CodeBlock code, Tracer? trace) => engine.Execute(ref cpu, code, trace);

    /// <summary>SYSENTER is #GP on every processor.</summary>
    [Spec("PVM rfc1", "SYSENTER")]
    public static void Sysenter(ref CpuState cpu)
    {
        cpu.Rip = cpu.InstructionRip;
        cpu.Raise(13);
    }

    /// <summary>Tells whether what is pending comes from an INT n with its vector as an operand.</summary>
    public static bool IsInt(ref CpuState cpu, in MicroOp op) => op.Form == Code.Int_imm8 && cpu.Pending is (PendingKind.Fault or PendingKind.Trap) && cpu.PendingVector != 1;

    /// <summary>INT 3 and INT 80h are allowed, every other number is #GP, whatever gates the processor has.</summary>
    [Spec("PVM rfc1", "INT n")]
    [Spec("pvm-readings", "int-4")]
    [Spec("pvm-readings", "int-n-error-code")]
    public static void Interrupt<TAbi>(ref CpuState cpu, in MicroOp op)
        where TAbi : struct, IPvmAbi
    {
        byte vector = (byte)op.Immediate;
        if (vector is 3 or 0x80 || (vector == 4 && TAbi.AllowsInt4))
        {
            cpu.Rip = cpu.InstructionRip + op.Length;
            cpu.Trap(vector);
        }
        else
        {
            cpu.Rip = cpu.InstructionRip;
            cpu.Raise(13, TAbi.ErrorOfRefusedInt(vector));
        }
    }
}
