using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>The virtual CPU: everything that is not in <see cref="CpuState"/>. One instance a model, used again for each case.</summary>
/// <remarks>While Xen has control, the guest's RFLAGS are in <see cref="Rflags"/>; RIP, RSP, selectors and the other registers stay where they are.</remarks>
internal sealed class Vcpu(X86Engine engine, Release whenNone)
{
    /// <summary>RFLAGS.IOPL and VM, which a guest never has.</summary>
    public const ulong NeverLoaded = RflagsBits.IOPL | RflagsBits.VM;

    /// <summary>CR0.MP, which Xen sets, and CR0.TS.</summary>
    public const ulong WaitFaults = 0xa;

    /// <summary>DR6 before a #DB.</summary>
    public const ulong ResetDr6 = 0xffff_0ff0;

    /// <summary>DR7 before anybody writes it.</summary>
    public const ulong ResetDr7 = 0x400;

    /// <summary>CR0.TS.</summary>
    public const ulong TaskSwitched = 8;

    private const int Vectors = 256;
    private const int CallbackKinds = 6;

    private readonly XenTrap[] _traps = new XenTrap[Vectors];
    private readonly XenCallback[] _callbacks = new XenCallback[CallbackKinds];
    private readonly Dictionary<XenVersion, Release> _releases = [];
    private readonly GuestProcessor _processors = new();
    private bool _ownTraps;
    private SystemFile _registers;
    private ulong _known;

    /// <summary>The processor's model.</summary>
    public X86Engine Engine { get; } = engine;

    /// <summary>The pages.</summary>
    public GuestMemory Memory { get; } = engine.Memory;

    /// <summary>The case that runs.</summary>
    public TestCase Case { get; private set; } = null!;

    /// <summary>The release of Xen.</summary>
    public Release Release { get; private set; } = new(Release.Newest);

    /// <summary>The host's processor.</summary>
    public CpuProfile Host { get; private set; } = CpuProfile.DefaultAmd;

    /// <summary>True in the guest's kernel.</summary>
    public bool KernelMode { get; set; }

    /// <summary>The guest's RFLAGS while Xen has control; IF is always set.</summary>
    public ulong Rflags { get; set; }

    /// <summary>True when Xen goes back as from a system call, so by SYSRET where the processor has entered Xen by SYSCALL.</summary>
    public bool ReturnsFromSyscall { get; set; }

    /// <summary>DR0 to DR3, DR7.</summary>
    public DebugRegisters Debug { get; set; } = NoBreakpoints;

    /// <summary>Deliveries whose handlers have not begun yet, the latest last: one more than one when an upcall follows an event at once.</summary>
    public List<Delivered> Deliveries { get; } = [];

    /// <summary>What the instruction that Xen looks at raised: the first trap for which the kernel was to be entered since this was null. It may find no stack or handler.</summary>
    public RaisedException? Raised { get; set; }

    /// <summary>True until the guest gives its part of the GDT up.</summary>
    public bool OwnDescriptors { get; private set; }

    /// <summary>Address of the guest's I/O bitmap, 0 for none.</summary>
    public ulong IoBitmap { get; set; }

    /// <summary>Ports that it covers.</summary>
    public uint IoBitmapPorts { get; set; }

    /// <summary>How the run stands.</summary>
    public Verdict Verdict { get; private set; }

    /// <summary>Why, for verdicts that need a reason.</summary>
    public string? Reason { get; private set; }

    /// <summary>The debug registers after reset.</summary>
    public static DebugRegisters NoBreakpoints { get; } = new(0, 0, 0, 0, ResetDr7);

    /// <summary>The byte evtchn_upcall_mask of the vcpu_info.</summary>
    public byte UpcallMask
    {
        get => (byte)this[SystemRegister.XenUpcallMask];
        set => this[SystemRegister.XenUpcallMask] = value;
    }

    /// <summary>True when an event upcall is due as soon as the guest would go on.</summary>
    public bool UpcallDue => this[SystemRegister.XenUpcallPending] != 0 && UpcallMask == 0;

    /// <summary>A value: zero when nothing stated or wrote it.</summary>
    public ulong this[SystemRegister register]
    {
        get => _registers[(int)register];
        set
        {
            _registers[(int)register] = value;
            _known |= 1UL << (int)register;
        }
    }

    /// <summary>True when a value was stated or written.</summary>
    public bool Knows(SystemRegister register) => (_known >> (int)register & 1) != 0;

    /// <summary>Tells whether an assist is enabled (HYPERVISOR_vm_assist).</summary>
    public bool Assists(int number) => (this[SystemRegister.XenVmAssist] >> number & 1) != 0;

    /// <summary>An entry of the trap table as it is now.</summary>
    public XenTrap TrapOf(byte vector) => _ownTraps ? _traps[vector] : Vector2(vector) ?? Case.Xen!.Traps[vector];

    /// <summary>Sets an entry of the trap table.</summary>
    public void SetTrap(XenTrap trap)
    {
        OwnTraps();
        _traps[trap.Vector] = trap;
    }

    /// <summary>Empties the trap table.</summary>
    public void ClearTraps()
    {
        _ownTraps = true;
        Array.Clear(_traps);
    }

    /// <summary>A callback as it is registered now; one with address 0 when there is none.</summary>
    public ref XenCallback CallbackOf(XenCallbackKind kind) => ref _callbacks[(int)kind];

    /// <summary>Notes a trap for which the kernel is to be entered.</summary>
    public void Note(in Bounce bounce)
    {
        if (bounce.Entry == EntryPoint.XenTrap)
        {
            Raised ??= new RaisedException(bounce.Vector, bounce.Error);
        }
    }

    /// <summary>Takes the state of a case.</summary>
    /// <returns>False when the case cannot be, because Xen refuses a descriptor of its GDT.</returns>
    public bool Load<TGuest>(TestCase testCase, CpuProfile host)
        where TGuest : struct, IXenGuest
    {
        Case = testCase;
        Host = host;
        Release = testCase.Xen!.Version is XenVersion version ? ReleaseOf(version) : whenNone;
        _registers = default;
        _known = Zeroed;
        this[SystemRegister.Dr6] = ResetDr6;
        foreach ((SystemRegister register, ulong value) in testCase.System.Values)
        {
            this[register] = value;
        }

        Debug = testCase.Registers.Debug ?? NoBreakpoints;
        if (testCase.System.TryGet(SystemRegister.Dr7, out ulong dr7) && testCase.Registers.Debug is null)
        {
            Debug = Debug with { Dr7 = dr7 };
        }

        _ownTraps = false;
        Array.Clear(_callbacks);
        foreach (XenCallback callback in testCase.Xen.Callbacks)
        {
            _callbacks[(int)callback.Kind] = callback;
        }

        KernelMode = true;
        Rflags = RflagsBits.IF | RflagsBits.Fixed1;
        ReturnsFromSyscall = false;
        Deliveries.Clear();
        OwnDescriptors = true;
        IoBitmap = 0;
        IoBitmapPorts = 0;
        Verdict = Verdict.Running;
        Reason = null;
        return Processor<TGuest>() is CpuProfile profile && Use(profile);
    }

    /// <summary>Chooses the processor anew, after something that it depends on has changed.</summary>
    public void UpdateProcessor<TGuest>(ref CpuState cpu)
        where TGuest : struct, IXenGuest
    {
        if (Processor<TGuest>() is CpuProfile profile)
        {
            Use(profile);
            cpu.Profile = profile;
            Memory.ForgetCode();
        }
    }

    /// <summary>The guest gives its descriptors up.</summary>
    public void DropDescriptors<TGuest>(ref CpuState cpu)
        where TGuest : struct, IXenGuest
    {
        OwnDescriptors = false;
        UpdateProcessor<TGuest>(ref cpu);
    }

    /// <summary>Changes between the guest's kernel and user code: page tables, and in a 64-bit guest the base of GS.</summary>
    public void SwitchMode<TGuest>(ref CpuState cpu, bool kernel)
        where TGuest : struct, IXenGuest
    {
        KernelMode = kernel;
        SelectView<TGuest>();
        if (TGuest.SwapsGs())
        {
            ulong live = cpu.SegmentBase[Seg.Gs];
            cpu.SegmentBase[Seg.Gs] = this[SystemRegister.KernelGsBase];
            this[SystemRegister.KernelGsBase] = live;
        }
    }

    /// <summary>Puts up what the mode sees.</summary>
    public void SelectView<TGuest>()
        where TGuest : struct, IXenGuest =>
        Memory.Select(KernelMode || !TGuest.HasUserRoot() ? 0 : 1, KernelMode ? ViewRights.SupervisorPages | ViewRights.SupervisorCode : ViewRights.User);

    /// <summary>Ends the run.</summary>
    public void End(Verdict verdict, string? reason = null)
    {
        if (Verdict == Verdict.Running)
        {
            Verdict = verdict;
            Reason = reason;
        }
    }

    /// <summary>Everything that is known, for an outcome.</summary>
    public SystemState Capture()
    {
        if (Knows(SystemRegister.Dr7))
        {
            this[SystemRegister.Dr7] = Debug.Dr7;
        }

        ulong stated = _known;
        KeyValuePair<SystemRegister, ulong>[] values = new KeyValuePair<SystemRegister, ulong>[BitOperations.PopCount(stated)];
        int count = 0;
        for (; stated != 0; stated &= stated - 1)
        {
            int register = BitOperations.TrailingZeroCount(stated);
            values[count++] = new((SystemRegister)register, _registers[register]);
        }

        return SystemState.OfSorted(ImmutableCollectionsMarshal.AsImmutableArray(values));
    }

    private static ulong Zeroed { get; } = Mask(
        SystemRegister.Cr2, SystemRegister.XenKernelSp, SystemRegister.XenKernelSs, SystemRegister.XenUpcallMask, SystemRegister.XenUpcallPending, SystemRegister.XenVcpuInfoPad,
        SystemRegister.XenVmAssist, SystemRegister.XenIopl);

    private static ulong Mask(params ReadOnlySpan<SystemRegister> registers)
    {
        ulong mask = 0;
        foreach (SystemRegister register in registers)
        {
            mask |= 1UL << (int)register;
        }

        return mask;
    }

    private CpuProfile? Processor<TGuest>()
        where TGuest : struct, IXenGuest =>
        _processors.Of(Host, TGuest.Descriptors(), TGuest.KernelRing(), OwnDescriptors ? Case.Xen!.Gdt : [], this[SystemRegister.Cr4]);

    private bool Use(CpuProfile profile)
    {
        Engine.UseProfile(profile);
        return true;
    }

    private Release ReleaseOf(XenVersion version)
    {
        if (!_releases.TryGetValue(version, out Release? release))
        {
            _releases[version] = release = new Release(version);
        }

        return release;
    }

    /// <summary>The NMI callback is entry 2 of the trap table.</summary>
    private XenTrap? Vector2(byte vector) => vector == Injection.NmiVector && Case.Xen!.CallbackOf(XenCallbackKind.Nmi) is XenCallback nmi
        ? new XenTrap(vector, XenTrap.MaskEvents, nmi.Cs, nmi.Address)
        : null;

    private void OwnTraps()
    {
        if (_ownTraps)
        {
            return;
        }

        for (int i = 0; i < Vectors; i++)
        {
            _traps[i] = TrapOf((byte)i);
        }

        _ownTraps = true;
    }

    [InlineArray(64)]
    private struct SystemFile
    {
        private ulong _first;
    }
}

/// <summary>A delivery that Xen has made: what the guest's handler will be told.</summary>
/// <param name="Entry">Where the guest is entered.</param>
/// <param name="Kind">Kind of event.</param>
/// <param name="Vector">Vector; 0 for callbacks.</param>
/// <param name="Error">Error code in the frame, or null when it has none.</param>
/// <param name="Cr2">Faulting linear address of a #PF, else null.</param>
/// <param name="Handler">Address of the handler.</param>
/// <param name="FrameLength">Bytes of the frame.</param>
/// <param name="InterruptedRip">RIP in the frame.</param>
/// <param name="FromUser">True when user code was interrupted.</param>
internal sealed record Delivered(
    EntryPoint Entry, EventKind Kind, byte Vector, uint? Error, ulong? Cr2, ulong Handler, int FrameLength, ulong InterruptedRip, bool FromUser);
