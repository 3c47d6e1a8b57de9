using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>Inputs of a byte fuzzer that are bare code: a byte that chooses mode (bit 0: compatibility) and vendor (bit 1: Intel), then the code.</summary>
public static class CodeInput
{
    /// <summary>Most bytes of an input.</summary>
    public const int MaximumLength = 1024;

    private const int MostInstructions = 200;

    /// <summary>The case that an input is; null when it is too short or too long.</summary>
    public static TestCase? ToCase(ReadOnlySpan<byte> input)
    {
        if (input.Length is < 2 or > MaximumLength)
        {
            return null;
        }

        CpuMode mode = (input[0] & 1) == 0 ? CpuMode.Long64 : CpuMode.Compatibility32;
        CpuVendor vendor = (input[0] & 2) == 0 ? CpuVendor.Amd : CpuVendor.Intel;
        ImmutableArray<byte> bytes = [.. input[1..]];
        ulong address = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)bytes.Length;
        RegisterState registers = new()
        {
            Gpr = default,
            Rip = address,
            Rflags = RflagsBits.Fixed1 | RflagsBits.IF,
            Cs = mode == CpuMode.Long64 ? Selectors.UserCode64 : Selectors.UserCode32,
        };
        return new TestCase
        {
            Code = new CodeBlock(address, bytes, CodeSplitter.Split(bytes.AsSpan(), mode, vendor)),
            Registers = registers.With(Register.Rsp, AddressMap.LowBlock + AddressMap.Stack + PageLayout.PageSize),
            Layout = AddressMap.Standard,
            Limits = new CaseLimits(MostInstructions),
            Profile = vendor == CpuVendor.Amd ? CpuProfile.DefaultAmd : CpuProfile.DefaultIntel,
        };
    }

    /// <summary>The input that has the code of a case; its other state is lost. Null when the code is too long.</summary>
    public static byte[]? OfCase(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        int first = (testCase.Mode == CpuMode.Compatibility32 ? 1 : 0) | (testCase.Profile?.Vendor == CpuVendor.Intel ? 2 : 0);
        return testCase.Code.Bytes.Length >= MaximumLength ? null : [(byte)first, .. testCase.Code.Bytes];
    }
}
