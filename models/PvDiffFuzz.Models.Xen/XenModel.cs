using System.Collections.Immutable;
using System.Reflection;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>The ABI of Xen's PV guests, executable: user and kernel code of a guest on the model of the processor, with Xen between.</summary>
/// <remarks>
/// The model is the specification, never an implementation: delivery (IDT or FRED) and the release are parameters, because texts describe both sides of each difference. Where they are silent it takes a
/// reading of docs/xen-readings.md. Used by one thread at a time.
/// </remarks>
public sealed class XenModel : ITarget, ITracer
{
    private readonly CpuProfile _default;
    private readonly X86Engine _engine;
    private readonly XenRun<Pv64<Idt>> _idt;
    private readonly XenRun<Pv64<Fred>> _fred;
    private readonly XenRun<Pv32> _pv32;

    /// <summary>Makes a model.</summary>
    /// <param name="profile">The processor for cases that name none; null for a recent AMD one.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    /// <param name="version">The release for cases that name none; null for <see cref="DefaultVersion"/>.</param>
    public XenModel(CpuProfile? profile = null, FormUsage? usage = null, XenVersion? version = null)
    {
        _default = profile ?? CpuProfile.DefaultAmd;
        _engine = new X86Engine(_default, usage);
        Release release = new(version ?? DefaultVersion);
        Vcpu vcpu = new(_engine, release);
        _idt = new XenRun<Pv64<Idt>>(_engine, vcpu);
        _fred = new XenRun<Pv64<Fred>>(_engine, vcpu);
        _pv32 = new XenRun<Pv32>(_engine, vcpu);
        string commit = typeof(XenModel).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
        Info = new TargetInfo(
            version is null ? "model.xen" : $"model.xen:{version}",
            TargetKind.Model,
            "model",
            Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages,
            new Fingerprint([new("version", commit), new("vendor", _default.Vendor.ToString()), new("xen", release.Version.ToString())]))
        {
            Abis = [Abi.XenPv64, Abi.XenPv64Fred, Abi.XenPv32],
        };
    }

    /// <summary>The newest release that the texts speak of.</summary>
    public static XenVersion DefaultVersion => Release.Newest;

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
        CpuProfile host = testCase.Profile ?? _default;
        return testCase.Abi switch
        {
            Abi.XenPv64 => _idt.Run(testCase, host, trace),
            Abi.XenPv64Fred => _fred.Run(testCase, host, trace),
            Abi.XenPv32 => _pv32.Run(testCase, host, trace),
            _ => Outcome.Unsupported($"model.xen speaks the ABIs of Xen, not {testCase.Abi.Text()}"),
        };
    }
}
