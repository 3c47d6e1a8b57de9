using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <summary>Builds Xen cases: payloads of the guest's kernel and of its user code from the same instructions as other cases and from <see cref="XenAction"/>s, with what the guest has registered around them.</summary>
/// <remarks>
/// A guest that cannot take an event dies, so kernel code keeps its stack, handlers and callbacks are there, and only one case in <see cref="XenOptions.HazardOneIn"/> is made otherwise. Calls
/// that act on the machine are never made, so kernel code holds a SYSCALL only where its number has just been loaded.
/// </remarks>
internal sealed partial class XenCaseBuilder : ParavirtualCaseBuilder
{
    private const byte R8 = 8;
    private const byte R10 = 10;
    private const byte R11 = 11;
    private const ulong Page = PageLayout.PageSize;

    private readonly Abi _abi;
    private readonly XenOptions _xen;
    private readonly FormPools _kernelPools;
    private readonly FormPools _user64;
    private readonly FormPools _user32;
    private readonly XenAction[] _kernelActions;
    private readonly XenAction[] _userActions;

    private bool _kernel;
    private bool _entered;
    private bool _raw;
    private bool _oneRoot;
    private ulong _codeBlock;
    private ulong _kernelSnippet;
    private ulong _userSnippet;
    private Hazard _hazard;

    /// <summary>Prepares pools and tables.</summary>
    public XenCaseBuilder(GeneratorOptions options, CpuProfile profile)
        : base(options, profile)
    {
        _abi = options.Abi;
        _xen = options.Xen;

        // Ports need numbers at which nothing answers. Kernel code keeps its stack, and its calls need their numbers.
        _kernelPools = new FormPools(Narrow ? CpuMode.Compatibility32 : CpuMode.Long64, options, profile, t => t.Family == Family.Privileged || IsPort(t) || LosesStack(t) || IsCall(t));
        _user64 = Narrow ? _kernelPools : new FormPools(CpuMode.Long64, options, profile, IsPort);
        _user32 = Narrow || options.CompatibilityPercent > 0 ? new FormPools(CpuMode.Compatibility32, options, profile, IsPort) : _user64;
        _kernelActions = WeightTable.Of(_xen.KernelWeights.Where(w => Exists(w.Key, profile)), XenAction.SoftwareInterrupt);
        _userActions = WeightTable.Of(_xen.UserWeights, XenAction.SoftwareInterrupt);
    }

    /// <summary>What in a case may make Xen crash the domain.</summary>
    private enum Hazard
    {
        None,

        /// <summary>An exception has no handler.</summary>
        Hole,

        /// <summary>The kernel's stack for events of user code is not there.</summary>
        KernelStack,

        /// <summary>The kernel code's stack is not there.</summary>
        Stack,

        /// <summary>No user root, or no callback for what is due.</summary>
        Missing,

        /// <summary>A frame of HYPERVISOR_iret that is not there.</summary>
        Frame,

        /// <summary>The guest reports a crash of its own.</summary>
        Shutdown,
    }

    private bool Narrow => _abi == Abi.XenPv32;

    /// <inheritdoc/>
    private protected override ulong CodeTop => _codeBlock + _codeEnd;

    /// <inheritdoc/>
    private protected override ushort FlatCode => Narrow ? _kernel ? XenMap.KernelCode32 : XenMap.UserCode32 : Long64 ? XenMap.FlatCode64 : XenMap.FlatCode32;

    /// <inheritdoc/>
    private protected override ushort FlatData => !Narrow ? XenMap.FlatData : _kernel ? XenMap.KernelData32 : XenMap.UserData32;

    /// <inheritdoc/>
    public override TestCase? Build(CounterRandom random)
    {
        _random = random;
        ChooseStart();
        _code.Clear();
        _contents.Clear(system: true, userRoot: !_oneRoot && !Narrow, limit: Narrow ? AddressMap.FourGigabyteEdge : ulong.MaxValue);
        _undefined = 0;
        _inside = false;
        _pinned = 0;
        _aimCount = 0;
        _kernelSnippet = 0;
        _userSnippet = 0;
        _frames = 0;
        _raw = !_kernel && _options.RawPercent > 0 && _random.Percent(_options.RawPercent);
        ChooseState();
        if (_kernel || _iopl != 0)
        {
            // A jump into an instruction could find a call without its number, or a port.
            _code.KeepWhole();
        }

        StartRegisters();
        ChooseEntry();
        WriteInstructions();
        return _raw ? FinishRaw() : Finish();
    }

    /// <summary>Side, mode, blocks, and the slots that go with them.</summary>
    private void ChooseStart()
    {
        _kernel = _random.Percent(_xen.KernelPercent);
        _entered = !_kernel || _random.Percent(_xen.EnteredPercent);
        bool compatibility = Narrow || (!_kernel && _options.CompatibilityPercent > 0 && _random.Percent(_options.CompatibilityPercent));
        _mode = compatibility ? CpuMode.Compatibility32 : CpuMode.Long64;
        _pools = _kernel ? _kernelPools : compatibility ? _user32 : _user64;
        ulong bits = _random.Next();
        _block = compatibility || (bits & 1) == 0 ? AddressMap.LowBlock : AddressMap.HighBlock;
        _codeBlock = !_kernel || Narrow || (bits >> 8 & 3) < 2 ? _block : (bits >> 8 & 3) == 2 ? XenMap.UpperBlock : AddressMap.LowBlock + AddressMap.HighBlock - _block;
        _registers = compatibility ? 8 : GprFile.Count;
        _codeEnd = _kernel ? XenMap.CodeEnd : AddressMap.CodeEnd;
        _stackSlot = _kernel && (bits >> 12 & 7) != 0 ? XenMap.Stack : AddressMap.Stack;
        _oneRoot = !Narrow && _random.Percent(_xen.OneRootPercent);
        _hazard = _xen.HazardOneIn == 0 || _random.Below(_xen.HazardOneIn) != 0 ? Hazard.None : (Hazard)(1 + _random.Below(6));
        _keepsStack = _kernel;
    }

    /// <summary>Flags with which the payload starts: those of a frame may be anything, those of a kernel that is simply there may not.</summary>
    private void ChooseEntry()
    {
        ulong bits = _random.Next();
        _rflags |= (bits & 15) == 0 ? RflagsBits.TF : 0;
        if (_entered)
        {
            _rflags = FrameFlags(_rflags);
        }

        if (_kernel && _hazard == Hazard.Stack)
        {
            _initial[Rsp] = LostStack();
            _value[Rsp] = _initial[Rsp];
        }
    }

    /// <inheritdoc/>
    private protected override void WriteInstructions()
    {
        int wanted = _random.Percent(_options.TypicalPercent)
            ? Math.Clamp(_options.TypicalInstructions, _options.MinimumInstructions, _options.MaximumInstructions)
            : _options.MinimumInstructions + _random.Below(_options.MaximumInstructions - _options.MinimumInstructions + 1);
        int actions = _kernel ? _xen.KernelActionPercent : _xen.UserActionPercent;
        bool final = _random.Percent(_options.FinalEntryPercent);
        for (int step = 0; step < wanted && !_code.Full; step++)
        {
            _inside = false;
            if (_kernel && _hazard == Hazard.Frame && step == wanted - 1)
            {
                Act(XenAction.Return);
            }
            else if (final && step == wanted - 1)
            {
                Final();
            }
            else if (_random.Percent(actions))
            {
                Act(WeightTable.Pick(_kernel ? _kernelActions : _userActions, ref _random));
            }
            else if (_pools.HasBody && _random.Below(128) == 0)
            {
                EmitLoop();
            }
            else
            {
                Emit(_pools.Pick(ref _random));
            }
        }
    }

    /// <summary>A last step that most likely enters the guest's kernel.</summary>
    private void Final()
    {
        switch (_random.Below(8))
        {
            case 0 when _pools.HasFinal && !_kernel:
                Emit(_pools.PickFinal(ref _random));
                break;
            case < 4:
                Act(XenAction.SoftwareInterrupt);
                break;
            case 4:
                Act(XenAction.PrefixedInterrupt);
                break;
            case 5:
                Act(XenAction.PageFault);
                break;
            case 6:
                Act(_kernel ? XenAction.Return : XenAction.SystemCall);
                break;
            default:
                Act(XenAction.Undefined);
                break;
        }
    }

    private void Act(XenAction action)
    {
        switch (action)
        {
            case XenAction.SoftwareInterrupt:
                SoftwareInterrupt(prefixed: false);
                break;
            case XenAction.PrefixedInterrupt:
                SoftwareInterrupt(prefixed: true);
                break;
            case XenAction.Icebp:
                AddSetup([0xf1]);
                break;
            case XenAction.Undefined:
                Undefined();
                break;
            case XenAction.Bound:
                Bound();
                break;
            case XenAction.SystemCall:
                SystemCall();
                break;
            case XenAction.Sysenter:
                AddSetup([0x0f, 0x34]);
                Forget([Rcx, R11]);
                break;
            case XenAction.DivideError:
                DivideError();
                break;
            case XenAction.PageFault:
                PageFault();
                break;
            case XenAction.SingleStep:
                SingleStep();
                break;
            case XenAction.StackShadow:
                StackShadow();
                break;
            case XenAction.FlagsOnStack:
                FlagsOnStack();
                break;
            case XenAction.InterruptFlag:
                AddSetup([(byte)(0xfa + _random.Below(2))]);
                break;
            case XenAction.Refused:
                Refused();
                break;
            case XenAction.ControlRegister:
                ControlRegister();
                break;
            case XenAction.DebugRegister:
                DebugRegister();
                break;
            case XenAction.ReadMsr:
                ReadMsr();
                break;
            case XenAction.WriteMsr:
                WriteMsr();
                break;
            case XenAction.Port:
                Port();
                break;
            case XenAction.ForcedEmulation:
                ForcedEmulation();
                break;
            case XenAction.SegmentBase when Long64:
                SegmentBase();
                break;
            case XenAction.FarTransfer:
                FarTransfer();
                break;
            case XenAction.Hypercall:
                EmitHypercall();
                break;
            case XenAction.Return:
                EmitReturn();
                break;
            default:
                AddSetup([0x90]);
                break;
        }

        _pinned = 0;
    }

    private bool Exists(XenAction action, CpuProfile profile) => action switch
    {
        // On Intel's processors it enters Xen without a stack pointer, so that a kernel that executes it dies.
        XenAction.Sysenter => profile.Vendor == CpuVendor.Amd,
        XenAction.Bound => Narrow,
        _ => true,
    };

    private static bool IsPort(FormTemplate template) => PvmExclusions.IsPortAccess(template);

    private static bool IsCall(FormTemplate template) => template.Code is Code.Syscall or Code.Sysenter or Code.Int_imm8;

    /// <summary>True for forms that may leave RSP where no event can be delivered.</summary>
    private static bool LosesStack(FormTemplate template) =>
        template.Code.Mnemonic() is Mnemonic.Leave or Mnemonic.Enter or Mnemonic.Iret or Mnemonic.Iretd or Mnemonic.Iretq or Mnemonic.Retf;
}
