using System.Globalization;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Makes cases that a reader can check by hand.</summary>
internal static class Payload
{
    /// <summary>The end of the code slot above 4 GiB: cases end there unless they say otherwise.</summary>
    public const ulong End = AddressMap.HighBlock + AddressMap.CodeEnd;

    /// <summary>The first writable byte of the high block.</summary>
    public const ulong Data = AddressMap.HighBlock + AddressMap.Data;

    /// <summary>The page after the writable ones: not present.</summary>
    public const ulong NotPresent = Data + 0x2000;

    /// <summary>A page that can be read only.</summary>
    public const ulong ReadOnly = AddressMap.HighBlock + AddressMap.ReadOnlyThenWritable;

    /// <summary>Where RSP starts.</summary>
    public const ulong Stack = AddressMap.HighBlock + AddressMap.Stack + 0x1000;

    /// <summary>RFLAGS without any flag that a case may choose.</summary>
    public const ulong Flags = RflagsBits.Fixed1 | RflagsBits.IF;

    /// <summary>A case whose code ends at the end of the high code slot.</summary>
    /// <param name="code">Bytes in hexadecimal, spaces allowed.</param>
    /// <param name="registers">Values other than zero.</param>
    public static TestCase Case(string code, params (Register Register, ulong Value)[] registers) => At(End, code, registers);

    /// <summary>A case whose code ends at <paramref name="end"/>.</summary>
    public static TestCase At(ulong end, string code, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        ulong start = end - (ulong)bytes.Length;
        RegisterState state = new RegisterState { Gpr = default, Rip = start, Rflags = Flags }.With(Register.Rsp, Stack);
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        CpuMode mode = state.Cs == Selectors.UserCode32 ? CpuMode.Compatibility32 : CpuMode.Long64;
        TestCase testCase = new()
        {
            Code = new CodeBlock(start, [.. bytes], CodeSplitter.Split(bytes, mode)),
            Registers = state,
            Layout = AddressMap.Standard,
        };
        Assert.True(testCase.Check() is null, $"{code}: {testCase.Check()}");
        return testCase;
    }

    /// <summary>A response that changes registers, given in <see cref="Register"/> order.</summary>
    public static Response Patch(params (Register Register, ulong Value)[] patches) => new([.. patches.Select(p => KeyValuePair.Create(p.Register, p.Value))]);

    /// <summary>Describes an outcome in one line, for failure messages.</summary>
    public static string Describe(Outcome outcome)
    {
        IEnumerable<string> events = outcome.Events.Select(e => string.Create(
            CultureInfo.InvariantCulture, $"{e.Kind} {e.Vector} err={e.ErrorCode:x} cr2={e.Cr2:x} rip={e.Registers.Rip:x} rflags={e.Registers.Rflags:x}"));
        IEnumerable<string> memory = outcome.Memory.Select(w => $"{w.Address:x}={w.Value:x}");
        return $"{outcome.End} {outcome.Detail} [{string.Join(", ", events)}] memory {string.Join(' ', memory)}";
    }
}
