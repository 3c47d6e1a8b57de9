using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Instructions;

/// <summary>Instructions that do something else in a guest than on the processor at CPL3.</summary>
/// <remarks>
/// Everything that the processor does not refuse at CPL3 runs natively, so with the host's answers where an instruction asks for any. Those rules have nothing to do; each is called
/// where its instruction was executed, so that coverage counts it there and nowhere else.
/// </remarks>
internal static class ChangedInstructions
{
    /// <summary>Runs the payload on the processor until something is pending.</summary>
    public static void RunNatively(X86Engine engine, ref CpuState cpu, CodeBlock code, Tracer? trace)
    {
        cpu.Shown = HostView.None;
        engine.Execute(ref cpu, code, trace);
        if (cpu.Shown != HostView.None)
        {
            Follow(cpu.Shown);
        }
    }

    private static void Follow(HostView shown)
    {
        if ((shown & HostView.Identity) != 0)
        {
            ShowIdentity();
        }

        if ((shown & HostView.Tables) != 0)
        {
            ShowTables();
        }

        if ((shown & HostView.Descriptors) != 0)
        {
            ShowDescriptors();
        }

        if ((shown & HostView.Rights) != 0)
        {
            AccessRights();
        }
    }

    /// <summary>CPUID has the host's answers.</summary>
    [Spec("PVM rfc1", "CPUID")]
    private static void ShowIdentity()
    {
    }

    /// <summary>SGDT, SIDT, SLDT, STR and SMSW have the host's answers where UMIP is not in effect.</summary>
    [Spec("PVM rfc1", "SGDT/SIDT/SLDT/STR/SMSW")]
    private static void ShowTables()
    {
    }

    /// <summary>LAR, LSL, VERR and VERW look at the host's GDT.</summary>
    [Spec("PVM rfc1", "LAR/LSL/VERR/VERW")]
    private static void ShowDescriptors()
    {
    }

    /// <summary>RDPKRU and WRPKRU access the underlying PKRU in both modes.</summary>
    [Spec("PVM rfc1", "RDPKRU/WRPKRU")]
    private static void AccessRights()
    {
    }

    /// <summary>Tells whether supervisor code executed an instruction that the document forbids to it.</summary>
    public static bool IsForbidden(in MicroOp op) => op.Form.Mnemonic()
        is Mnemonic.Stac or Mnemonic.Clac or Mnemonic.Swapgs or Mnemonic.Sysexit or Mnemonic.Sysexitq or Mnemonic.Sysret or Mnemonic.Sysretq;

    /// <summary>What is forbidden to supervisor code is refused by the processor, and that is the guest's fault like others.</summary>
    [Spec("PVM rfc1", "STAC/CLAC, SWAPGS, SYSEXIT, SYSRET")]
    [Spec("pvm-readings", "forbidden-instructions")]
    public static void Forbidden()
    {
    }

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
