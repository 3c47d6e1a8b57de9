using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Builds one case at a time. Holds scratch memory only: nothing of one case reaches the next.</summary>
/// <remarks>
/// While it writes instructions it follows the values of registers as far as they are known on the straight path, so that most memory operands can be aimed at a chosen address,
/// and which flags are undefined, so that instructions do not read those.
/// </remarks>
internal partial class CaseBuilder
{
    private protected const byte Rax = 0;
    private protected const byte Rcx = 1;
    private protected const byte Rdx = 2;
    private protected const byte Rbx = 3;
    private protected const byte Rsp = 4;
    private protected const byte Rbp = 5;
    private protected const byte Rsi = 6;
    private protected const byte Rdi = 7;

    private protected readonly GeneratorOptions _options;
    private protected readonly CpuProfile _profile;
    private protected readonly FormPools _pools64;
    private protected readonly FormPools _pools32;
    private protected readonly CodeWriter _code = new();
    private protected readonly ContentsBuilder _contents = new();
    private protected readonly ulong[] _value = new ulong[GprFile.Count];
    private readonly byte[] _scratch = new byte[GprFile.Count];
    private protected readonly int[] _hot = new int[4];
    private readonly byte[] _buffer = new byte[64];

    private protected CounterRandom _random;
    private protected FormPools _pools;
    private protected CpuMode _mode;
    private protected ulong _block;

    /// <summary>Offset in the block at which the code ends.</summary>
    private protected ulong _codeEnd = AddressMap.CodeEnd;

    /// <summary>Offset in the block of the stack slot.</summary>
    private protected ulong _stackSlot = AddressMap.Stack;

    private protected int _known;
    private protected int _pinned;
    private int _scratchCount;
    private protected int _registers;
    private protected ulong _undefined;
    private ulong _fsBase;
    private ulong _gsBase;
    private bool _fsKnown;
    private bool _gsKnown;
    private protected bool _inside;

    /// <summary>Prepares the pools.</summary>
    public CaseBuilder(GeneratorOptions options, CpuProfile profile)
    {
        _options = options;
        _profile = profile;
        _pools64 = new FormPools(CpuMode.Long64, options, profile);
        _pools32 = options.CompatibilityPercent > 0 ? new FormPools(CpuMode.Compatibility32, options, profile) : _pools64;
        _pools = _pools64;
    }

    /// <summary>True when code must not lose its stack: events need it.</summary>
    private protected bool _keepsStack;

    /// <summary>Address at which the code ends.</summary>
    private protected virtual ulong CodeTop => _block + _codeEnd;

    /// <summary>Selector of flat code of the mode.</summary>
    private protected virtual ushort FlatCode => Long64 ? Selectors.UserCode64 : Selectors.UserCode32;

    /// <summary>Selector of flat data.</summary>
    private protected virtual ushort FlatData => Selectors.UserData;

    private protected bool Long64 => _mode == CpuMode.Long64;

    /// <summary>Makes one case.</summary>
    /// <param name="random">Its stream.</param>
    /// <returns>A well-formed case, or null when its bytes happen to hold an excluded instruction; another stream will do better.</returns>
    public virtual TestCase? Build(CounterRandom random)
    {
        _random = random;
        bool compatibility = _options.CompatibilityPercent > 0 && _random.Percent(_options.CompatibilityPercent);
        _mode = compatibility ? CpuMode.Compatibility32 : CpuMode.Long64;
        _pools = compatibility ? _pools32 : _pools64;
        _block = compatibility || (_random.Next() & 1) == 0 ? AddressMap.LowBlock : AddressMap.HighBlock;
        _registers = compatibility ? 8 : 16;
        _code.Clear();
        _contents.Clear();
        _undefined = 0;
        _inside = false;
        _pinned = 0;
        _aimCount = 0;
        StartRegisters();
        bool raw = _options.RawPercent > 0 && _random.Percent(_options.RawPercent);
        WriteInstructions();
        return raw ? FinishRaw() : Finish();
    }

    private protected virtual void WriteInstructions()
    {
        int wanted = _random.Percent(_options.TypicalPercent)
            ? Math.Clamp(_options.TypicalInstructions, _options.MinimumInstructions, _options.MaximumInstructions)
            : _options.MinimumInstructions + _random.Below(_options.MaximumInstructions - _options.MinimumInstructions + 1);
        bool final = _pools.HasFinal && _random.Percent(_options.FinalEntryPercent);
        while (_code.Count < wanted && !_code.Full)
        {
            _inside = false;
            if (final && _code.Count == wanted - 1)
            {
                Emit(_pools.PickFinal(ref _random));
            }
            else if (_pools.HasBody && wanted - _code.Count >= 4 && _random.Below(128) == 0)
            {
                EmitLoop();
            }
            else
            {
                Emit(PickForm());
            }
        }
    }

    private protected Candidate PickForm() =>
        _options.EvenPercent > 0 && _random.Percent(_options.EvenPercent) ? _pools.PickEvenly(ref _random) : _pools.Pick(ref _random);

    /// <summary>Writes one instruction and what it needs before it.</summary>
    private protected void Emit(Candidate candidate)
    {
        FormTemplate template = candidate.Template;
        DefineFlagsFor(template.FlagsRead);
        OperandChoice choice = default;
        switch (candidate.Plan)
        {
            case Plan.NearBranch:
                EmitNearBranch(template);
                return;
            case Plan.IndirectBranch:
                EmitIndirectBranch(template);
                return;
            case Plan.NearReturn:
                EmitNearReturn(template);
                return;
            case Plan.FarReturn:
                EmitFarReturn(template);
                return;
            case Plan.FarBranch:
                EmitFarBranch(template);
                return;
            case Plan.String:
                EmitString(template);
                return;
            case Plan.SelectorMove:
                EmitSelectorMove(template);
                return;
            default:
                Prepare(candidate, ref choice);
                break;
        }

        ChooseOperands(template, candidate.Plan, ref choice);
        Write(template, in choice, candidate.Plan);
        Track(template, in choice, candidate);
        _pinned = 0;
    }

    /// <summary>Adds an instruction that sets flags when one that is about to be read may be undefined.</summary>
    private protected void DefineFlagsFor(ulong read)
    {
        if ((read & _undefined) == 0)
        {
            return;
        }

        // CMP defines all six status flags. Once in a while the flags stay as they are, so that masks are tested too.
        if (_random.Below(64) == 0)
        {
            return;
        }

        int left = _random.Below(8);
        int right = _random.Below(8);
        Span<byte> compare = [0x39, (byte)(0xc0 | (right << 3) | left)];
        AddSetup(compare);
        _undefined = 0;
    }

    private protected void AddSetup(ReadOnlySpan<byte> instruction)
    {
        _code.Add(instruction, _inside);
        _inside = true;
    }

    private protected void Write(FormTemplate template, in OperandChoice choice, Plan plan)
    {
        int prefixes = 0;
        if (_random.Permille(_options.PrefixPermille))
        {
            prefixes = AddPrefixes(template, in choice, _buffer);
        }

        int length = TemplateEncoder.Encode(template, in choice, _buffer.AsSpan(prefixes), out int displacementAt);
        _code.Add(_buffer.AsSpan(0, prefixes + length), _inside);
        if (choice.IsMemory && choice.Memory.Base == MemoryOperand.Rip && template.RmField != RmField.None)
        {
            _code.AimAtData(prefixes + displacementAt, _ripTarget);
        }
    }

    /// <summary>Follows what an instruction does to registers and flags.</summary>
    private protected void Track(FormTemplate template, in OperandChoice choice, Candidate? candidate)
    {
        int written = template.ImplicitWrite;
        if ((template.RegAccess & Access.Write) != 0)
        {
            written |= Bit(choice.Reg, template.RegBits);
        }

        if (!choice.IsMemory && (template.RmAccess & Access.Write) != 0)
        {
            written |= Bit(choice.Rm, template.RmBits);
        }

        if ((template.OpcodeRegAccess & Access.Write) != 0)
        {
            written |= Bit(choice.OpcodeReg, template.OpcodeRegBits);
        }

        if ((template.VvvvAccess & Access.Write) != 0)
        {
            written |= Bit(choice.Vvvv, 64);
        }

        bool stackKnown = (_known & (1 << Rsp)) != 0 && template.StackDelta != 0 && (written & (1 << Rsp)) != 0 && candidate?.Plan is Plan.Stack or Plan.PopFlags or Plan.SelectorPop or null;
        _known &= ~written;
        if (stackKnown)
        {
            _value[Rsp] += (ulong)template.StackDelta;
            _known |= 1 << Rsp;
        }

        FlagEffect effect = candidate is { Counted: true }
            ? FlagEffects.Of(template.Code, CountOf(template, in choice))
            : new FlagEffect(template.FlagsRead, template.FlagsDefined, template.FlagsUndefined);
        _undefined = ((_undefined & ~effect.Defined) | effect.Undefined) & RflagsBits.Status;
    }

    private byte? CountOf(FormTemplate template, in OperandChoice choice)
    {
        if (template.ImmediateBytes != 0)
        {
            return (byte)choice.Immediate;
        }

        if ((template.ImplicitRead & (1 << Rcx)) == 0)
        {
            return 1;
        }

        return (_known & (1 << Rcx)) != 0 ? (byte)_value[Rcx] : null;
    }

    /// <summary>Bit of the full register that an operand is part of.</summary>
    private int Bit(byte register, byte bits) =>
        (register & OperandChoice.HighByte) != 0 ? (1 << (register & 3)) | (1 << (register & 7))
        : bits == 8 && !Long64 && register >= 4 ? 1 << (register & 3)
        : 1 << (register & 15);
}
