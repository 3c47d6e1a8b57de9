using System.Diagnostics.CodeAnalysis;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Executes user code of any case until something is pending. What becomes of that is for the model that owns the engine to say.</summary>
/// <remarks>The state is a <see cref="CpuState"/> on the owner's stack; the engine keeps the pages and what was decoded. Used by one thread at a time.</remarks>
// SAFETY: the only pointer followed is MicroOp.Execute, which Predecoder took from OpTable for the form that it decoded.
internal sealed unsafe class X86Engine : IDisposable
{
    private const ushort NotDecoded = ushort.MaxValue;

    private readonly GuestMemory _memory = new();
    private readonly ushort[] _opAt = new ushort[CodeBlock.MaximumLength];
    private readonly FormUsage? _usage;
    private readonly List<(CpuProfile Profile, Predecoder Predecoder)> _predecoders = [];
    private MicroOp[] _ops = new MicroOp[64];
    private MicroOp _outside;
    private int _opCount;
    private int _last;
    private uint _codeVersion;
    private CpuProfile _profile;
    private Predecoder _predecoder;
    private bool _checksAlignment;

    /// <summary>Makes an engine.</summary>
    /// <param name="profile">The processor to begin with.</param>
    /// <param name="usage">Receives the forms that are executed; null when nobody asks.</param>
    public X86Engine(CpuProfile profile, FormUsage? usage)
    {
        _usage = usage;
        _profile = profile;
        _predecoder = PredecoderFor(_profile);
        _checksAlignment = _profile.Has("AM");
        _opAt.AsSpan().Fill(NotDecoded);
    }

    /// <summary>The processor that is modelled now.</summary>
    public CpuProfile Profile => _profile;

    /// <summary>True when CR0.AM is set, so that EFLAGS.AC checks alignment in ring 3.</summary>
    public bool ChecksAlignment => _checksAlignment;

    /// <summary>The pages.</summary>
    public GuestMemory Memory => _memory;

    /// <summary>Addresses at which the engine stops before it fetches, with <see cref="PendingKind.Door"/>; before an instruction of the code block that ends there, too. None of them lies in the code block.</summary>
    public ReadOnlyMemory<Door> Doors { get; set; }

    /// <summary>True when the last thing that happened is that an instruction could not be fetched or decoded, so that <see cref="Last"/> means nothing.</summary>
    public bool FetchFailed => _last < 0;

    /// <summary>The instruction that was executed last.</summary>
    public ref readonly MicroOp Last => ref ((uint)_last < (uint)_ops.Length ? ref _ops[_last] : ref _outside);

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    /// <summary>The state before a case; the owner loads the registers.</summary>
    /// <param name="instructions">Limit of instructions.</param>
    /// <param name="debug">The debug registers; null when none is armed.</param>
    public CpuState Start(int instructions, DebugRegisters? debug) => new()
    {
        Memory = _memory,
        Profile = _profile,
        Budget = instructions,
        ChecksAlignment = _checksAlignment,
        Breakpoints = Breakpoints.Arm(debug),
    };

    /// <summary>Runs until something is pending or the budget is spent.</summary>
    public void Execute(ref CpuState cpu, CodeBlock code, Tracer? trace)
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
                    _last = -1;
                    if (cpu.Pending != PendingKind.Door)
                    {
                        trace?.AddUndecoded(ref cpu);
                    }

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
                _last = index;
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
            if (IsDoor(cpu.Rip))
            {
                cpu.Stop(PendingKind.Door);
                return -1;
            }

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

        bool decoded = _predecoder.Decode(ref cpu, ref _ops[_opCount]);
        uint end = (uint)offset + (decoded ? _ops[_opCount].Length : (uint)_predecoder.Refused);
        if (end > length && IsDoor(cpu.Rip - (uint)offset + end - 1))
        {
            // Its last bytes are no payload.
            cpu.Stop(PendingKind.Door);
            return -1;
        }

        if (!decoded)
        {
            return -1;
        }

        _usage?.Mark(_ops[_opCount].Code);
        _opAt[(int)offset] = (ushort)_opCount;
        return _opCount++;
    }

    /// <summary>Forgets what was decoded of a code block, at the end of its case.</summary>
    public void ForgetCode(CodeBlock code)
    {
        _opAt.AsSpan(0, code.Bytes.Length).Fill(NotDecoded);
        _opCount = 0;
    }

    /// <summary>Changes the processor.</summary>
    [ExcludeFromCodeCoverage(Justification = "What it does depends on the case before.")]
    public void UseProfile(CpuProfile profile)
    {
        if (!ReferenceEquals(profile, _profile))
        {
            _predecoder = PredecoderFor(profile);
            _checksAlignment = profile.Has("AM");
            _profile = profile;
        }
    }

    /// <summary>A predecoder is slow to make and depends on maker, family and features alone, so that cases that change between a few processors take those made before.</summary>
    [ExcludeFromCodeCoverage(Justification = "What it does depends on the processors of earlier cases.")]
    private Predecoder PredecoderFor(CpuProfile profile)
    {
        const int most = 16;
        foreach ((CpuProfile made, Predecoder predecoder) in _predecoders)
        {
            if (ReferenceEquals(made.Features, profile.Features) && made.Vendor == profile.Vendor && made.Family == profile.Family)
            {
                return predecoder;
            }
        }

        foreach ((CpuProfile made, Predecoder predecoder) in _predecoders)
        {
            if (made.Vendor == profile.Vendor && made.Family == profile.Family && made.Features.SetEquals(profile.Features))
            {
                return predecoder;
            }
        }

        if (_predecoders.Count == most)
        {
            _predecoders.RemoveAt(0);
        }

        Predecoder fresh = new(OpTable.Create(profile), profile);
        _predecoders.Add((profile, fresh));
        return fresh;
    }

    private bool IsDoor(ulong address)
    {
        foreach (Door door in Doors.Span)
        {
            if (address - door.Address < door.Length)
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>Addresses that belong to whoever runs the payload, so that a jump there is no execution of what the case has there.</summary>
/// <param name="Address">The first.</param>
/// <param name="Length">How many.</param>
internal readonly record struct Door(ulong Address, ulong Length);
