using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Responses that go on with the payload.</summary>
internal static class Rung
{
    /// <summary>How the supervisor of a case goes back to where the case starts.</summary>
    public static ReturnKind Back(TestCase testCase) =>
        testCase.Abi == Abi.X86 ? ReturnKind.Iretq
        : testCase.Abi.IsXen() ? ReturnKind.XenIret
        : testCase.Start == GuestMode.User ? ReturnKind.Eretu
        : testCase.Abi == Abi.PvmRfc1 ? ReturnKind.Erets
        : ReturnKind.Iretq;

    /// <summary>A response that goes on at an address.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="address">The address.</param>
    /// <param name="stack">True to go on with the stack of the start, whatever became of it.</param>
    public static Response To(TestCase testCase, ulong address, bool stack)
    {
        KeyValuePair<Register, ulong> rip = KeyValuePair.Create(Register.Rip, address);
        return new Response(stack ? [KeyValuePair.Create(Register.Rsp, testCase.Registers.Gpr[(int)Register.Rsp]), rip] : [rip]) { Return = Back(testCase) };
    }
}
