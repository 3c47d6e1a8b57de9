using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The model and the processor agree about every case that may run, but for what is undefined or described in <c>corpus/known</c>.</summary>
internal sealed class NativeAgreementTarget : FuzzTarget
{
    private readonly CpuProfile _host = HostProfile.Probe();
    private readonly CaseRunner _runner;
    private readonly KnownSet _known = KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));

    public NativeAgreementTarget() => _runner = new CaseRunner([new X86Model(_host), new NativeTarget()], CaseAnalyst.For(new X86Model(_host), _host.Vendor));

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _runner.Dispose();
        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    public override void Run(byte[] input)
    {
        // A stored case may be about another processor, and may hold what only this one should be asked.
        if (CaseOf(input) is not TestCase { Abi: Abi.X86, Profile: null } testCase || !PvmExclusions.MayRunLive(testCase, _host))
        {
            return;
        }

        Examination examination = _runner.Examine(testCase);
        if (examination.Diverges && Locator.FirstDivergence(testCase, _runner, null) is Examination first
            && Divergence.Of(first, _runner) is Divergence divergence && !divergence.Comparison.Consumed && _known.Find(divergence).IsEmpty)
        {
            throw new BrokenPromiseException($"the model and the processor differ: {divergence.Signature}");
        }
    }
}
