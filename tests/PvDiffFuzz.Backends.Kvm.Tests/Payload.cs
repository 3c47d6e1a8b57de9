using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>Makes cases that a reader can check by hand.</summary>
internal static class Payload
{
    /// <summary>The end of the code slot above 4 GiB: cases end there unless they say otherwise.</summary>
    public const ulong End = AddressMap.HighBlock + AddressMap.CodeEnd;

    /// <summary>The end of the code slot below 4 GiB.</summary>
    public const ulong LowEnd = AddressMap.LowBlock + AddressMap.CodeEnd;

    /// <summary>The first writable byte of the high block.</summary>
    public const ulong Data = AddressMap.HighBlock + AddressMap.Data;

    /// <summary>Where RSP starts.</summary>
    public const ulong Stack = AddressMap.HighBlock + AddressMap.Stack + 0x1000;

    /// <summary>A case whose code ends at the end of the high code slot.</summary>
    /// <param name="code">Bytes in hexadecimal, spaces allowed.</param>
    /// <param name="registers">Values other than zero.</param>
    public static TestCase Case(string code, params (Register Register, ulong Value)[] registers) => At(End, code, registers);

    /// <summary>A compatibility-mode case.</summary>
    public static TestCase Case32(string code, params (Register Register, ulong Value)[] registers)
    {
        const ulong stack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        TestCase testCase = At(LowEnd, code, [(Register.Cs, Selectors.UserCode32), (Register.Rsp, stack), .. registers]);
        return testCase with { Registers = testCase.Registers with { Ds = Selectors.UserData, Es = Selectors.UserData } };
    }

    /// <summary>A case whose code ends at <paramref name="end"/>.</summary>
    public static TestCase At(ulong end, string code, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        RegisterState state = new() { Gpr = default, Rip = end - (ulong)bytes.Length, Rflags = RflagsBits.Fixed1 | RflagsBits.IF };
        state = state.With(Register.Rsp, Stack);
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        TestCase testCase = new()
        {
            Code = new CodeBlock(end - (ulong)bytes.Length, [.. bytes], Lengths(bytes.Length)),
            Registers = state,
            Layout = AddressMap.Standard,
        };
        Assert.Null(testCase.Check());
        return testCase;
    }

    /// <summary>A response that changes registers.</summary>
    public static Response Patch(params (Register Register, ulong Value)[] patches) =>
        new([.. patches.OrderBy(p => p.Register).Select(p => KeyValuePair.Create(p.Register, p.Value))]);

    /// <summary>Describes an outcome in one line, for failure messages.</summary>
    public static string Describe(Outcome outcome)
    {
        IEnumerable<string> events = outcome.Events.Select(e =>
            $"{e.Kind} {e.Vector} err={e.ErrorCode:x} cr2={e.Cr2:x} rip={e.Registers.Rip:x} rflags={e.Registers.Rflags:x}");
        IEnumerable<string> memory = outcome.Memory.Select(w => $"{w.Address:x}={w.Value:x}");
        return $"{outcome.End} {outcome.Detail} [{string.Join(", ", events)}] memory {string.Join(", ", memory)}";
    }

    /// <summary>Names the registers in which the last events differ.</summary>
    public static string Differences(Outcome left, Outcome right) =>
        string.Join(", ", RegisterState.Differences(left.Registers!, right.Registers!).Select(r => $"{r}: {left.Registers![r]:x} and {right.Registers![r]:x}"));

    private static ImmutableArray<byte> Lengths(int total)
    {
        ImmutableArray<byte>.Builder lengths = ImmutableArray.CreateBuilder<byte>();
        for (; total > 0; total -= 15)
        {
            lengths.Add((byte)Math.Min(total, 15));
        }

        return lengths.ToImmutable();
    }
}
