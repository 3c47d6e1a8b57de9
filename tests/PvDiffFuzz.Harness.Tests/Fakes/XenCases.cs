using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Cases of a 64-bit Xen guest and outcomes of it.</summary>
internal static class XenCases
{
    /// <summary>Where frames of user code begin: below the kernel's stack pointer.</summary>
    public const ulong FrameAt = AddressMap.LowBlock + XenMap.Stack + 0x1000 - 56;

    /// <summary>What a system side states where nothing is to be shown.</summary>
    public static SystemState System { get; } = SystemState.Of(
        new(SystemRegister.XenKernelSp, AddressMap.LowBlock + XenMap.Stack + 0x1000), new(SystemRegister.XenKernelSs, XenMap.FlatData));

    /// <summary>User code, an instruction an argument.</summary>
    public static TestCase User(params ImmutableArray<string> instructions) => Of(GuestMode.User, AddressMap.CodeEnd, instructions);

    /// <summary>Kernel code that is simply there, an instruction an argument.</summary>
    public static TestCase Kernel(params ImmutableArray<string> instructions) => Of(GuestMode.Supervisor, XenMap.CodeEnd, instructions);

    /// <summary>A trap from user code.</summary>
    public static Event Trap(TestCase testCase, ulong rflags = 0x202, byte vector = 3, ushort cs = XenMap.FlatCode64)
    {
        RegisterState r = testCase.Registers;
        GprFile gpr = r.Gpr;
        ulong handler = XenMap.Handlers + (ulong)(vector * XenTrap.HandlerSize);
        (gpr[1], gpr[4], gpr[11]) = (handler, FrameAt, 0x202);
        ReadOnlySpan<ulong> words = [r.Gpr[1], r.Gpr[11], testCase.Code.End, cs, rflags, r.Gpr[4], XenMap.FlatData];
        byte[] frame = new byte[56];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(i * 8), words[i]);
        }

        RegisterState entry = r with { Gpr = gpr, Rip = handler, Rflags = 0x202, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData };
        return new Event(EventKind.Trap, vector, null, null, EntryPoint.XenTrap, entry) { Frame = ImmutableArray.Create(frame) };
    }

    /// <summary>A case that ended with an event.</summary>
    public static Outcome Ends(Event e) => new() { End = EndKind.Event, Events = [e], Registers = e.Registers };

    private static TestCase Of(GuestMode start, ulong codeEnd, ImmutableArray<string> instructions)
    {
        ImmutableArray<byte> bytes = [.. instructions.SelectMany(Convert.FromHexString)];
        ulong address = AddressMap.LowBlock + codeEnd - (ulong)bytes.Length;
        GprFile gpr = default;
        gpr[4] = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        return new TestCase
        {
            Abi = Abi.XenPv64,
            Start = start,
            Code = new CodeBlock(address, bytes, [.. instructions.Select(text => (byte)(text.Length / 2))]),
            Registers = new RegisterState { Gpr = gpr, Rip = address, Rflags = 0x202, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData },
            Layout = XenMap.KernelLayout(Abi.XenPv64),
            System = System,
            Xen = new XenState(XenMap.Traps, []) { IretFlags = start == GuestMode.User ? 0 : null, UserLayout = XenMap.UserLayout(Abi.XenPv64) },
        };
    }
}
