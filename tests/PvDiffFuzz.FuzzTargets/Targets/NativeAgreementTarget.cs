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
    private readonly CpuProfile _host;
    private readonly CaseRunner _runner;
    private readonly KnownSet _known = KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));

    /// <summary>Takes this host's processor.</summary>
    public NativeAgreementTarget()
        : this(HostProfile.Probe(), new NativeTarget())
    {
    }

    /// <summary>Takes a processor.</summary>
    /// <param name="host">What it is.</param>
    /// <param name="processor">Runs cases on it; disposed with the target.</param>
    public NativeAgreementTarget(CpuProfile host, ITarget processor) =>
        (_host, _runner) = (host, new CaseRunner([new X86Model(host), processor], CaseAnalyst.For(new X86Model(host), host.Vendor)));

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
            && Divergence.Of(first, _runner) is Divergence divergence && !divergence.Comparison.Consumed && _known.Find(divergence, _runner.Analyst).IsEmpty)
        {
            throw new BrokenPromiseException($"the model and the processor differ: {divergence.Signature}");
        }
    }
}
