using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Xen.XenAbi;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What Xen holds for our domain, as far as it is known, and the hypercalls that make it what a case states.</summary>
/// <remarks>Cases follow each other in the guest as they are encoded here, so the state after the last encoded case is the one that the next one finds.</remarks>
internal sealed unsafe class GuestState
{
    private const int Vectors = 256;
    private const int Assists = 33;
    private const ulong DefaultDr6 = 0xffff_0ff0;
    internal const ulong DefaultDr7 = 0x400;
    private const int BreakpointRegisters = 4;

    /// <summary>Vector of NMIs, whose entry of the trap table is also what the NMI callback registers.</summary>
    private const byte NmiVector = 2;

    private static readonly (XenCallbackKind Kind, uint Type)[] CallbackTypes =
    [
        (XenCallbackKind.Event, CALLBACKTYPE_event), (XenCallbackKind.Failsafe, CALLBACKTYPE_failsafe), (XenCallbackKind.Syscall, CALLBACKTYPE_syscall),
        (XenCallbackKind.Sysenter, CALLBACKTYPE_sysenter), (XenCallbackKind.Syscall32, CALLBACKTYPE_syscall32),
    ];

    /// <summary>The assist that changes what a case sees: the guest's IOPL shows as on a processor.</summary>
    public const ulong ArchitecturalIopl = 1UL << 4;

    /// <summary>CR0.TS.</summary>
    public const ulong Cr0TaskSwitched = 8;

    private readonly XenTrap[] _traps = new XenTrap[Vectors];
    private readonly XenTrap[] _wanted = new XenTrap[Vectors];
    private readonly XenCallback?[] _callbacks = new XenCallback?[CallbackTypes.Length];
    private readonly bool[] _callbackKnown = new bool[CallbackTypes.Length];
    private readonly ulong[] _breakpoints = new ulong[BreakpointRegisters];
    private readonly SortedDictionary<ushort, ulong> _gdt = [];
    private bool _registered;
    private (ulong Sp, ulong Ss)? _stack;
    private ulong? _assists, _iopl, _dr7, _otherGsBase, _root;
    private bool _debugKnown;
    private bool _bitmapKnown;
    private bool _gdtGiven;

    /// <summary>Most hypercalls that a case can need.</summary>
    public int Room(TestCase testCase) => 4 + CallbackTypes.Length + 1 + Assists + 2 + BreakpointRegisters + 3 + 1 + 1 + testCase.Xen!.Gdt.Length + _gdt.Count;

    /// <summary>Most bytes of data for them.</summary>
    public static int DataBound => ((Vectors + 1 + CallbackTypes.Length) * TrapInfoSize) + (GuestMap.GdtFrames * sizeof(ulong)) + 64;

    /// <summary>Says that the guest is as in the snapshot: nothing is known, and its part of the GDT is empty.</summary>
    public void Restored()
    {
        Note(~Effects.None);
        _gdt.Clear();
        _root = null;
    }

    /// <summary>Writes the hypercalls that a case needs, and takes note of what the case can leave behind.</summary>
    /// <param name="writer">The record.</param>
    /// <param name="testCase">The case.</param>
    /// <param name="effects">What it may do.</param>
    /// <param name="frames">The guest's frames.</param>
    /// <param name="exact">True to state every entry of the trap table, not only those that the bytes of the case can raise.</param>
    public void Prepare(ref RecordWriter writer, TestCase testCase, Effects effects, GuestFrames frames, bool exact)
    {
        XenState xen = testCase.Xen!;
        SystemState system = testCase.System;
        PrepareRoot(ref writer, xen, frames);
        PrepareTraps(ref writer, testCase, exact);
        PrepareCallbacks(ref writer, testCase, effects, exact);

        // The kernel's stack is used when Xen enters the kernel from user mode, and only then.
        (ulong, ulong) stack = (system[SystemRegister.XenKernelSp], system[SystemRegister.XenKernelSs]);
        if (stack != _stack && (effects & Effects.UserMode) != 0)
        {
            writer.Hypercall(HYPERVISOR_stack_switch, stack.Item2, stack.Item1);
            _stack = stack;
        }

        PrepareChoices(ref writer, system);
        PrepareGdt(ref writer, xen, frames.Gdt);
        PrepareDebug(ref writer, testCase, effects);
        ulong otherGsBase = testCase.Start == GuestMode.User ? testCase.Registers.GsBase : system[SystemRegister.KernelGsBase];
        if (_otherGsBase != otherGsBase && (effects & Effects.SeesUserGsBase) != 0)
        {
            writer.Hypercall(HYPERVISOR_set_segment_base, SEGBASE_GS_USER, otherGsBase);
            _otherGsBase = otherGsBase;
        }

        // The last one: what the agent does before it needs CR0.TS clear.
        if ((system[SystemRegister.Cr0] & Cr0TaskSwitched) != 0)
        {
            writer.Hypercall(HYPERVISOR_fpu_taskswitch, 1);
        }

        Note(effects);
        if (MayHaveBreakpoints(testCase, effects))
        {
            // The agent leaves them out of force.
            _dr7 = null;
        }

        if ((system[SystemRegister.XenVmAssist] & ArchitecturalIopl) != 0)
        {
            // Every return loads it.
            _iopl = null;
        }

        if ((effects & Effects.UserMode) != 0 && ((effects & Effects.LoadsGs) != 0 || testCase.Registers.Gs != 0))
        {
            _otherGsBase = null;
        }
    }

    /// <summary>Forgets what a case may have changed.</summary>
    private void Note(Effects effects)
    {
        if ((effects & Effects.ChangesEverything) != 0)
        {
            _registered = false;
            Array.Clear(_callbackKnown);
        }

        _stack = (effects & Effects.ChangesStack) != 0 ? null : _stack;
        _assists = (effects & Effects.ChangesAssists) != 0 ? null : _assists;
        _iopl = (effects & (Effects.ChangesIopl | Effects.ChangesAssists)) != 0 ? null : _iopl;
        _bitmapKnown &= (effects & Effects.ChangesIopl) == 0;
        _gdtGiven &= (effects & Effects.ChangesGdt) == 0;
        if ((effects & Effects.ChangesDebug) != 0)
        {
            _debugKnown = false;
            _dr7 = null;
        }

        _otherGsBase = (effects & Effects.ChangesOtherGsBase) != 0 ? null : _otherGsBase;
    }

    private void PrepareRoot(ref RecordWriter writer, XenState xen, GuestFrames frames)
    {
        ulong root = xen.UserLayout is not PageLayout user ? frames.SharedRoot : user.Ranges.IsEmpty ? 0 : frames.UserRoot;
        if (root != _root)
        {
            ulong* operation = (ulong*)writer.Data(3 * sizeof(ulong), out ulong address);
            (operation[0], operation[1], operation[2]) = (MMUEXT_NEW_USER_BASEPTR, root, 0);
            writer.Hypercall(HYPERVISOR_mmuext_op, address, 1, 0, DOMID_SELF);
            _root = root;
        }
    }

    private void PrepareTraps(ref RecordWriter writer, TestCase testCase, bool exact)
    {
        XenState xen = testCase.Xen!;
        XenCallback? nmi = xen.CallbackOf(XenCallbackKind.Nmi);
        Span<ulong> relevant = stackalloc ulong[Vectors / 64];
        Payload.VectorsOf(testCase, relevant);
        if (exact)
        {
            relevant.Fill(ulong.MaxValue);
        }

        bool holes = !_registered;
        _registered = true;
        bool changed = false;
        for (int vector = 0; vector < Vectors; vector++)
        {
            if ((relevant[vector >> 6] >> (vector & 63) & 1) == 0)
            {
                continue;
            }

            XenTrap wanted = vector == NmiVector && nmi is XenCallback callback
                ? new XenTrap(NmiVector, XenTrap.MaskEvents, callback.Cs, callback.Address)
                : xen.Traps[(byte)vector];
            _wanted[vector] = wanted;
            changed |= wanted != _traps[vector];
            holes |= wanted.Address == 0 && _traps[vector].Address != 0;
        }

        if (holes)
        {
            // An entry can be taken away with all others only.
            writer.Hypercall(HYPERVISOR_set_trap_table, 0);
            Array.Clear(_traps);
        }
        else if (!changed)
        {
            return;
        }

        // SAFETY: DataBound counts all entries and the one that ends the list.
        ulong* entry = (ulong*)writer.At;
        int count = 0;
        for (int vector = 0; vector < Vectors; vector++)
        {
            if ((relevant[vector >> 6] >> (vector & 63) & 1) == 0)
            {
                continue;
            }

            XenTrap wanted = _wanted[vector];
            if (wanted.Address != 0 && (holes || wanted != _traps[vector]))
            {
                entry[count * 2] = (uint)vector | ((ulong)wanted.Flags << 8) | ((ulong)wanted.Cs << 16);
                entry[(count * 2) + 1] = wanted.Address;
                count++;
            }

            _traps[vector] = wanted;
        }

        entry[count * 2] = 0;
        entry[(count * 2) + 1] = 0;
        writer.Data((count + 1) * TrapInfoSize, out ulong address);
        if (count > 0)
        {
            writer.Hypercall(HYPERVISOR_set_trap_table, address);
        }
    }

    private void PrepareCallbacks(ref RecordWriter writer, TestCase testCase, Effects effects, bool exact)
    {
        XenState xen = testCase.Xen!;
        bool pending = testCase.System[SystemRegister.XenUpcallPending] != 0 || testCase.Responses.Any(r => r.Inject is not null);
        for (int i = 0; i < CallbackTypes.Length; i++)
        {
            (XenCallbackKind kind, uint type) = CallbackTypes[i];
            XenCallback? wanted = xen.CallbackOf(kind);
            bool relevant = exact || kind switch
            {
                XenCallbackKind.Event => pending || (effects & Effects.Calls) != 0,

                // The entry for 32-bit code does not ask in which mode the guest is: a kernel may run such code, too.
                XenCallbackKind.Syscall or XenCallbackKind.Syscall32 => (effects & Effects.Syscalls) != 0,
                XenCallbackKind.Sysenter => (effects & Effects.Sysenters) != 0,
                _ => true,
            };
            if (!relevant || (_callbackKnown[i] && wanted == _callbacks[i]))
            {
                continue;
            }

            // Xen takes an address of 0 for none.
            ulong* registration = (ulong*)writer.Data(TrapInfoSize, out ulong address);
            registration[0] = type | (wanted is { MaskEvents: true } ? (ulong)CALLBACKF_mask_events << 16 : 0);
            registration[1] = wanted?.Address ?? 0;
            writer.Hypercall(HYPERVISOR_callback_op, CALLBACKOP_register, address);
            _callbacks[i] = wanted;
            _callbackKnown[i] = true;
        }
    }

    private void PrepareChoices(ref RecordWriter writer, SystemState system)
    {
        ulong assists = system[SystemRegister.XenVmAssist];
        ulong differing = _assists is ulong known ? assists ^ known : ArchitecturalIopl | assists;
        for (int i = 0; i < Assists; i++)
        {
            if (((differing >> i) & 1) != 0)
            {
                writer.Hypercall(HYPERVISOR_vm_assist, ((assists >> i) & 1) != 0 ? VMASST_CMD_enable : VMASST_CMD_disable, (ulong)i);
            }
        }

        _assists = assists;
        ulong iopl = system[SystemRegister.XenIopl];
        if (iopl != _iopl)
        {
            ulong* argument = (ulong*)writer.Data(sizeof(ulong), out ulong address);
            *argument = iopl;
            writer.Hypercall(HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, address);
            _iopl = iopl;
        }

        if (!_bitmapKnown)
        {
            // Cases begin without one: no address, no ports.
            ulong* argument = (ulong*)writer.Data(2 * sizeof(ulong), out ulong address);
            (argument[0], argument[1]) = (0, 0);
            writer.Hypercall(HYPERVISOR_physdev_op, PHYSDEVOP_set_iobitmap, address);
            _bitmapKnown = true;
        }
    }

    private void PrepareGdt(ref RecordWriter writer, XenState xen, ulong firstFrame)
    {
        // A guest without a GDT of its own sees empty descriptors, as one does whose GDT has none.
        if (!_gdtGiven && !xen.Gdt.IsEmpty)
        {
            ulong* list = (ulong*)writer.Data(GuestMap.GdtFrames * sizeof(ulong), out ulong address);
            for (int i = 0; i < GuestMap.GdtFrames; i++)
            {
                list[i] = firstFrame + (ulong)i;
            }

            writer.Hypercall(HYPERVISOR_set_gdt, address, GuestMap.GdtFrames * (PageLayout.PageSize / sizeof(ulong)));
            _gdtGiven = true;
        }

        if (_gdt.Count == 0 && xen.Gdt.IsEmpty)
        {
            return;
        }

        Dictionary<ushort, ulong> wanted = xen.Gdt.ToDictionary(d => d.Key, d => d.Value);
        foreach (ushort selector in _gdt.Keys.ToArray())
        {
            if (!wanted.ContainsKey(selector))
            {
                writer.Hypercall(HYPERVISOR_update_descriptor, (firstFrame << 12) + selector, 0);
                _gdt.Remove(selector);
            }
        }

        foreach ((ushort selector, ulong descriptor) in xen.Gdt)
        {
            if (!_gdt.TryGetValue(selector, out ulong present) || present != descriptor)
            {
                writer.Hypercall(HYPERVISOR_update_descriptor, (firstFrame << 12) + selector, descriptor);
                _gdt[selector] = descriptor;
            }
        }
    }

    /// <summary>True for a case that begins with breakpoints, or can set some.</summary>
    public static bool MayHaveBreakpoints(TestCase testCase, Effects effects)
    {
        const ulong enables = 0xff;
        return (effects & Effects.ChangesDebug) != 0 || (Dr7Of(testCase) & enables) != 0;
    }

    private static ulong Dr7Of(TestCase testCase) => testCase.Registers.Debug is DebugRegisters debug ? debug.Dr7 | DefaultDr7 : Stated(testCase, SystemRegister.Dr7, DefaultDr7);

    private void PrepareDebug(ref RecordWriter writer, TestCase testCase, Effects effects)
    {
        DebugRegisters? debug = testCase.Registers.Debug;
        ulong dr7 = Dr7Of(testCase);
        ReadOnlySpan<ulong> breakpoints = debug is null ? [0, 0, 0, 0] : [debug.Dr0, debug.Dr1, debug.Dr2, debug.Dr3];
        bool looks = debug is not null || (effects & (Effects.ReadsDebug | Effects.ChangesDebug)) != 0;
        if (looks && (!_debugKnown || !breakpoints.SequenceEqual(_breakpoints)))
        {
            // Addresses are checked against the lengths that DR7 gives them, so it is off meanwhile.
            writer.Hypercall(HYPERVISOR_set_debugreg, 7, DefaultDr7);
            _dr7 = DefaultDr7;
            for (int i = 0; i < BreakpointRegisters; i++)
            {
                writer.Hypercall(HYPERVISOR_set_debugreg, (ulong)i, breakpoints[i]);
                _breakpoints[i] = breakpoints[i];
            }

            _debugKnown = true;
        }

        if (dr7 != _dr7)
        {
            writer.Hypercall(HYPERVISOR_set_debugreg, 7, dr7);
            _dr7 = dr7;
        }

        if ((effects & Effects.ReadsDebug) != 0)
        {
            writer.Hypercall(HYPERVISOR_set_debugreg, 6, Stated(testCase, SystemRegister.Dr6, DefaultDr6));
        }
    }

    private static ulong Stated(TestCase testCase, SystemRegister register, ulong otherwise) => testCase.System.TryGet(register, out ulong value) ? value : otherwise;
}
