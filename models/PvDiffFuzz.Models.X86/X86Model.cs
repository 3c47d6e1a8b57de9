using System.Collections.Immutable;
using System.Reflection;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Managed interpreter of user code: 64-bit and compatibility mode at CPL3, with vendor profiles.</summary>
/// <remarks>The model is the specification: it follows the manuals, never an implementation. Used by one thread at a time.</remarks>
public sealed class X86Model : ITarget, ITracer
{
    /// <summary>By form, made when first needed. Models on several threads may each make one; they are equal.</summary>
    private static readonly Outcome?[] NoForm = new Outcome?[Enum.GetValues<Code>().Length];

    private readonly CpuProfile _default;
    private readonly X86Engine _engine;
    private readonly List<Event> _events = [];

    /// <summary>Makes a model.</summary>
    /// <param name="profile">The processor for cases that name none; null for a recent AMD one.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    public X86Model(CpuProfile? profile = null, FormUsage? usage = null)
    {
        _default = profile ?? CpuProfile.DefaultAmd;
        _engine = new X86Engine(_default, usage);
        string version = typeof(X86Model).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
        Info = new TargetInfo(
            "model.x86",
            TargetKind.Model,
            "model",
            Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses | Capabilities.SupervisorPages | Capabilities.ProtectionKeys,
            new Fingerprint([new("version", version), new("vendor", _default.Vendor.ToString())]));
    }

    /// <summary>Iced's names of the forms that the model executes, including those that only raise #UD or #GP.</summary>
    public static ImmutableSortedSet<string> ModelledForms { get; } = [.. OpTable.Modelled.Select(code => code.ToString())];

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
        if (testCase.Abi != Abi.X86)
        {
            return Outcome.Unsupported($"model.x86 speaks the ABI x86, not {testCase.Abi.Text()}");
        }

        _engine.UseProfile(testCase.Profile ?? _default);
        if (testCase.Registers.Pkru is not null && !_engine.Profile.Has("PKU"))
        {
            return Outcome.Unsupported("the case states PKRU, but its processor has no protection keys");
        }

        _engine.Memory.Load(testCase);
        CpuState cpu = _engine.Start(testCase.Limits.Instructions, testCase.Registers.Debug);
        Delivery.Enter(ref cpu, testCase.Registers);
        _events.Clear();
        Outcome? early = null;
        while (true)
        {
            if (cpu.Pending == PendingKind.None)
            {
                _engine.Execute(ref cpu, testCase.Code, trace);
            }

            early = NotAnEvent(ref cpu);
            if (early is not null)
            {
                break;
            }

            trace?.NotePending(ref cpu);
            Event delivered = Delivery.Deliver(ref cpu);
            _events.Add(delivered);
            if (IsEnd(delivered, testCase.Code.End) || _events.Count > testCase.Responses.Length)
            {
                break;
            }

            Delivery.Return(ref cpu, delivered.Registers, testCase.Responses[_events.Count - 1]);
        }

        _engine.ForgetCode(testCase.Code);
        ImmutableArray<MemoryWord> changes = _engine.Memory.Unload(testCase);
        if (early is not null)
        {
            return early;
        }

        Event last = _events[^1];
        return new Outcome
        {
            End = IsEnd(last, testCase.Code.End) ? EndKind.ReachedEnd : EndKind.Event,
            Events = [.. _events],
            Registers = last.Registers,
            Memory = changes,
        };
    }

    /// <summary>The fetch #PF right after the code.</summary>
    private static bool IsEnd(Event delivered, ulong end) =>
        delivered.Cr2 == end && delivered.Registers.Rip == end && (delivered.ErrorCode & PageFault.Fetch) != 0;

    private static Outcome? NotAnEvent(ref CpuState cpu) => cpu.Pending switch
    {
        PendingKind.None => Outcome.BudgetSpent("instruction limit"),
        PendingKind.Unsupported => NoForm[cpu.PendingError] ??= Outcome.Unsupported($"model.x86 has no {(Code)cpu.PendingError}"),
        _ => null,
    };
}
