using Iced.Intel;
using PvDiffFuzz.Core;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness;

/// <summary>Makes of a case in which a guest dies, or keeps its events to itself, one that tells what came to it.</summary>
/// <remarks>
/// A guest without a handler or a stack for what is raised dies, and the outcome names no vector; a handler that is code of the case shows no event either. Where two targets raise something different, the one
/// without a handler for it tells nothing more. The same code with all handlers, and a stack, does, and what is known of it then is known of the case.
/// </remarks>
internal static class Revival
{
    /// <summary>The case with handlers that show what comes, and a stack.</summary>
    /// <param name="divergence">A divergence.</param>
    /// <returns>Null when no target hides anything, when the case has all of it already, and for ABIs other than those of 64-bit paravirtual guests.</returns>
    public static TestCase? Of(Divergence divergence) =>
        divergence.Case.Abi.IsPvm() ? OfPvm(divergence) : divergence.Case.Abi is Abi.XenPv64 or Abi.XenPv64Fred && Crashed(divergence) ? OfXen(divergence.Case) : null;

    private static bool Crashed(Divergence divergence) => divergence.Outcomes.Any(o => o.End == EndKind.Crash);

    /// <summary>The case with the standard trap table and kernel stack; a kernel whose own stack is none gets that one, too.</summary>
    private static TestCase? OfXen(TestCase testCase)
    {
        XenState xen = testCase.Xen!;
        ulong stack = DefaultXen.DefaultOf(testCase.Abi, SystemRegister.XenKernelSp)!.Value;
        TestCase alive = testCase with
        {
            Xen = xen with { Traps = XenMap.Traps },
            System = testCase.System.With(SystemRegister.XenKernelSp, stack),
            Registers = TakesFrames(testCase) ? testCase.Registers : testCase.Registers.With(Register.Rsp, stack),
        };
        return alive.Xen.Equals(xen) && alive.System.Equals(testCase.System) && alive.Registers.Equals(testCase.Registers) ? null : alive;
    }

    /// <summary>The case without the instructions that register entries of its own; supervisor code whose stack is none gets the usual one.</summary>
    private static TestCase? OfPvm(Divergence divergence)
    {
        TestCase testCase = divergence.Case;
        bool crashed = Crashed(divergence);
        if (!crashed && !divergence.Outcomes.Any(o => HasOwnEntries(testCase, o)))
        {
            return null;
        }

        CodePiece[] pieces = CodeEdit.PiecesOf(testCase.Code);
        TestCase alive = CodeEdit.WithNops(testCase, i => IsWrmsr(testCase, pieces[i]) && pieces[i].End - (ulong)pieces[i].Bytes.Length != divergence.Instruction.Address);
        if (crashed && !TakesFrames(testCase))
        {
            alive = alive with { Registers = alive.Registers.With(Register.Rsp, AddressMap.LowBlock + PvmMap.Stack + PageLayout.PageSize) };
        }

        return alive.Code.Bytes.AsSpan().SequenceEqual(testCase.Code.Bytes.AsSpan()) && alive.Registers.Equals(testCase.Registers) ? null : alive;
    }

    private static bool HasOwnEntries(TestCase testCase, Outcome outcome) => Differ(testCase.System, outcome.System, SystemRegister.PvmEventEntry) || Differ(testCase.System, outcome.System, SystemRegister.Lstar);

    private static bool Differ(SystemState before, SystemState after, SystemRegister register) =>
        before.TryGet(register, out ulong first) && after.TryGet(register, out ulong last) && first != last;

    private static bool IsWrmsr(TestCase testCase, CodePiece piece) => CodeEdit.DecodeOne(piece.Bytes.AsSpan(), 0, testCase.Mode, CpuVendor.Intel).Code == Code.Wrmsr;

    /// <summary>False for code that begins in supervisor mode with RSP where nothing can be stored: frames of its own events go there.</summary>
    private static bool TakesFrames(TestCase testCase) =>
        testCase.Start == GuestMode.User || (testCase.Layout.AccessAt(testCase.Registers[Register.Rsp] - sizeof(ulong)) & PageAccess.Write) != 0;
}
