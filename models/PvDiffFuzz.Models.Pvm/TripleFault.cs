using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>What brings the guest down.</summary>
internal static class TripleFault
{
    /// <summary>A delivery that cannot be made would be a double fault, and that is always promoted to a triple fault.</summary>
    [Spec("PVM rfc1", "No DoubleFault")]
    public static void Raise(Vcpu vcpu, string reason) => vcpu.End(Verdict.Crash, reason);

    /// <summary>Demands the per-VCPU structure.</summary>
    /// <returns>False after a triple fault.</returns>
    [Spec("pvm-readings", "no-structure")]
    public static bool NeedsPvcs(Vcpu vcpu)
    {
        if (vcpu.HasPvcs)
        {
            return true;
        }

        Raise(vcpu, "triple fault: there is no per-VCPU structure");
        return false;
    }
}
