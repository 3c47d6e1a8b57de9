using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Makes of a case in which a guest dies one in which it lives to tell what came to it.</summary>
/// <remarks>
/// A domain without a handler or a stack for what is raised is crashed, and the outcome of a crash names no vector. Where two targets raise something different, the one without a handler for it tells
/// nothing more. The same code with all handlers does, and what is known of it then is known of the crash.
/// </remarks>
internal static class Revival
{
    /// <summary>The case with the standard trap table and kernel stack.</summary>
    /// <param name="divergence">A divergence.</param>
    /// <returns>Null when no target crashed, when the case has both already, and for ABIs other than those of 64-bit Xen guests.</returns>
    public static TestCase? Of(Divergence divergence)
    {
        TestCase testCase = divergence.Case;
        if (testCase.Xen is not XenState xen || testCase.Abi == Abi.XenPv32 || !divergence.Outcomes.Any(o => o.End == EndKind.Crash))
        {
            return null;
        }

        TestCase alive = testCase with
        {
            Xen = xen with { Traps = XenMap.Traps },
            System = testCase.System.With(SystemRegister.XenKernelSp, DefaultXen.DefaultOf(testCase.Abi, SystemRegister.XenKernelSp)!.Value),
        };
        return alive.Xen.Equals(xen) && alive.System.Equals(testCase.System) ? null : alive;
    }
}
