using System.Buffers.Binary;
using System.Collections.Immutable;

namespace PvDiffFuzz.Core.Tests;

/// <content>A case of a Xen guest.</content>
internal static partial class Samples
{
    /// <summary>INT 40h above 4 GiB in user mode, whose handler takes it, and the return: the third example of docs/case-format.md.</summary>
    public static CaseFile Xen { get; } = MakeXen();

    /// <summary>The canonical text of <see cref="Xen"/> with one piece replaced.</summary>
    /// <exception cref="InvalidOperationException">The piece is not in the text, so the replacement would show nothing.</exception>
    public static byte[] XenWith(string piece, string replacement) => With(Xen, piece, replacement);

    private static CaseFile MakeXen()
    {
        GprFile gpr = default;
        gpr[1] = 1;
        gpr[4] = AddressMap.HighBlock + AddressMap.Stack + 0x1000;
        gpr[11] = 2;
        return new CaseFile
        {
            Comment = "INT n above 4 GiB is refused although its virtual DPL allows it.",
            Id = "int-n-above-4g",
            Spec = ["Xen PV traps Xen's configuration"],
            Case = new TestCase
            {
                Abi = Abi.XenPv64,
                Code = new CodeBlock(AddressMap.HighBlock + 0x1ffe, [0xcd, 0x40], [2]),
                Registers = new RegisterState
                {
                    Gpr = gpr,
                    Rip = AddressMap.HighBlock + 0x1ffe,
                    Rflags = 0x202,
                    Cs = XenMap.FlatCode64,
                    Ss = XenMap.FlatData,
                },
                Layout = XenMap.KernelLayout(Abi.XenPv64),
                System = SystemState.Of(
                    new(SystemRegister.XenKernelSp, AddressMap.LowBlock + XenMap.Stack + 0x1000),
                    new(SystemRegister.XenKernelSs, XenMap.FlatData)),
                Xen = new XenState(
                    XenMap.Traps.With(new XenTrap(0x40, 3, XenMap.FlatCode64, XenMap.Handlers + 0x400)).Without(0x41),
                    [new XenCallback(XenCallbackKind.Syscall, MaskEvents: true, XenMap.FlatCode64, XenMap.CallbackAddress(Abi.XenPv64, XenCallbackKind.Syscall))])
                {
                    Version = new XenVersion(4, 17, 7),
                    IretFlags = 0,
                    UserLayout = XenMap.UserLayout(Abi.XenPv64),
                },
                Responses = [new Response([]) { Return = ReturnKind.XenIret, Flags = TestCase.XenIretInSyscall, Inject = new Injection(InjectionKind.Upcall, 0) }],
            },
            CodeComments = ["int 40h"],
            Outcomes = [new RecordedOutcome("xen:4.17", TargetKind.Hypervisor, "tcg", Fingerprint.Empty, XenAnswer(gpr))],
            Verdict = "new",
        };
    }

    private static Outcome XenAnswer(GprFile user)
    {
        GprFile gpr = user;
        (gpr[1], gpr[4], gpr[11]) = (XenMap.Handlers + 0x400, AddressMap.LowBlock + XenMap.Stack + 0x1000 - 56, 0x202);
        RegisterState entry = new() { Gpr = gpr, Rip = gpr[1], Rflags = 0x202, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData };
        ulong[] frame = [1, 2, AddressMap.HighBlock + 0x2000, XenMap.FlatCode64, 0x202, user[4], XenMap.FlatData];
        byte[] bytes = new byte[56];
        for (int i = 0; i < frame.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * 8), frame[i]);
        }

        return new Outcome
        {
            End = EndKind.Event,
            Events = [new Event(EventKind.Trap, 0x40, null, null, EntryPoint.XenTrap, entry) { Frame = ImmutableArray.Create(bytes) }],
            Registers = entry,
            System = SystemState.Of(new(SystemRegister.XenUpcallMask, 0), new(SystemRegister.XenUpcallPending, 0)),
        };
    }
}
