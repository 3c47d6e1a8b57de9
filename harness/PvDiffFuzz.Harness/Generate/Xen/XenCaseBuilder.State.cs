using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>What the guest has registered, and its system side.</content>
internal sealed partial class XenCaseBuilder
{
    private static readonly XenCallbackKind[] Kinds = Enum.GetValues<XenCallbackKind>();

    private readonly KeyValuePair<SystemRegister, ulong>[] _system = new KeyValuePair<SystemRegister, ulong>[Enum.GetValues<SystemRegister>().Length];
    private int _systemCount;
    private ulong _cr0;
    private ulong _cr4;
    private ulong _iopl;
    private ulong _assists;
    private ushort _gateSelector;
    private bool _pending;

    /// <summary>What the payload's set-up may depend on.</summary>
    private void ChooseState()
    {
        ulong bits = _random.Next();
        _cr0 = XenEdges.Cr0 | ((bits & 7) == 0 ? XenEdges.TaskSwitched : 0);
        _cr4 = XenEdges.Cr4 | ((bits >> 3 & 15) == 0 ? 8UL : 0) | ((bits >> 7 & 31) == 0 ? 4UL : 0) | (_profile.Has("FSGSBASE") && (bits >> 12 & 3) == 0 ? 1UL << 16 : 0);
        _iopl = _raw || (bits >> 16 & 3) != 0 ? 0 : bits >> 18 & 3;
        _assists = _raw || (bits >> 20 & 7) != 0 ? 0 : 1UL << XenEdges.ArchitecturalIopl;
        _pending = (bits >> 32 & 0xffff) % 100 < (uint)_xen.PendingPercent;
        _gateSelector = (ushort)(0x10 + (bits >> 48 & 7) * 8);
    }

    /// <inheritdoc/>
    private protected override ushort Selector()
    {
        if (_random.Percent(70))
        {
            return _random.Pick<ushort>([0, FlatData, FlatData, XenMap.FlatCode64, Narrow ? XenMap.UserData32 : XenMap.FlatCode32]);
        }

        return _random.Pick<ushort>([0x08, 0x10, 0x2b, 0x33, 0x23, 0x7, 0x4, 0x1000, 0xe008, 0xe010, 0xe02c, 0xe02a, 0xfff8, 0xffff]);
    }

    /// <inheritdoc/>
    private protected override bool IsExcluded(ReadOnlySpan<byte> code) =>
        XenExclusions.FindAnywhere(code, _mode, _profile, out _) is not null
        || (_kernel && XenExclusions.HasLooseCall(code, _abi))
        || (_raw && XenExclusions.HasPort(code))
        || (!Long64 && !Narrow && XenExclusions.FindAnywhere(code, CpuMode.Long64, _profile, out _) is not null);

    /// <inheritdoc/>
    private protected override TestCase Assemble(CodeBlock code)
    {
        DebugRegisters? debug = _options.DebugPermille > 0 && _random.Permille(_options.DebugPermille) ? Debug(code, executes: _random.Percent(50)) : null;
        ImmutableArray<Response> responses = _options.ResponsePercent > 0 && _random.Percent(_options.ResponsePercent) ? Answers(code) : [];
        _contents.Resolve(ref _random, _code, code.Address, _block);
        RegisterState registers = StartState(code.Address, debug);
        registers = _entered ? Frame(registers) : registers;
        return new TestCase
        {
            Abi = _abi,
            Start = _kernel ? GuestMode.Supervisor : GuestMode.User,
            Code = code,
            Layout = XenMap.KernelLayout(_abi),
            Contents = _contents.ToContents(_mode, _profile),
            Responses = responses,
            Registers = registers,
            System = SystemOf(debug is not null),
            Xen = new XenState(Traps(), Callbacks())
            {
                Version = _random.Below(256) == 0 ? _random.Pick(XenEdges.Versions.AsSpan()) : null,
                IretFlags = !_entered ? null : Narrow ? 0 : _random.Pick(XenEdges.IretFlags),
                UserLayout = Narrow || _oneRoot ? null : _hazard == Hazard.Missing && _kernel && _random.Percent(50) ? PageLayout.Create([]) : XenMap.UserLayout(_abi),
                Gdt = Gdt(),
            },
        };
    }

    /// <summary>The frame of the return by which the payload is entered may hold what a return converts or refuses.</summary>
    private RegisterState Frame(RegisterState registers)
    {
        bool odd = _random.Percent(_xen.OddFramePercent);
        ushort cs = FrameCs(!_kernel, odd && _mode == CpuMode.Long64);
        registers = registers with { Cs = cs, Ss = FrameSs(!_kernel, odd) };
        if (!_kernel && odd && _random.Percent(20))
        {
            registers = registers with { Rip = Narrowed(OddRip()) };
        }

        return !_kernel && odd && _random.Percent(30) ? registers.With(Register.Rsp, UserStack()) : registers;
    }

    /// <summary>All handlers, but for a few entries with other virtual DPLs and flags, and holes where no exception is lost by them.</summary>
    private XenTrapTable Traps()
    {
        XenTrapTable traps = Narrow ? XenMap.Traps32 : XenMap.Traps;
        int changes = _random.Below(5);
        for (int i = 0; i < changes; i++)
        {
            ulong bits = _random.Next();
            if ((bits & 3) == 0)
            {
                traps = traps.Without(_random.Pick(XenEdges.Spare));
                continue;
            }

            byte vector = (bits & 4) != 0 ? _random.Pick(XenEdges.Interrupts) : (byte)(bits >> 8);
            XenTrap trap = traps[vector];
            byte flags = (byte)((bits >> 16 & 3) == 0 ? bits >> 20 & 7 : (bits >> 20 & 4) | 3);
            ushort cs = !Narrow && (bits >> 24 & 7) == 0 ? _random.Pick<ushort>([0xe030, 0xe031, 0xe02b, 0x0010]) : trap.Cs;
            traps = trap.Address == 0 ? traps : traps.With(trap with { Flags = flags, Cs = cs });
        }

        if (_hazard != Hazard.Hole)
        {
            return traps;
        }

        // A 32-bit guest can register a handler with a null selector, too.
        byte hole = _random.Pick(XenEdges.Exceptions);
        return Narrow && _random.Percent(50) ? traps.With(traps[hole] with { Cs = (ushort)_random.Below(4) }) : traps.Without(hole);
    }

    private ImmutableArray<XenCallback> Callbacks()
    {
        ulong bits = _random.Next();
        ImmutableArray<XenCallback>.Builder callbacks = ImmutableArray.CreateBuilder<XenCallback>(Kinds.Length);
        foreach (XenCallbackKind kind in Kinds)
        {
            ulong draw = bits >> ((int)kind * 8);
            bool registered = (draw & 15) < kind switch
            {
                XenCallbackKind.Event => _hazard == Hazard.Missing ? 8u : 16,
                XenCallbackKind.Failsafe or XenCallbackKind.Syscall => 14,
                XenCallbackKind.Nmi => 6,
                _ => 10,
            };
            if (registered)
            {
                bool mask = kind == XenCallbackKind.Nmi || (draw >> 4 & 1) != 0;
                callbacks.Add(new XenCallback(kind, mask, Narrow ? XenMap.KernelCode32 : XenMap.FlatCode64, XenMap.CallbackAddress(_abi, kind)));
            }
        }

        return callbacks.DrainToImmutable();
    }

    /// <summary>Mostly no descriptors of the guest's own, else a few.</summary>
    private ImmutableArray<KeyValuePair<ushort, ulong>> Gdt()
    {
        if (_random.Below(12) != 0)
        {
            return [];
        }

        // A conforming, system or refused descriptor could not have been loaded; a call gate could.
        ReadOnlySpan<ulong> loadable = Narrow ? [0x00cf_f300_0000_ffff, 0x00cf_fb00_0000_ffff, 0x00cf_7300_0000_ffff, 0x00cf_b300_0000_ffff] :
        [
            0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0x00cf_fb00_0000_ffff, 0x00cf_7300_0000_ffff, 0x0000_ec00_0008_0000, 0x008f_f300_0000_ffff, 0x00cf_f712_3456_0fff,
        ];
        ImmutableArray<KeyValuePair<ushort, ulong>>.Builder gdt = ImmutableArray.CreateBuilder<KeyValuePair<ushort, ulong>>(3);
        for (ushort selector = 8; selector <= 0x38 && gdt.Count < 3; selector += 8)
        {
            if (selector == _gateSelector || _random.Below(3) == 0)
            {
                gdt.Add(new(selector, _random.Pick(loadable)));
            }
        }

        return gdt.DrainToImmutable();
    }

    private void State(SystemRegister register, ulong value) => _system[_systemCount++] = KeyValuePair.Create(register, value);

    /// <summary>States everything in the order of its numbers.</summary>
    private SystemState SystemOf(bool armed)
    {
        ulong bits = _random.Next();
        _systemCount = 0;
        State(SystemRegister.Cr0, _cr0);
        State(SystemRegister.Cr2, (bits & 3) == 0 ? Narrowed(bits >> 20) : 0);
        State(SystemRegister.Cr4, _cr4);
        if (!Narrow)
        {
            State(SystemRegister.KernelGsBase, Valid(8, writes: true) & ~0x3fUL);
        }

        State(SystemRegister.Dr6, XenEdges.Dr6);
        if (!armed)
        {
            State(SystemRegister.Dr7, XenEdges.Dr7);
        }

        State(SystemRegister.XenKernelSp, _hazard == Hazard.KernelStack ? LostStack() : KernelStack());
        State(SystemRegister.XenKernelSs, KernelSelector);
        if (!_entered)
        {
            State(SystemRegister.XenUpcallMask, (bits >> 2 & 1) == 0 ? (byte)0 : _random.Pick(XenEdges.Truths));
        }

        State(SystemRegister.XenUpcallPending, _pending ? _random.Pick(XenEdges.Truths) : (byte)0);
        State(SystemRegister.XenVcpuInfoPad, (bits >> 3 & 7) == 0 ? bits >> 16 : 0);
        State(SystemRegister.XenVmAssist, _assists);
        State(SystemRegister.XenIopl, _iopl);
        return SystemState.OfSorted(ImmutableArray.Create(_system.AsSpan(0, _systemCount)));
    }

    private ushort KernelSelector => Narrow ? XenMap.KernelData32 : XenMap.FlatData;
}
