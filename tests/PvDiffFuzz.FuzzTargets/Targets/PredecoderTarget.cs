using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The predecoder of the model takes any bytes as code, in both modes and for both vendors, and an instruction that it completes is as long as the linear sweep says.</summary>
internal sealed class PredecoderTarget : FuzzTarget
{
    private readonly ITarget _model;
    private readonly ITracer _tracer;

    /// <summary>Takes the model.</summary>
    public PredecoderTarget()
        : this(new X86Model())
    {
    }

    /// <summary>Takes a model.</summary>
    /// <param name="model">Runs and traces.</param>
    public PredecoderTarget(X86Model model)
        : this(model, model)
    {
    }

    /// <summary>Takes the parts of a model.</summary>
    /// <param name="model">Runs; disposed with the target.</param>
    /// <param name="tracer">Traces.</param>
    public PredecoderTarget(ITarget model, ITracer tracer) => (_model, _tracer) = (model, tracer);

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
        ImmutableArray<TracedInstruction> trace = _tracer.Trace(testCase, 2);
        if (outcome.Comparable && trace.Length == 2 && trace[1].Address == testCase.Code.Address + (ulong)trace[0].Bytes.Length && trace[0].Bytes.Length != testCase.Code.Lengths[0])
        {
            throw new BrokenPromiseException($"the first instruction is {trace[0].Bytes.Length} bytes long in the model and {testCase.Code.Lengths[0]} in the sweep");
        }
    }
}
