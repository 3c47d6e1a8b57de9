using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Small cases for hand-checkable facts, on the constants of <see cref="XenMap"/>: registers zero unless given, upcalls masked in the kernel, all handlers and callbacks registered.</summary>
internal static class Payload
{
    /// <summary>RSP of user code at the start.</summary>
    public const ulong UserStack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;

    /// <summary>RSP of kernel code at the start.</summary>
    public const ulong Stack = AddressMap.LowBlock + XenMap.Stack + 0x1000;

    /// <summary>Where the kernel takes events of user code.</summary>
    public const ulong KernelStack = AddressMap.LowBlock + XenMap.Stack + 0x2000;

    /// <summary>A writable page of the kernel's.</summary>
    public const ulong Data = AddressMap.LowBlock + XenMap.Data;

    /// <summary>A processor with everything that cases here use.</summary>
    public static CpuProfile Intel { get; } = CpuProfile.DefaultIntel;

    /// <summary>A case of a 64-bit guest's kernel, which is simply there.</summary>
    /// <param name="code">Hexadecimal bytes, spaces allowed.</param>
    /// <param name="registers">Registers at entry.</param>
    public static TestCase Kernel(string code, params (Register Register, ulong Value)[] registers) => Make(Abi.XenPv64, GuestMode.Supervisor, code, registers);

    /// <summary>A case of a 64-bit guest's user code.</summary>
    public static TestCase User(string code, params (Register Register, ulong Value)[] registers) => Make(Abi.XenPv64, GuestMode.User, code, registers);

    /// <summary>A case of any guest.</summary>
    public static TestCase Make(Abi abi, GuestMode start, string code, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Bytes(code);
        bool user = start == GuestMode.User;
        bool narrow = abi == Abi.XenPv32;
        ulong end = AddressMap.LowBlock + (user ? AddressMap.CodeEnd : XenMap.CodeEnd);
        RegisterState state = new()
        {
            Gpr = default,
            Rip = end - (ulong)bytes.Length,
            Rflags = RflagsBits.Fixed1 | RflagsBits.IF,
            Cs = narrow ? (user ? XenMap.UserCode32 : XenMap.KernelCode32) : XenMap.FlatCode64,
            Ss = narrow ? (user ? XenMap.UserData32 : XenMap.KernelData32) : XenMap.FlatData,
            Ds = narrow ? (user ? XenMap.UserData32 : XenMap.KernelData32) : (ushort)0,
            Es = narrow ? (user ? XenMap.UserData32 : XenMap.KernelData32) : (ushort)0,
        };
        state = state.With(Register.Rsp, user ? UserStack : Stack);
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        ushort kernelCode = narrow ? XenMap.KernelCode32 : XenMap.FlatCode64;
        XenTrapTable traps = narrow ? XenMap.Traps32 : XenMap.Traps;
        SystemState system = SystemState.Of(
            new(SystemRegister.Cr0, 0x8005_0033),
            new(SystemRegister.Cr4, 0x1_0660),
            new(SystemRegister.XenKernelSp, KernelStack),
            new(SystemRegister.XenKernelSs, narrow ? XenMap.KernelData32 : XenMap.FlatData));
        return new TestCase
        {
            Abi = abi,
            Start = start,
            Code = new CodeBlock(end - (ulong)bytes.Length, [.. bytes], Lengths(bytes.Length)),
            Registers = state,
            Layout = XenMap.KernelLayout(abi),
            System = user ? system : system.With(SystemRegister.XenUpcallMask, 1),
            Xen = new XenState(traps, [.. Enumerable.Range(0, 5).Select(i => new XenCallback((XenCallbackKind)i, false, kernelCode, XenMap.CallbackAddress(abi, (XenCallbackKind)i)))])
            {
                IretFlags = user ? 0 : null,
                UserLayout = XenMap.UserLayout(abi),
            },
        };
    }

    /// <summary>A copy with the payload entered by HYPERVISOR_iret, in the kernel too.</summary>
    public static TestCase ByIret(this TestCase testCase, ulong flags = 0, ushort? cs = null) => testCase with
    {
        System = testCase.System.Without(SystemRegister.XenUpcallMask),
        Registers = cs is ushort selector ? testCase.Registers with { Cs = selector } : testCase.Start == GuestMode.Supervisor && testCase.Abi != Abi.XenPv32 ? testCase.Registers with { Cs = 0xe030 } : testCase.Registers,
        Xen = testCase.Xen! with { IretFlags = flags },
    };

    /// <summary>A copy for another ABI.</summary>
    public static TestCase Under(this TestCase testCase, Abi abi) => testCase with { Abi = abi };

    /// <summary>A copy about a release.</summary>
    public static TestCase Of(this TestCase testCase, string version) => testCase with { Xen = testCase.Xen! with { Version = XenVersion.Parse(version) } };

    /// <summary>A copy with system registers stated.</summary>
    public static TestCase With(this TestCase testCase, params (SystemRegister Register, ulong Value)[] values)
    {
        SystemState system = testCase.System;
        foreach ((SystemRegister register, ulong value) in values)
        {
            system = system.With(register, value);
        }

        return testCase with { System = system };
    }

    /// <summary>A copy with one entry of the trap table changed: flags only.</summary>
    public static TestCase Trap(this TestCase testCase, byte vector, byte flags)
    {
        XenTrapTable traps = testCase.Xen!.Traps;
        return testCase with { Xen = testCase.Xen with { Traps = traps.With(traps[vector] with { Flags = flags }) } };
    }

    /// <summary>A copy without a handler.</summary>
    public static TestCase Without(this TestCase testCase, byte vector) => testCase with { Xen = testCase.Xen! with { Traps = testCase.Xen.Traps.Without(vector) } };

    /// <summary>A copy without a callback.</summary>
    public static TestCase Without(this TestCase testCase, XenCallbackKind kind) =>
        testCase with { Xen = testCase.Xen! with { Callbacks = testCase.Xen.Callbacks.RemoveAll(c => c.Kind == kind) } };

    /// <summary>A copy whose callback masks events.</summary>
    public static TestCase Masking(this TestCase testCase, XenCallbackKind kind) =>
        testCase with { Xen = testCase.Xen! with { Callbacks = [.. testCase.Xen.Callbacks.Select(c => c.Kind == kind ? c with { MaskEvents = true } : c)] } };

    /// <summary>A copy with contents.</summary>
    public static TestCase With(this TestCase testCase, ulong address, params ReadOnlySpan<byte> bytes)
    {
        ImmutableArray<MemoryContents> contents = testCase.Contents.Add(new MemoryContents(address, ImmutableArray.Create(bytes)));
        return testCase with { Contents = [.. contents.OrderBy(c => c.Address)] };
    }

    /// <summary>A copy with quadwords in memory.</summary>
    public static TestCase WithWords(this TestCase testCase, ulong address, params ReadOnlySpan<ulong> words)
    {
        byte[] bytes = new byte[words.Length * sizeof(ulong)];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)), words[i]);
        }

        return testCase.With(address, bytes);
    }

    /// <summary>A copy with responses.</summary>
    public static TestCase Answer(this TestCase testCase, params Response[] responses) => testCase with { Responses = [.. responses] };

    /// <summary>A response.</summary>
    public static Response Back(params (Register Register, ulong Value)[] patches) =>
        new([.. patches.OrderBy(p => p.Register).Select(p => KeyValuePair.Create(p.Register, p.Value))]) { Return = ReturnKind.XenIret };

    /// <summary>A response that makes a hypercall.</summary>
    public static Response Call(ulong number, params ulong[] arguments) => Back() with { Hypercalls = [new Hypercall(number, [.. arguments])] };

    /// <summary>Runs on a fresh model and demands guest behaviour.</summary>
    public static Outcome Run(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.RunAny(profile);
        Assert.True(outcome.Comparable, outcome.Detail);
        return outcome;
    }

    /// <summary>Runs on a fresh model.</summary>
    public static Outcome RunAny(this TestCase testCase, CpuProfile? profile = null)
    {
        Assert.Null(testCase.Check());
        using XenModel model = new(profile);
        return model.Run(testCase);
    }

    /// <summary>Runs and demands that the code ran to its end.</summary>
    public static Outcome RunToEnd(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.Run(profile);
        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        return outcome;
    }

    /// <summary>Runs and demands an event that nothing answers.</summary>
    public static Event RunToEvent(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.Run(profile);
        Assert.True(outcome.End == EndKind.Event, $"{outcome.End} {outcome.Detail}");
        return outcome.Events[^1];
    }

    /// <summary>Runs and demands a crash of the domain.</summary>
    public static string RunToCrash(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.Run(profile);
        Assert.Equal(EndKind.Crash, outcome.End);
        return outcome.Detail!;
    }

    /// <summary>Runs the kernel's code and gives RAX at its end, as a signed number.</summary>
    public static long RunForRax(this TestCase testCase) => (long)testCase.RunToEnd().Registers!.Gpr[0];

    /// <summary>The error code of an event that has one.</summary>
    public static uint Error(this Event e)
    {
        Assert.NotNull(e.ErrorCode);
        return e.ErrorCode.Value;
    }

    /// <summary>A field of an event's frame.</summary>
    public static ulong Field(this Event e, string name, Abi abi = Abi.XenPv64)
    {
        foreach (FrameField field in FrameLayout.Of(abi, e.Entry, e.Frame.Length))
        {
            if (field.Name == name)
            {
                return FrameLayout.Read(e.Frame, field);
            }
        }

        throw new ArgumentException($"a frame of {e.Frame.Length} bytes has no {name}", nameof(name));
    }

    /// <summary>A MOV of a number to RAX, then SYSCALL: a hypercall of kernel code.</summary>
    public static string Hypercall(uint number) => $"B8 {number & 0xff:x2} {(number >> 8) & 0xff:x2} {(number >> 16) & 0xff:x2} {number >> 24:x2} 0F 05";

    private static byte[] Bytes(string code) => Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));

    private static ImmutableArray<byte> Lengths(int bytes)
    {
        ImmutableArray<byte>.Builder lengths = ImmutableArray.CreateBuilder<byte>();
        for (; bytes > 0; bytes -= byte.MaxValue)
        {
            lengths.Add((byte)Math.Min(bytes, byte.MaxValue));
        }

        return lengths.ToImmutable();
    }
}
