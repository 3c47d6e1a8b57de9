using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The predecoder of the model takes any bytes as code, in both modes and for both vendors, and an instruction that it completes is as long as the linear sweep says.</summary>
internal sealed class PredecoderTarget : FuzzTarget
{
    private const int MostInstructions = 200;

    private readonly X86Model _model = new();

    /// <summary>The first byte chooses mode and vendor; the others are code.</summary>
    /// <param name="input">At least two bytes.</param>
    public override void Run(byte[] input)
    {
        if (input.Length is < 2 or > 1024)
        {
            return;
        }

        CpuMode mode = (input[0] & 1) == 0 ? CpuMode.Long64 : CpuMode.Compatibility32;
        CpuVendor vendor = (input[0] & 2) == 0 ? CpuVendor.Amd : CpuVendor.Intel;
        ImmutableArray<byte> bytes = [.. input.AsSpan(1)];
        ulong address = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)bytes.Length;
        TestCase testCase = new()
        {
            Code = new CodeBlock(address, bytes, CodeSplitter.Split(bytes.AsSpan(), mode, vendor)),
            Registers = new RegisterState
            {
                Gpr = default,
                Rip = address,
                Rflags = RflagsBits.Fixed1 | RflagsBits.IF,
                Cs = mode == CpuMode.Long64 ? Selectors.UserCode64 : Selectors.UserCode32,
            }.With(Register.Rsp, AddressMap.LowBlock + AddressMap.Stack + 0x1000),
            Layout = AddressMap.Standard,
            Limits = new CaseLimits(MostInstructions),
            Profile = vendor == CpuVendor.Amd ? CpuProfile.DefaultAmd : CpuProfile.DefaultIntel,
        };
        if (testCase.Check() is CaseProblem problem)
        {
            throw new BrokenPromiseException($"code from anywhere makes a malformed case: {problem}");
        }

        Outcome outcome = _model.Run(testCase);
        ImmutableArray<TracedInstruction> trace = _model.Trace(testCase, 2);
        if (trace.Length == 2 && trace[1].Address == address + (ulong)trace[0].Bytes.Length && trace[0].Bytes.Length != testCase.Code.Lengths[0] && outcome.Comparable)
        {
            throw new BrokenPromiseException($"the first instruction is {trace[0].Bytes.Length} bytes long in the model and {testCase.Code.Lengths[0]} in the sweep");
        }
    }
}
