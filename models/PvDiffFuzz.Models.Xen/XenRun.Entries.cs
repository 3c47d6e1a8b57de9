using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Hypercalls;

namespace PvDiffFuzz.Models.Xen;

/// <content>Where targets have their agent: entries, the stub after kernel code, and the answers that it gives.</content>
internal sealed partial class XenRun<TGuest>
{
    /// <summary>Bytes after kernel code that belong to a target's jump stub.</summary>
    private const ulong StubLength = TestCase.StubLength;

    /// <summary>RFLAGS with which an agent calls Xen.</summary>
    private const ulong AgentRflags = RflagsBits.IF | RflagsBits.Fixed1;

    private readonly List<ulong> _entries = [];
    private Door[] _doors = new Door[8];
    private int _kernelDoors;
    private XenTrapTable? _entriesOf;
    private ImmutableArray<XenCallback> _callbacksOf = [];

    /// <summary>Entries are state of the case. Their pages belong to the agent unless the case has pages there.</summary>
    private void SetDoors(TestCase testCase)
    {
        ListEntries(testCase.Xen!);
        _kernelDoors = 0;
        if (testCase.Start == GuestMode.Supervisor)
        {
            AddDoor(new Door(testCase.Code.End, StubLength));
        }

        if (testCase.Xen!.Traps.Base is ulong first)
        {
            AddEntries(testCase, first, 256 * XenTrap.HandlerSize);
        }

        foreach (ulong entry in _entries)
        {
            AddEntries(testCase, entry, 1);
        }
    }

    [ExcludeFromCodeCoverage(Justification = "What it does depends on the case before.")]
    private void ListEntries(XenState xen)
    {
        if (ReferenceEquals(_entriesOf, xen.Traps) && _callbacksOf == xen.Callbacks)
        {
            return;
        }

        _entriesOf = xen.Traps;
        _callbacksOf = xen.Callbacks;
        _entries.Clear();
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            if (trap.Address != 0)
            {
                _entries.Add(trap.Address);
            }
        }

        foreach (XenCallback callback in xen.Callbacks)
        {
            _entries.Add(callback.Address);
        }
    }

    private void AddEntries(TestCase testCase, ulong entry, ulong length)
    {
        ulong last = entry + length - 1;
        for (ulong page = entry & ~0xfffUL; page <= last; page += PageLayout.PageSize)
        {
            if (testCase.Layout.AccessAt(page) == PageAccess.None)
            {
                AddDoor(new Door(page, PageLayout.PageSize));
            }
            else
            {
                ulong from = Math.Max(page, entry);
                AddDoor(new Door(from, Math.Min(last, page + PageLayout.PageSize - 1) - from + 1));
            }
        }
    }

    private void AddDoor(Door door)
    {
        if (_doors.AsSpan(0, _kernelDoors).Contains(door))
        {
            return;
        }

        if (_kernelDoors == _doors.Length)
        {
            Array.Resize(ref _doors, _doors.Length * 2);
        }

        _doors[_kernelDoors++] = door;
    }

    /// <summary>RIP is where no payload is.</summary>
    private void AtDoor(ref CpuState cpu)
    {
        if (vcpu.Case.Start == GuestMode.Supervisor && cpu.Rip == vcpu.Case.Code.End && cpu.Compatibility && TGuest.Abi != Abi.XenPv32)
        {
            vcpu.End(Verdict.Unsupported, "the payload ends in 32-bit code, and the jump stub behind it is 64-bit code");
        }
        else if (vcpu.Case.Start == GuestMode.Supervisor && cpu.Rip == vcpu.Case.Code.End && (cpu.Rflags & RflagsBits.TF) != 0)
        {
            vcpu.End(Verdict.Unsupported, "the payload ends with TF set, and the jump stub behind it is stepped");
        }
        else if (vcpu.Case.Start == GuestMode.Supervisor && cpu.Rip == vcpu.Case.Code.End)
        {
            // RFLAGS is what PUSHF shows (ADR 9), and PUSHF never shows RF.
            _final = X86.Delivery.Capture(ref cpu, cpu.Rflags & ~RflagsBits.RF);
            vcpu.End(Verdict.ReachedEnd);
        }
        else if (vcpu.Deliveries.Count > 0 && vcpu.Deliveries[^1].Handler == cpu.Rip)
        {
            // The handler that was entered, and interrupted before it began, begins now.
            cpu.Pending = PendingKind.None;
            Land(ref cpu);
        }
        else
        {
            vcpu.End(Verdict.Unsupported, "the payload runs into the jump stub, or jumps to an entry by itself");
        }
    }

    /// <summary>The guest goes on: an event where that is at an entry of the case because of a delivery, else the payload goes on there.</summary>
    private void Land(ref CpuState cpu)
    {
        if (!vcpu.KernelMode || vcpu.Deliveries.Count == 0 || vcpu.Deliveries[^1].Handler != cpu.Rip)
        {
            return;
        }

        Delivered made = vcpu.Deliveries[^1];
        vcpu.Deliveries.RemoveAt(vcpu.Deliveries.Count - 1);
        if (!IsStated(made))
        {
            return;
        }

        Event what = new(made.Kind, made.Vector, made.Error, made.Cr2, made.Entry, X86.Delivery.Capture(ref cpu, cpu.Rflags & ~RflagsBits.RF)) { Frame = FrameAt(ref cpu, made.FrameLength) };
        _events.Add(what);
        ulong end = vcpu.Case.Code.End;
        if (vcpu.Case.Start == GuestMode.User && made.FromUser && made.Cr2 == end && made.InterruptedRip == end && (made.Error & PageFault.Fetch) != 0)
        {
            vcpu.End(Verdict.ReachedEnd);
        }
        else if (_answered == vcpu.Case.Responses.Length)
        {
            vcpu.End(Verdict.Event);
        }
        else
        {
            Answer(ref cpu, made, vcpu.Case.Responses[_answered++]);
        }
    }

    private bool IsStated(Delivered made)
    {
        XenState xen = vcpu.Case.Xen!;
        ulong stated = made.Entry switch
        {
            EntryPoint.XenTrap => xen.Traps[made.Vector].Address,
            EntryPoint.XenSyscall => AddressOf(xen, XenCallbackKind.Syscall),
            EntryPoint.XenSyscall32 => AddressOf(xen, XenCallbackKind.Syscall32),
            EntryPoint.XenSysenter => AddressOf(xen, XenCallbackKind.Sysenter),
            EntryPoint.XenEvent => AddressOf(xen, XenCallbackKind.Event),
            EntryPoint.XenFailsafe => AddressOf(xen, XenCallbackKind.Failsafe),
            _ => AddressOf(xen, XenCallbackKind.Nmi),
        };
        return stated == made.Handler;
    }

    private static ulong AddressOf(XenState xen, XenCallbackKind kind) => xen.CallbackOf(kind)?.Address ?? 0;

    private ImmutableArray<byte> FrameAt(ref CpuState cpu, int length)
    {
        // The frame lies where it was stored just now, or where the case has returned to its handler.
        ulong at = cpu.Read<ulong>(X86.Gpr.Rsp);
        if (!cpu.Canonical(at) || !cpu.Canonical(at + (ulong)length - 1) || !vcpu.Memory.CanRead(at, length, out _, out _))
        {
            vcpu.End(Verdict.Unsupported, "an interrupted handler begins without its frame");
            return [];
        }

        byte[] frame = new byte[length];
        int i = 0;
        for (; i <= length - sizeof(ulong); i += sizeof(ulong))
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(i), vcpu.Memory.Read<ulong>(at + (ulong)i));
        }

        if (i < length)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(i), vcpu.Memory.Read<uint>(at + (ulong)i));
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(frame);
    }

    /// <summary>What the guest kernel does after an event: hypercalls, patches, the return, with an upcall pending perhaps.</summary>
    private void Answer(ref CpuState cpu, Delivered made, Response response)
    {
        CallXen(ref cpu, response);
        if (vcpu.Verdict != Verdict.Running)
        {
            return;
        }

        ReturnFrame frame = TGuest.ReadFrame(ref cpu, vcpu, made) with { Flags = response.Flags };
        foreach ((Register register, ulong value) in response.Patches)
        {
            switch (register)
            {
                case Register.Rax:
                    frame = frame with { Rax = value };
                    break;
                case Register.Rcx when TGuest.PointerSize == sizeof(ulong):
                    frame = frame with { Rcx = value };
                    break;
                case Register.R11 when TGuest.PointerSize == sizeof(ulong):
                    frame = frame with { R11 = value };
                    break;
                case Register.Rip:
                    frame = frame with { Rip = value };
                    break;
                case Register.Rflags:
                    frame = frame with { Rflags = value };
                    break;
                case Register.Rsp:
                    frame = frame with { Rsp = value };
                    break;
                case Register.Cs:
                    frame = frame with { Cs = (ushort)value };
                    break;
                case Register.Ss:
                    frame = frame with { Ss = (ushort)value };
                    break;
                default:
                    Patch(ref cpu, register, value);
                    break;
            }
        }

        if (vcpu.Verdict != Verdict.Running)
        {
            return;
        }

        if (response.Inject is not null)
        {
            vcpu[SystemRegister.XenUpcallPending] |= 1;
        }

        TGuest.LeaveAgent(ref cpu, vcpu);
        TGuest.Return(ref cpu, vcpu, in frame);
        Leave(ref cpu);
    }

    /// <summary>Each call is an event of its own, with the registers after it. The agent puts back what calls do to registers, the live bases of FS and GS among them; what they do to the system side stays.</summary>
    private void CallXen(ref CpuState cpu, Response response)
    {
        if (response.Hypercalls.IsEmpty)
        {
            return;
        }

        RegisterFile saved = cpu.Gpr;
        (ulong fs, ulong gs, ushort selector) = (cpu.SegmentBase[Seg.Fs], cpu.SegmentBase[Seg.Gs], cpu.Selector[Seg.Gs]);
        int made = vcpu.Deliveries.Count;
        foreach (Hypercall call in response.Hypercalls)
        {
            cpu.Gpr = saved;
            if (call.Number == HypercallNumbers.Iret)
            {
                vcpu.End(Verdict.Unsupported, "a HYPERVISOR_iret of a response would take its frame from the stack of a target's agent");
                return;
            }

            TGuest.PrepareCall(ref cpu, vcpu, call);
            vcpu.Rflags = AgentRflags;
            Dispatcher.Execute<TGuest>(ref cpu, vcpu);
            vcpu.ReturnsFromSyscall = false;
            if (vcpu.Verdict is Verdict.Running or Verdict.Halt)
            {
                RegisterState registers = X86.Delivery.Capture(ref cpu, AgentRflags);
                _events.Add(new Event(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, registers));
                _final = vcpu.Verdict == Verdict.Halt ? registers : null;
            }

            if (vcpu.Verdict != Verdict.Running)
            {
                return;
            }

            (cpu.SegmentBase[Seg.Fs], cpu.SegmentBase[Seg.Gs], cpu.Selector[Seg.Gs]) = (fs, gs, selector);
            if (vcpu.UpcallDue || vcpu.Deliveries.Count != made)
            {
                vcpu.End(Verdict.Unsupported, "a hypercall of a response lets something in while the agent of a target runs");
                return;
            }
        }

        cpu.Gpr = saved;
    }

    /// <summary>What the return does not load.</summary>
    private void Patch(ref CpuState cpu, Register register, ulong value)
    {
        switch (register)
        {
            case <= Register.R15:
                cpu.Gpr[(int)register] = value;
                break;
            case Register.FsBase or Register.GsBase when cpu.Canonical(value):
                cpu.SegmentBase[register == Register.FsBase ? Seg.Fs : Seg.Gs] = value;
                break;
            case Register.Ds or Register.Es or Register.Fs or Register.Gs when IsLoadable(ref cpu, (ushort)value):
                cpu.Selector[register switch { Register.Ds => Seg.Ds, Register.Es => Seg.Es, Register.Fs => Seg.Fs, _ => Seg.Gs }] = (ushort)value;
                break;
            default:
                vcpu.End(Verdict.Unsupported, "a response loads a register with a value that the agent of a target cannot load");
                break;
        }
    }

    /// <summary>Null, or Xen's flat data, whose base is 0 too.</summary>
    private static bool IsLoadable(ref CpuState cpu, ushort selector) =>
        (selector & 0xfffc) == 0 || (Descriptors.Find(cpu.Profile, selector) is { Present: true, Dpl: 3, Base: 0 } found && Descriptors.IsReadable(found));

    /// <summary>True for an access of the kernel that meets the pages of an agent: its own range, and pages of entries that a case puts elsewhere.</summary>
    private bool IsAgents(ulong address, uint error)
    {
        if (!vcpu.KernelMode || (error & PageFault.Present) != 0)
        {
            return false;
        }

        (ulong first, ulong last) = TGuest.Abi == Abi.XenPv32 ? (XenMap.Handlers32, XenMap.Handlers32 + XenMap.AgentSize32 - 1) : (AddressMap.AgentFirst, AddressMap.AgentLast);
        bool agents = address - first <= last - first;
        foreach (Door door in _doors.AsSpan(0, _kernelDoors))
        {
            agents |= address - door.Address < door.Length;
        }

        return agents;
    }
}
