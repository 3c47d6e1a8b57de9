using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>What CPL3 may not do: #GP(0), or #UD where the manuals put it before the privilege check. No operand is touched.</summary>
/// <remarks>
/// Assumes what every supported system has: IOPL 0 and no I/O bitmap, CR4.PCE, CR4.VMXE, CR4.SMXE, CR4.DE, CR4.UINTR and CR4.FRED clear, EFER.SVME and EFER.MCOMMIT
/// clear, CET off, no SEV-SNP, no trust domain, no PASID (ENQCMD is #GP(0) without one). Forms whose CPUID feature the profile lacks raise #UD through the table.
/// </remarks>
internal static unsafe class Privileged
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[
            Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd, Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd])
        {
            table.AddAll(mnemonic, &PortAccess);
        }

        foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[
            Mnemonic.Hlt, Mnemonic.Clts, Mnemonic.Invd, Mnemonic.Wbinvd, Mnemonic.Wbnoinvd, Mnemonic.Invlpg, Mnemonic.Rdmsr, Mnemonic.Wrmsr, Mnemonic.Swapgs,
            Mnemonic.Lgdt, Mnemonic.Lidt, Mnemonic.Lldt, Mnemonic.Ltr, Mnemonic.Lmsw, Mnemonic.Invpcid, Mnemonic.Xsaves, Mnemonic.Xsaves64, Mnemonic.Xrstors,
            Mnemonic.Xrstors64, Mnemonic.Rdpmc, Mnemonic.Pconfig, Mnemonic.Lkgs, Mnemonic.Wrmsrns, Mnemonic.Invlpgb, Mnemonic.Tlbsync,
            Mnemonic.Enqcmd, Mnemonic.Enqcmds, Mnemonic.Hreset, Mnemonic.Pbndkb, Mnemonic.Rdmsrlist, Mnemonic.Wrmsrlist])
        {
            table.AddAll(mnemonic, &Refused);
        }

        foreach (Code code in (ReadOnlySpan<Code>)[
            Code.Mov_r32_cr, Code.Mov_r64_cr, Code.Mov_cr_r32, Code.Mov_cr_r64, Code.Mov_r32_dr, Code.Mov_r64_dr, Code.Mov_dr_r32, Code.Mov_dr_r64])
        {
            // The decoder refuses register numbers that do not exist, which is #UD.
            table.Add(code, &Refused);
        }

        foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[
            Mnemonic.Monitor, Mnemonic.Mwait, Mnemonic.Stac, Mnemonic.Clac, Mnemonic.Getsec, Mnemonic.Getsecq, Mnemonic.Encls, Mnemonic.Enclv,
            Mnemonic.Vmcall, Mnemonic.Vmlaunch, Mnemonic.Vmresume, Mnemonic.Vmxoff, Mnemonic.Vmxon, Mnemonic.Vmread, Mnemonic.Vmwrite, Mnemonic.Vmptrld,
            Mnemonic.Vmptrst, Mnemonic.Vmclear, Mnemonic.Vmfunc, Mnemonic.Invept, Mnemonic.Invvpid,
            Mnemonic.Vmmcall, Mnemonic.Vmrun, Mnemonic.Vmload, Mnemonic.Vmsave, Mnemonic.Stgi, Mnemonic.Clgi, Mnemonic.Skinit, Mnemonic.Invlpga, Mnemonic.Vmgexit,
            Mnemonic.Rstorssp, Mnemonic.Saveprevssp, Mnemonic.Setssbsy, Mnemonic.Clrssbsy, Mnemonic.Incsspd, Mnemonic.Incsspq, Mnemonic.Wrssd, Mnemonic.Wrssq,
            Mnemonic.Wrussd, Mnemonic.Wrussq,
            Mnemonic.Clui, Mnemonic.Stui, Mnemonic.Testui, Mnemonic.Uiret, Mnemonic.Senduipi, Mnemonic.Erets, Mnemonic.Eretu, Mnemonic.Seamcall, Mnemonic.Seamops,
            Mnemonic.Seamret, Mnemonic.Tdcall, Mnemonic.Rmpadjust, Mnemonic.Rmpupdate, Mnemonic.Rmpquery, Mnemonic.Psmash, Mnemonic.Pvalidate, Mnemonic.Mcommit])
        {
            table.AddAll(mnemonic, &NotEnabled);
        }

        foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[
            Mnemonic.Xstore, Mnemonic.Xstore_alt, Mnemonic.Xcryptecb, Mnemonic.Xcryptcbc, Mnemonic.Xcryptctr, Mnemonic.Xcryptcfb, Mnemonic.Xcryptofb, Mnemonic.Montmul,
            Mnemonic.Xsha1, Mnemonic.Xsha256, Mnemonic.Xsha512, Mnemonic.Xsha512_alt, Mnemonic.Ccs_hash, Mnemonic.Ccs_encrypt, Mnemonic.Undoc])
        {
            table.AddAll(mnemonic, &Reserved);
        }

        if (profile.Has("OSXSAVE"))
        {
            table.Add(Code.Xsetbv, &Refused);
        }
        else
        {
            table.Add(Code.Xsetbv, &NotEnabled);
        }
    }

    /// <summary>The permission check comes before the count and the memory operand of INS and OUTS, so that REP with a count of 0 faults too.</summary>
    [Spec("SDM", "vol.1 19.5 Protected-Mode I/O; vol.2A IN; vol.2A INS/INSB/INSW/INSD; vol.2B OUT; vol.2B OUTS/OUTSB/OUTSW/OUTSD")]
    private static void PortAccess(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);

    [Spec("SDM", "vol.3A 5.9 Privileged Instructions")]
    [Spec("APM", "vol.3 MOV(CRn) (a LOCK prefix names CR8)")]
    [Spec("x86-readings", "lock-mov-cr8")]
    private static void Refused(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);

    /// <summary>#UD: undefined at CPL3 (MONITOR, CLAC, ENCLS), or the extension is not switched on.</summary>
    [Spec("SDM", "vol.2B MONITOR; vol.2A CLAC; vol.3C 30 VMX Instruction Reference; vol.3A 2.5 Control Registers")]
    [Spec("APM", "vol.2 3.1.7 Extended Feature Enable Register (EFER) (SVME); vol.3 VMRUN")]
    private static void NotEnabled(ref CpuState cpu, in MicroOp op) => cpu.Raise(6);

    /// <summary>Engines of a third maker's processors; neither Intel's nor AMD's opcode map has them.</summary>
    [Spec("SDM", "vol.2D A.3 One, Two, and Three-Byte Opcode Maps (0F A6 and 0F A7 are blank)")]
    [Spec("APM", "vol.3 app. A Secondary Opcode Map (0F A6 and 0F A7 are empty)")]
    private static void Reserved(ref CpuState cpu, in MicroOp op) => cpu.Raise(6);
}
