using System.Collections.Immutable;
using System.Reflection;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Managed interpreter of user code: 64-bit and compatibility mode at CPL3, with vendor profiles.</summary>
/// <remarks>The model is the specification: it follows the manuals, never an implementation. Used by one thread at a time.</remarks>
// SAFETY: the only pointer followed is MicroOp.Execute, which Predecoder took from OpTable for the form that it decoded.
public sealed unsafe class X86Model : ITarget, ITracer
{
    private const ushort NotDecoded = ushort.MaxValue;

    /// <summary>By form, made when first needed. Models on several threads may each make one; they are equal.</summary>
    private static readonly Outcome?[] NoForm = new Outcome?[Enum.GetValues<Code>().Length];

    private readonly GuestMemory _memory = new();
    private readonly CpuProfile _default;
    private readonly ushort[] _opAt = new ushort[CodeBlock.MaximumLength];
    private readonly List<Event> _events = [];
    private readonly FormUsage? _usage;
    private MicroOp[] _ops = new MicroOp[64];
    private MicroOp _outside;
    private int _opCount;
    private uint _codeVersion;
    private CpuProfile _profile;
    private Predecoder _predecoder;
    private bool _checksAlignment;

    /// <summary>Makes a model.</summary>
    /// <param name="profile">The processor for cases that name none; null for a recent AMD one.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    public X86Model(CpuProfile? profile = null, FormUsage? usage = null)
    {
        _usage = usage;
        _default = profile ?? CpuProfile.DefaultAmd;
        _profile = _default;
        _predecoder = new Predecoder(OpTable.Create(_profile), _profile);
        _checksAlignment = _profile.Has("AM");
        _opAt.AsSpan().Fill(NotDecoded);
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
    public void Dispose() => _memory.Dispose();

    private Outcome Run(TestCase testCase, Tracer? trace)
    {
        if (testCase.Abi != Abi.X86)
        {
            return Outcome.Unsupported($"model.x86 speaks the ABI x86, not {testCase.Abi.Text()}");
        }

        UseProfile(testCase.Profile ?? _default);
        if (testCase.Registers.Pkru is not null && !_profile.Has("PKU"))
        {
            return Outcome.Unsupported("the case states PKRU, but its processor has no protection keys");
        }

        _memory.Load(testCase);
        CpuState cpu = new()
        {
            Memory = _memory,
            Profile = _profile,
            Budget = testCase.Limits.Instructions,
            ChecksAlignment = _checksAlignment,
            Breakpoints = Breakpoints.Arm(testCase.Registers.Debug),
        };
        Delivery.Enter(ref cpu, testCase.Registers);
        _events.Clear();
        Outcome? early = null;
        while (true)
        {
            if (cpu.Pending == PendingKind.None)
            {
                Execute(ref cpu, testCase.Code, trace);
            }

            early = NotAnEvent(ref cpu);
            if (early is not null)
            {
                break;
            }

            Event delivered = Delivery.Deliver(ref cpu);
            _events.Add(delivered);
            if (IsEnd(delivered, testCase.Code.End) || _events.Count > testCase.Responses.Length)
            {
                break;
            }

            Delivery.Return(ref cpu, delivered.Registers, testCase.Responses[_events.Count - 1]);
        }

        ForgetCode(testCase.Code);
        ImmutableArray<MemoryWord> changes = _memory.Unload(testCase);
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

    /// <summary>Runs until something is pending or the budget is spent.</summary>
    private void Execute(ref CpuState cpu, CodeBlock code, Tracer? trace)
    {
        ulong start = code.Address;
        uint length = (uint)code.Bytes.Length;
        while (--cpu.Budget >= 0)
        {
            ulong offset = cpu.Rip - start;
            int index = offset < length && _memory.CodeVersion == _codeVersion ? _opAt[(int)offset] : NotDecoded;
            if (index == NotDecoded)
            {
                index = Decode(ref cpu, offset, length);
                if (index < 0)
                {
                    trace?.AddUndecoded(ref cpu);
                    Delivery.AfterFailedFetch(ref cpu);
                    return;
                }
            }

            ref readonly MicroOp op = ref (index == NotDecoded ? ref _outside : ref _ops[index]);
            trace?.Add(ref cpu, in op);
            cpu.InstructionRip = cpu.Rip;
            cpu.Rip = (cpu.Rip + op.Length) & cpu.LinearMask;
            op.Execute(ref cpu, in op);
            if (cpu.Attention != Attention.None && Delivery.AfterInstruction(ref cpu))
            {
                return;
            }
        }
    }

    /// <summary>Decodes at RIP.</summary>
    /// <returns>Index of the operation, <see cref="NotDecoded"/> when it lies outside the code block and so is in <see cref="_outside"/>, or -1 after a fault.</returns>
    private int Decode(ref CpuState cpu, ulong offset, uint length)
    {
        if (_codeVersion != _memory.CodeVersion)
        {
            // A store hit an executable page: everything decoded may be stale.
            _codeVersion = _memory.CodeVersion;
            _opAt.AsSpan(0, (int)length).Fill(NotDecoded);
            _opCount = 0;
        }

        if (offset >= length)
        {
            if (!_predecoder.Decode(ref cpu, ref _outside))
            {
                return -1;
            }

            _usage?.Mark(_outside.Code);
            return NotDecoded;
        }

        if (_opCount == _ops.Length)
        {
            Array.Resize(ref _ops, _ops.Length * 2);
        }

        if (!_predecoder.Decode(ref cpu, ref _ops[_opCount]))
        {
            return -1;
        }

        _usage?.Mark(_ops[_opCount].Code);
        _opAt[(int)offset] = (ushort)_opCount;
        return _opCount++;
    }

    private void ForgetCode(CodeBlock code)
    {
        _opAt.AsSpan(0, code.Bytes.Length).Fill(NotDecoded);
        _opCount = 0;
    }

    private void UseProfile(CpuProfile profile)
    {
        if (!ReferenceEquals(profile, _profile))
        {
            if (!profile.Equals(_profile))
            {
                _predecoder = new Predecoder(OpTable.Create(profile), profile);
                _checksAlignment = profile.Has("AM");
            }

            _profile = profile;
        }
    }

    /// <summary>Collects executed instructions.</summary>
    private sealed class Tracer(int maximum)
    {
        public ImmutableArray<TracedInstruction>.Builder Instructions { get; } = ImmutableArray.CreateBuilder<TracedInstruction>();

        public void Add(ref CpuState cpu, in MicroOp op) => Add(ref cpu, op.Length);

        /// <summary>What was fetched of an instruction that did not decode; nothing when not even its first byte was.</summary>
        public void AddUndecoded(ref CpuState cpu)
        {
            if (cpu.Canonical(cpu.Rip))
            {
                Add(ref cpu, longest: 15);
            }
        }

        private void Add(ref CpuState cpu, int longest)
        {
            Span<byte> bytes = stackalloc byte[15];
            int length = Instructions.Count < maximum ? cpu.Memory.Fetch(cpu.Rip, bytes[..longest], out _) : 0;
            if (length > 0)
            {
                Instructions.Add(new TracedInstruction(
                    cpu.Rip,
                    ImmutableArray.Create<byte>(bytes[..length]),
                    cpu.Compatibility ? CpuMode.Compatibility32 : CpuMode.Long64,
                    cpu.Read<ulong>(X86.Gpr.Rcx)));
            }
        }
    }
}
