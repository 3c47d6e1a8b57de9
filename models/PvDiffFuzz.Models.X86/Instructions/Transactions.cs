using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>XBEGIN, XEND, XABORT, XTEST, XSUSLDTRK and XRESLDTRK where every transaction aborts at once.</summary>
/// <remarks>A transaction may abort at any time and for no stated reason. So none is ever active here, and a case sees no other instruction in one. XTEST sets ZF.</remarks>
internal static unsafe class Transactions
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Xbegin_rel16, &Begin);
        table.Add(Code.Xbegin_rel32, &Begin);
        table.Add(Code.Xend, &Outside);
        table.Add(Code.Xsusldtrk, &Outside);
        table.Add(Code.Xresldtrk, &Outside);
        table.Add(Code.Xabort_imm8, &Abort);
        table.Add(Code.Xtest, &Test);
    }

    /// <summary>EAX says why it aborted: 0, no reason. A target that is not canonical, or in compatibility mode past the code segment, is #GP(0) before that.</summary>
    [Spec("SDM", "vol.2C XBEGIN; vol.1 16.3.5 RTM Abort Status Definition")]
    private static void Begin(ref CpuState cpu, in MicroOp op)
    {
        ulong fallback = op.Immediate & cpu.LinearMask;
        if (!cpu.Canonical(fallback))
        {
            cpu.Raise(13);
            return;
        }

        cpu.Write(Gpr.Rax, 0U);
        cpu.Rip = fallback;
    }

    /// <summary>#GP(0) outside a transaction.</summary>
    [Spec("SDM", "vol.2C XEND; vol.2C XSUSLDTRK; vol.2C XRESLDTRK")]
    private static void Outside(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);

    /// <summary>Nothing outside a transaction.</summary>
    [Spec("SDM", "vol.2C XABORT")]
    private static void Abort(ref CpuState cpu, in MicroOp op)
    {
    }

    [Spec("SDM", "vol.2C XTEST")]
    private static void Test(ref CpuState cpu, in MicroOp op) => cpu.Status = Flags.Zero;
}
