using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Cases of a 64-bit Xen guest, each of which leaves something behind that the next one must not see: handlers, stacks, assists, debug registers, memory.</summary>
internal static class XenCases
{
    private static readonly string[] Codes =
    [
        "90", "cc", "cd 80", "cd 40", "cd 41", "f4", "0f 0b 90 90 90 90", "f1", "48 89 18 cc", "66 cd 40 90", "0f 05", "fa", "0f 20 d0", "0f 21 f0", "b8 05 00 00 00 bf 01 00 00 00 0f 05 0f 06",
        "b8 08 00 00 00 31 ff be 00 00 40 00 0f 05", "b8 03 00 00 00 bf 2b e0 00 00 31 f6 0f 05", "b8 00 00 00 00 31 ff 0f 05", "b8 1e 00 00 00 31 ff 31 f6 0f 05", "0f 23 c0",
    ];

    /// <summary>All of them, in an order in which neighbours differ.</summary>
    public static ImmutableArray<TestCase> All { get; } = [.. Make()];

    private static IEnumerable<TestCase> Make()
    {
        for (int round = 0; round < 4; round++)
        {
            foreach (string code in Codes)
            {
                foreach (GuestMode mode in Enum.GetValues<GuestMode>())
                {
                    yield return Vary(XenPayloads.Case(code, mode), round);
                }
            }
        }
    }

    private static TestCase Vary(TestCase testCase, int round)
    {
        GprFile gpr = testCase.Registers.Gpr;
        gpr[(int)Register.Rax] = AddressMap.HighBlock + AddressMap.Data + (ulong)(round * 8);
        testCase = testCase with { Registers = testCase.Registers with { Gpr = gpr } };
        return round switch
        {
            0 => testCase,
            1 => testCase.WithTraps(t => t.With(t[0x40] with { Flags = 3 }).Without(0x41)).With(SystemRegister.XenIopl, 1),
            2 => testCase.With(SystemRegister.XenVmAssist, 1 << 4).With(SystemRegister.XenKernelSp, XenPayloads.KernelStack - 8).With(SystemRegister.XenVcpuInfoPad, 0x1122),
            _ => testCase with { Xen = testCase.Xen! with { Callbacks = testCase.Xen.Callbacks.RemoveAll(c => c.Kind == XenCallbackKind.Syscall), UserLayout = null } },
        };
    }
}
