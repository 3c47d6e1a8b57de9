using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The predecoder of the model takes any bytes as code, in both modes and for both vendors, and an instruction that it completes is as long as the linear sweep says.</summary>
internal sealed class PredecoderTarget : FuzzTarget
{
    private readonly X86Model _model = new();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _model.Dispose();
        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    public override void Run(byte[] input)
    {
        if (CodeInput.ToCase(input) is not TestCase testCase)
        {
            return;
        }

        if (testCase.Check() is CaseProblem problem)
        {
            throw new BrokenPromiseException($"code from anywhere makes a malformed case: {problem}");
        }

        Outcome outcome = _model.Run(testCase);
        ImmutableArray<TracedInstruction> trace = _model.Trace(testCase, 2);
        if (outcome.Comparable && trace.Length == 2 && trace[1].Address == testCase.Code.Address + (ulong)trace[0].Bytes.Length && trace[0].Bytes.Length != testCase.Code.Lengths[0])
        {
            throw new BrokenPromiseException($"the first instruction is {trace[0].Bytes.Length} bytes long in the model and {testCase.Code.Lengths[0]} in the sweep");
        }
    }
}
