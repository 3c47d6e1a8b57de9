using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>RDPKRU and WRPKRU. All pages have key 0.</summary>
/// <remarks>No flag changes. A case that does not state PKRU cannot read it before it has written it.</remarks>
internal static unsafe class ProtectionKeys
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Rdpkru, &Read);
        table.Add(Code.Wrpkru, &Write);
    }

    /// <summary>ECX must be 0; EDX is cleared.</summary>
    [Spec("SDM", "vol.2B RDPKRU")]
    [Spec("APM", "vol.3 RDPKRU")]
    private static void Read(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Read<uint>(Gpr.Rcx) != 0)
        {
            cpu.Raise(13);
        }
        else if (cpu.Pkru is uint rights)
        {
            cpu.Shown |= HostView.Rights;
            cpu.Write(Gpr.Rax, rights);
            cpu.Write(Gpr.Rdx, 0U);
        }
        else
        {
            OpTable.NotModelled(ref cpu, in op);
        }
    }

    /// <summary>ECX and EDX must be 0. The new rights hold for the next access.</summary>
    [Spec("SDM", "vol.2C WRPKRU; vol.3A 4.6.2 Protection Keys")]
    [Spec("APM", "vol.3 WRPKRU; vol.2 5.6.7 Memory Protection Keys (MPK) Bit")]
    private static void Write(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Read<uint>(Gpr.Rcx) != 0 || cpu.Read<uint>(Gpr.Rdx) != 0)
        {
            cpu.Raise(13);
            return;
        }

        cpu.Shown |= HostView.Rights;
        cpu.Pkru = cpu.Read<uint>(Gpr.Rax);
        for (byte segment = 0; segment < 6; segment++)
        {
            Delivery.UpdateSegment(ref cpu, segment);
        }
    }
}
