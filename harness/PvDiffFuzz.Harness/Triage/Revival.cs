using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Makes of a case in which a guest dies one in which it lives to tell what came to it.</summary>
/// <remarks>
/// A domain without a handler or a stack for what is raised is crashed, and the outcome of a crash names no vector. Where two targets raise something different, the one without a handler for it tells
/// nothing more. The same code with all handlers does, and what is known of it then is known of the crash.
/// </remarks>
internal static class Revival
{
    /// <summary>The case with the standard trap table and kernel stack; a kernel whose own stack is none gets that one, too.</summary>
    /// <param name="divergence">A divergence.</param>
    /// <returns>Null when no target crashed, when the case has both already, and for ABIs other than those of 64-bit Xen guests.</returns>
    public static TestCase? Of(Divergence divergence)
    {
        TestCase testCase = divergence.Case;
        if (testCase.Xen is not XenState xen || testCase.Abi == Abi.XenPv32 || !divergence.Outcomes.Any(o => o.End == EndKind.Crash))
        {
            return null;
        }

        ulong stack = DefaultXen.DefaultOf(testCase.Abi, SystemRegister.XenKernelSp)!.Value;
        TestCase alive = testCase with
        {
            Xen = xen with { Traps = XenMap.Traps },
            System = testCase.System.With(SystemRegister.XenKernelSp, stack),
            Registers = TakesFrames(testCase) ? testCase.Registers : testCase.Registers.With(Register.Rsp, stack),
        };
        return alive.Xen.Equals(xen) && alive.System.Equals(testCase.System) && alive.Registers.Equals(testCase.Registers) ? null : alive;
    }

    /// <summary>False for a kernel that begins with RSP where nothing can be stored: frames of its own events go there.</summary>
    private static bool TakesFrames(TestCase testCase) =>
        testCase.Start == GuestMode.User || (testCase.Layout.AccessAt(testCase.Registers[Register.Rsp] - sizeof(ulong)) & PageAccess.Write) != 0;
}
