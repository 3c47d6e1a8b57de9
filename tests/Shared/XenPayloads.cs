using PvDiffFuzz.Core;

namespace PvDiffFuzz.Tests;

/// <summary>Cases of a 64-bit Xen guest that a reader can check by hand. Compiled into each project that needs them.</summary>
internal static class XenPayloads
{
    /// <summary>The kernel's stack for events of user mode.</summary>
    public const ulong KernelStack = AddressMap.LowBlock + XenMap.Stack + 0x1000;

    /// <summary>All callbacks where generated cases have them.</summary>
    public static XenState State { get; } = new(
        XenMap.Traps,
        [.. Enum.GetValues<XenCallbackKind>().Select(k => new XenCallback(k, k == XenCallbackKind.Nmi, XenMap.FlatCode64, XenMap.CallbackAddress(Abi.XenPv64, k)))])
    {
        UserLayout = XenMap.UserLayout(Abi.XenPv64),
    };

    /// <summary>Code at the end of a slot above 4 GiB, every register holding its number in each digit.</summary>
    /// <param name="code">Bytes in hexadecimal, spaces allowed.</param>
    /// <param name="mode">Where it runs. User code is entered by the return; kernel code is simply there, with upcalls masked.</param>
    public static TestCase Case(string code, GuestMode mode)
    {
        bool user = mode == GuestMode.User;
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = (ulong)i * 0x1111_1111_1111_1111;
        }

        gpr[(int)Register.Rsp] = AddressMap.HighBlock + (user ? AddressMap.Stack : XenMap.Stack) + 0x1000;
        ulong start = AddressMap.HighBlock + (user ? AddressMap.CodeEnd : XenMap.CodeEnd) - (ulong)bytes.Length;
        SystemState system = SystemState.Of(new(SystemRegister.XenKernelSp, KernelStack), new(SystemRegister.XenKernelSs, XenMap.FlatData));
        return new TestCase
        {
            Abi = Abi.XenPv64,
            Start = mode,
            Code = new CodeBlock(start, [.. bytes], [(byte)bytes.Length]),
            Registers = new RegisterState { Gpr = gpr, Rip = start, Rflags = RflagsBits.Fixed1 | RflagsBits.IF, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData },
            Layout = XenMap.KernelLayout(Abi.XenPv64),
            System = user ? system : system.With(SystemRegister.XenUpcallMask, 1),
            Xen = State with { IretFlags = user ? 0 : null },
        };
    }

    /// <summary>The same case with another trap table.</summary>
    public static TestCase WithTraps(this TestCase testCase, Func<XenTrapTable, XenTrapTable> change) => testCase with { Xen = testCase.Xen! with { Traps = change(testCase.Xen.Traps) } };

    /// <summary>The same case with a system register stated.</summary>
    public static TestCase With(this TestCase testCase, SystemRegister register, ulong value) => testCase with { System = testCase.System.With(register, value) };
}
