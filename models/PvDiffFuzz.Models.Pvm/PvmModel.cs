using System.Collections.Immutable;
using System.Reflection;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>The specification of PVM, executable: user and supervisor code of a guest on the model of the processor, with the hypervisor between.</summary>
/// <remarks>
/// The model is the specification of the case's revision, never an implementation; where the text is silent it takes a reading of docs/pvm-readings.md, and where it says
/// <em>may</em> the outcome has the others as alternatives. Used by one thread at a time.
/// </remarks>
public sealed class PvmModel : ITarget, ITracer
{
    private readonly CpuProfile _default;
    private readonly X86Engine _engine;
    private readonly PvmRun<Rfc1> _rfc1;
    private readonly PvmRun<Pvm612> _pvm612;
    private readonly PvmRun<Abi1> _abi1;

    /// <summary>Makes a model.</summary>
    /// <param name="profile">The processor for cases that name none; null for a recent AMD one.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    public PvmModel(CpuProfile? profile = null, FormUsage? usage = null)
    {
        _default = profile ?? CpuProfile.DefaultAmd;
        _engine = new X86Engine(_default, usage);
        Vcpu vcpu = new(_engine.Memory);
        _rfc1 = new PvmRun<Rfc1>(_engine, vcpu);
        _pvm612 = new PvmRun<Pvm612>(_engine, vcpu);
        _abi1 = new PvmRun<Abi1>(_engine, vcpu);
        string version = typeof(PvmModel).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
        Info = new TargetInfo(
            "model.pvm",
            TargetKind.Model,
            "model",
            Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages | Capabilities.ProtectionKeys,
            new Fingerprint([new("version", version), new("vendor", _default.Vendor.ToString())]))
        {
            Abis = [Abi.PvmRfc1, Abi.Pvm612, Abi.PvmAbi1],
        };
    }

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        return Run(testCase, trace: null);
    }

    /// <inheritdoc/>
    public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        Tracer trace = new(maximum);
        Run(testCase, trace);
        return trace.Instructions.ToImmutable();
    }

    /// <inheritdoc/>
    public void Dispose() => _engine.Dispose();

    private Outcome Run(TestCase testCase, Tracer? trace)
    {
        IPvmRun? run = testCase.Abi switch
        {
            Abi.PvmRfc1 => _rfc1,
            Abi.Pvm612 => _pvm612,
            Abi.PvmAbi1 => _abi1,
            _ => null,
        };
        if (run is null)
        {
            return Outcome.Unsupported($"model.pvm speaks revisions of PVM, not {testCase.Abi.Text()}");
        }

        _engine.UseProfile(testCase.Profile ?? _default);
        return run.Run(testCase, _engine.Profile, trace);
    }
}
