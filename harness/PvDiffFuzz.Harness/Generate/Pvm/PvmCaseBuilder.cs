using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <summary>Builds PVM cases: payloads of both modes from the same instructions as other cases and from <see cref="PvmAction"/>s, with the system side around them.</summary>
internal sealed partial class PvmCaseBuilder : ParavirtualCaseBuilder
{
    private const byte R10 = 10;
    private const byte R11 = 11;
    private const ulong EventFlagIF = 1UL << 9;
    private const ulong EventFlagIP = 1UL << 8;
    private const byte StackSegment = 2;

    private readonly Abi _abi;
    private readonly PvmOptions _pvm;
    private readonly FormPools _supervisorPools;
    private readonly PvmAction[] _supervisorActions;
    private readonly PvmAction[] _userActions;
    private readonly PvmAction[] _compatibilityActions;

    private bool _supervisor;
    private bool _oneRoot;
    private bool _structure;
    private bool _sysret;
    private bool _raw;
    private ulong _snippet;
    private int _ownReturn;
    private bool _ownReturnIsToUser;
    private ulong _watched;

    /// <summary>Prepares pools and tables.</summary>
    public PvmCaseBuilder(GeneratorOptions options, CpuProfile profile)
        : base(options, profile)
    {
        _abi = options.Abi;
        _pvm = options.Pvm;

        // What is privileged, and SYSCALL, need operands that suit them; ports are left alone.
        _supervisorPools = new FormPools(CpuMode.Long64, options, profile, t => t.Family == Family.Privileged || t.Code == Iced.Intel.Code.Syscall || PvmExclusions.IsPortAccess(t));
        _supervisorActions = WeightTable.Of(Offered(_pvm.SupervisorWeights), PvmAction.SoftwareInterrupt);
        _userActions = WeightTable.Of(Offered(_pvm.UserWeights), PvmAction.SoftwareInterrupt);
        _compatibilityActions = WeightTable.Of(Offered(_pvm.UserWeights).Where(w => ExistsInCompatibility(w.Key)), PvmAction.SoftwareInterrupt);
    }

    private bool Rfc1 => _abi == Abi.PvmRfc1;

    /// <inheritdoc/>
    public override TestCase? Build(CounterRandom random)
    {
        _random = random;
        ChooseStart();
        _code.Clear();
        _contents.Clear(system: true, userRoot: !_oneRoot);
        _undefined = 0;
        _inside = false;
        _pinned = 0;
        _aimCount = 0;
        _snippet = 0;
        _ownReturn = -1;
        _watched = 0;
        _statesRange = false;
        ChooseState();
        StartRegisters();
        ChooseEntry();
        _raw = _options.RawPercent > 0 && _random.Percent(_options.RawPercent);
        WriteInstructions();
        return _raw ? FinishRaw() : Finish();
    }

    /// <summary>Mode, block, and the slots that go with them.</summary>
    private void ChooseStart()
    {
        _supervisor = _random.Percent(_pvm.SupervisorPercent);
        bool compatibility = !_supervisor && _options.CompatibilityPercent > 0 && _random.Percent(_options.CompatibilityPercent);
        _mode = compatibility ? CpuMode.Compatibility32 : CpuMode.Long64;
        _pools = _supervisor ? _supervisorPools : compatibility ? _pools32 : _pools64;
        _block = compatibility || (_random.Next() & 1) == 0 ? AddressMap.LowBlock : AddressMap.HighBlock;
        _registers = compatibility ? 8 : GprFile.Count;
        _codeEnd = _supervisor ? PvmMap.CodeEnd : AddressMap.CodeEnd;
        _stackSlot = _supervisor && !_random.Percent(12) ? PvmMap.Stack : AddressMap.Stack;
        _oneRoot = !Rfc1 || _random.Percent(_pvm.OneRootPercent);
        _structure = !_random.Percent(_pvm.NoStructurePercent);
    }

    /// <summary>RFLAGS of supervisor code shows the virtual interrupt flag; TF is worth more here than in other cases.</summary>
    private void ChooseEntry()
    {
        _kernelGsBase = Aim.Valid(ref _random, _block, 8, writes: true, _hot) & ~0x3fUL;
        if (_supervisor)
        {
            _rflags &= ~RflagsBits.IF;
            _rflags |= _eventFlags & RflagsBits.IF;
        }

        _rflags |= _random.Below(20) == 0 ? RflagsBits.TF : 0;
        _sysret = !_supervisor && _random.Percent(20);
        if (_sysret)
        {
            // RCX = RIP and R11 = RFLAGS, as SYSCALL leaves them and SYSRET wants them; neither is known before the code is placed.
            _known &= ~((1 << Rcx) | (1 << R11));
        }
    }

    /// <inheritdoc/>
    private protected override void WriteInstructions()
    {
        int wanted = _random.Percent(_options.TypicalPercent)
            ? Math.Clamp(_options.TypicalInstructions, _options.MinimumInstructions, _options.MaximumInstructions)
            : _options.MinimumInstructions + _random.Below(_options.MaximumInstructions - _options.MinimumInstructions + 1);
        int actions = _supervisor ? _pvm.SupervisorActionPercent : _pvm.UserActionPercent;
        bool final = _random.Percent(_options.FinalEntryPercent);
        for (int step = 0; step < wanted && !_code.Full; step++)
        {
            _inside = false;
            if (final && step == wanted - 1)
            {
                Final();
            }
            else if (_random.Percent(actions))
            {
                Act(PickAction());
            }
            else if (_pools.HasBody && _random.Below(128) == 0)
            {
                EmitLoop();
            }
            else
            {
                Emit(PickForm());
            }
        }
    }

    /// <summary>A last step that most likely leaves the mode.</summary>
    private void Final()
    {
        _inside = false;
        switch (_random.Below(8))
        {
            case < 3 when _pools.HasFinal && !_supervisor:
                Emit(_pools.PickFinal(ref _random));
                break;
            case < 3:
                Act(_supervisor ? PvmAction.ReturnToUser : PvmAction.SoftwareInterrupt);
                break;
            case 3 or 4:
                Act(PvmAction.SoftwareInterrupt);
                break;
            case 5:
                Act(PvmAction.PageFault);
                break;
            case 6 when Long64:
                Act(PvmAction.Hypercall);
                break;
            default:
                Act(PvmAction.Undefined);
                break;
        }
    }

    private PvmAction PickAction()
    {
        PvmAction[] table = _supervisor ? _supervisorActions : Long64 ? _userActions : _compatibilityActions;
        return WeightTable.Pick(table, ref _random);
    }

    private void Act(PvmAction action)
    {
        switch (action)
        {
            case PvmAction.InterruptFlag:
                AddSetup([(byte)(0xfa + _random.Below(2))]);
                break;
            case PvmAction.Halt:
                AddSetup([0xf4]);
                break;
            case PvmAction.FlagsOnStack:
                FlagsOnStack();
                break;
            case PvmAction.ControlRegister:
                ControlRegister();
                break;
            case PvmAction.DebugRegister:
                DebugRegister();
                break;
            case PvmAction.DescriptorTable:
                DescriptorTable();
                break;
            case PvmAction.Invalidate:
                Invalidate();
                break;
            case PvmAction.ReadMsr:
                ReadMsr();
                break;
            case PvmAction.WriteMsr:
                WriteMsr();
                break;
            case PvmAction.Forbidden:
                Forbidden();
                break;
            case PvmAction.SyntheticCpuid:
                SyntheticCpuid();
                break;
            case PvmAction.SegmentBase:
                SegmentBase();
                break;
            case PvmAction.FarReturn:
                EmitFarReturn(_random.Percent(75) ? Forms.Iret : Forms.Retf);
                break;
            case PvmAction.SoftwareInterrupt:
                SoftwareInterrupt();
                break;
            case PvmAction.Undefined:
                Undefined();
                break;
            case PvmAction.DivideError:
                DivideError();
                break;
            case PvmAction.PageFault:
                PageFault();
                break;
            case PvmAction.SingleStep:
                SingleStep();
                break;
            case PvmAction.StackShadow:
                StackShadow();
                break;
            case PvmAction.Hypercall when !Long64:
                SyscallOfCompatibility();
                break;
            case PvmAction.Hypercall:
                EmitHypercall();
                break;
            case PvmAction.Structure:
                Structure();
                break;
            case PvmAction.ReturnToUser:
                ReturnToUser();
                break;
            case PvmAction.ReturnToSupervisor:
                ReturnToSupervisor();
                break;
            default:
                MoveEntry();
                break;
        }

        _pinned = 0;
    }

    /// <summary>What a revision does not offer is not generated for it.</summary>
    private IEnumerable<KeyValuePair<PvmAction, int>> Offered(ImmutableSortedDictionary<PvmAction, int> weights) => weights.Where(w => Rfc1 || w.Key != PvmAction.MoveEntry);

    private static bool ExistsInCompatibility(PvmAction action) => action is PvmAction.InterruptFlag or PvmAction.Halt or PvmAction.FlagsOnStack or PvmAction.ReadMsr or PvmAction.WriteMsr
        or PvmAction.Forbidden or PvmAction.FarReturn or PvmAction.SoftwareInterrupt or PvmAction.Undefined or PvmAction.DivideError or PvmAction.PageFault or PvmAction.SingleStep
        or PvmAction.StackShadow or PvmAction.Hypercall;
}
