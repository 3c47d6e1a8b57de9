using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Small cases for hand-checkable facts, on the constants of <see cref="PvmMap"/>: registers zero unless given, red zone 128.</summary>
internal static class Payload
{
    /// <summary>RSP of user code at the start.</summary>
    public const ulong UserStack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;

    /// <summary>RSP of supervisor code at the start, and MSR_PVM_SUPERVISOR_RSP.</summary>
    public const ulong Stack = AddressMap.LowBlock + PvmMap.Stack + 0x1000;

    /// <summary>A writable supervisor page.</summary>
    public const ulong Data = AddressMap.LowBlock + PvmMap.Data;

    /// <summary>GS base of supervisor code.</summary>
    public const ulong KernelGsBase = 0x1000;

    /// <summary>GS base of user code.</summary>
    public const ulong UserGsBase = 0x2000;

    /// <summary>The size of the red zone.</summary>
    public const ulong Redzone = 128;

    /// <summary>A processor without UMIP and with protection keys.</summary>
    public static CpuProfile Keys { get; } = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Remove("UMIP").Add("PKU") };

    /// <summary>A case that starts in supervisor mode.</summary>
    /// <param name="code">Hexadecimal bytes, spaces allowed.</param>
    /// <param name="registers">Registers at entry.</param>
    public static TestCase Supervisor(string code, params (Register Register, ulong Value)[] registers) => Make(Abi.PvmRfc1, GuestMode.Supervisor, code, registers);

    /// <summary>A case that starts in user mode.</summary>
    public static TestCase User(string code, params (Register Register, ulong Value)[] registers) => Make(Abi.PvmRfc1, GuestMode.User, code, registers);

    /// <summary>A case of a revision.</summary>
    public static TestCase Make(Abi abi, GuestMode start, string code, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        bool user = start == GuestMode.User;
        ulong end = AddressMap.LowBlock + (user ? AddressMap.CodeEnd : PvmMap.CodeEnd);
        RegisterState state = new()
        {
            Gpr = default,
            Rip = end - (ulong)bytes.Length,
            Rflags = RflagsBits.Fixed1 | (user ? RflagsBits.IF : 0),
            GsBase = user ? UserGsBase : KernelGsBase,
        };
        state = state.With(Register.Rsp, user ? UserStack : Stack);
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        bool rfc = abi == Abi.PvmRfc1;
        return new TestCase
        {
            Abi = abi,
            Start = start,
            Code = new CodeBlock(end - (ulong)bytes.Length, [.. bytes], Lengths(bytes.Length)),
            Registers = state,
            Layout = PvmMap.SupervisorLayout,
            Pvm = new PvmState(PvmMap.PvcsAddress, rfc ? PvmMap.UserLayout : null),
            System = Initial(rfc),
            Contents = [PvmMap.ReturnInstructions],
        };
    }

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

    /// <summary>A copy of a case of supervisor code with interrupts on.</summary>
    public static TestCase InterruptsOn(this TestCase testCase)
    {
        TestCase on = testCase.With((SystemRegister.PvcsEventFlags, testCase.System[SystemRegister.PvcsEventFlags] | Vcpu.InterruptFlag));
        return testCase.Start == GuestMode.User ? on : on with { Registers = on.Registers.With(Register.Rflags, on.Registers.Rflags | RflagsBits.IF) };
    }

    /// <summary>A copy with something pending at the start.</summary>
    public static TestCase Inject(this TestCase testCase, InjectionKind kind, byte vector = Injection.NmiVector) => testCase with { Inject = new Injection(kind, vector) };

    /// <summary>A copy with contents.</summary>
    public static TestCase With(this TestCase testCase, ulong address, params byte[] bytes) =>
        testCase with { Contents = [.. testCase.Contents.Append(new MemoryContents(address, [.. bytes])).OrderBy(c => c.Address)] };

    /// <summary>A copy with responses.</summary>
    public static TestCase Answer(this TestCase testCase, params Response[] responses) => testCase with { Responses = [.. responses] };

    /// <summary>A response.</summary>
    public static Response Back(ReturnKind kind, params (Register Register, ulong Value)[] patches) =>
        new([.. patches.OrderBy(p => p.Register).Select(p => KeyValuePair.Create(p.Register, p.Value))]) { Return = kind };

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
        using PvmModel model = new(profile);
        return model.Run(testCase);
    }

    /// <summary>Runs and demands that the code ran to its end.</summary>
    public static Outcome RunToEnd(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.Run(profile);
        Assert.True(outcome.End == EndKind.ReachedEnd, $"{outcome.End} {outcome.Detail} {(outcome.Events.IsEmpty ? "" : outcome.Events[^1])}");
        return outcome;
    }

    /// <summary>The only event of a run.</summary>
    public static Event Only(this Outcome outcome) => Assert.Single(outcome.Events);

    /// <summary>A named field of the frame of an event.</summary>
    public static ulong Frame(this Event what, string name, Abi abi = Abi.PvmRfc1)
    {
        foreach (FrameField field in FrameLayout.Of(abi, what.Entry, what.Frame.Length))
        {
            if (field.Name == name)
            {
                return FrameLayout.Read(what.Frame, field);
            }
        }

        throw new ArgumentException($"the frame has no {name}", nameof(name));
    }

    /// <summary>Demands that quadwords are equal, one by one.</summary>
    public static void Same(ulong[] expected, ulong[] actual) => Assert.Equal(expected, actual);

    /// <summary>The little-endian bytes of quadwords.</summary>
    public static byte[] Words(params ReadOnlySpan<ulong> words)
    {
        byte[] bytes = new byte[words.Length * sizeof(ulong)];
        for (int i = 0; i < words.Length; i++)
        {
            BitConverter.TryWriteBytes(bytes.AsSpan(i * sizeof(ulong)), words[i]);
        }

        return bytes;
    }

    /// <summary>Code that loads RAX with a hypercall's number and calls.</summary>
    public static string Call(ulong number) => $"48 B8 {Convert.ToHexString(BitConverter.GetBytes(number))} 0F 05";

    private static SystemState Initial(bool rfc)
    {
        SystemState system = SystemState.Of(
        [
            new(SystemRegister.Cr3, PvmMap.SupervisorRoot), new(SystemRegister.Cr4, 0x1_0620), new(SystemRegister.Efer, 0xd01), new(SystemRegister.Star, PvmMap.Star),
            new(SystemRegister.Lstar, PvmMap.Lstar), new(SystemRegister.KernelGsBase, KernelGsBase), new(SystemRegister.PvmVcpuStruct, PvmMap.VcpuStruct),
            new(SystemRegister.PvmEventEntry, PvmMap.EventEntry), new(SystemRegister.PvmRetuRip, PvmMap.RetuRip),
        ]);
        return rfc
            ? system.With(SystemRegister.PvmSupervisorRsp, Stack).With(SystemRegister.PvmSupervisorRedzone, Redzone)
                .With(SystemRegister.PvmRetsRip, PvmMap.RetsRip).With(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot)
            : system;
    }

    private static ImmutableArray<byte> Lengths(int bytes)
    {
        List<byte> lengths = [];
        for (; bytes > 0; bytes -= lengths[^1])
        {
            lengths.Add((byte)Math.Min(bytes, byte.MaxValue));
        }

        return [.. lengths];
    }
}
