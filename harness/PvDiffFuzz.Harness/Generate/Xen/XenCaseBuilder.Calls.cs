using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>Hypercalls with their arguments, and the structures in memory that they take.</content>
internal sealed partial class XenCaseBuilder
{
    private const int MostArguments = 4;

    private static ReadOnlySpan<byte> Arguments64 => [Rdi, Rsi, Rdx, R10];

    private static ReadOnlySpan<byte> Arguments32 => [Rbx, Rcx, Rdx, Rsi];

    private int PointerSize => Narrow ? 4 : 8;

    private void EmitHypercall()
    {
        Span<ulong> arguments = stackalloc ulong[MostArguments];
        ulong number = Call(arguments, out int count, fromPayload: true);
        ReadOnlySpan<byte> places = Narrow ? Arguments32 : Arguments64;
        for (int i = 0; i < MostArguments; i++)
        {
            if (i < count || _random.Below(8) == 0)
            {
                SetRegister(places[i], arguments[i]);
            }
        }

        Enter(number);
        Forget(Narrow ? [Rax, Rbx, Rcx, Rdx, Rsi, Rdi] : [Rax, Rcx, Rdx, Rsi, Rdi, R8, R10, R11]);
    }

    /// <summary>Loads a call's number and makes the call at once, so that nothing comes between.</summary>
    private void Enter(ulong number)
    {
        DefineFlagsFor(RflagsBits.Status);
        SetRegister(Rax, number);
        if (Narrow)
        {
            AddSetup([0xcd, 0x82]);
        }
        else
        {
            ReadOnlySpan<byte> bytes = _random.Below(32) switch { 0 => [0x48, 0x0f, 0x05], 1 => [0x66, 0x0f, 0x05], 2 => [0xf2, 0x0f, 0x05], _ => [0x0f, 0x05] };
            AddSetup(bytes);
        }
    }

    /// <summary>A call and its arguments.</summary>
    /// <param name="arguments">Room for <see cref="MostArguments"/>; all are filled.</param>
    /// <param name="count">How many the call takes.</param>
    /// <param name="fromPayload">False for the calls of a response, which leave the ground on which the kernel answers.</param>
    private ulong Call(Span<ulong> arguments, out int count, bool fromPayload)
    {
        for (int i = 0; i < MostArguments; i++)
        {
            arguments[i] = OperandValue();
        }

        count = 2;
        if (fromPayload && _hazard == Hazard.Shutdown)
        {
            return SchedulingCall(arguments, out count, fromPayload);
        }

        return _random.Below(fromPayload ? 12 : 9) switch
        {
            0 or 1 => DebugRegisterCall(arguments, out count),
            2 => SegmentBaseCall(arguments),
            3 or 4 => PrivilegeCall(arguments, out count),
            5 => CallbackCall(arguments, out count),
            6 => SchedulingCall(arguments, out count, fromPayload),
            7 => PlainCall(arguments, out count),
            8 => UnknownCall(arguments, out count),
            9 => TableCall(arguments, out count),
            10 => MulticallCall(arguments),
            _ => CallbackCall(arguments, out count),
        };
    }

    private ulong DebugRegisterCall(Span<ulong> arguments, out int count)
    {
        arguments[0] = _random.Below(10) == 0 ? 8 + (_random.Next() & 0xff) : (ulong)_random.Below(8);
        arguments[1] = DebugValue(arguments[0]);
        bool sets = _random.Percent(65);
        count = sets ? 2 : 1;
        return sets ? XenCall.SetDebugreg : XenCall.GetDebugreg;
    }

    private ulong SegmentBaseCall(Span<ulong> arguments)
    {
        arguments[0] = _random.Below(16) == 0 ? 4 + (_random.Next() & 0xff) : (ulong)_random.Below(4);
        arguments[1] = arguments[0] == XenCall.GsUserSelector ? Selector()
            : _random.Below(12) == 0 ? NonCanonical + (_random.Next() & 0xffff)
            : _random.Below(8) == 0 ? FaultTarget()
            : ChooseTarget(8, writes: true);
        return XenCall.SetSegmentBase;
    }

    /// <summary>TS, assists, the virtual IOPL and the I/O bitmap.</summary>
    private ulong PrivilegeCall(Span<ulong> arguments, out int count)
    {
        count = 2;
        switch (_random.Below(8))
        {
            case < 2:
                count = 1;
                arguments[0] = _random.Pick<ulong>([0, 1, 1, 2]);
                return XenCall.FpuTaskswitch;
            case < 4:
                arguments[0] = _random.Pick<ulong>([0, 0, 0, 1, 2]);
                arguments[1] = _random.Pick<ulong>([XenEdges.ArchitecturalIopl, XenEdges.ArchitecturalIopl, XenEdges.ArchitecturalIopl, 6, 31, 64]);
                return XenCall.VmAssist;
            case < 7:
                arguments[0] = XenCall.SetIopl;
                arguments[1] = Iopl();
                return XenCall.PhysdevOp;
            default:
                arguments[0] = XenCall.SetIobitmap;
                arguments[1] = IoBitmap();
                return XenCall.PhysdevOp;
        }
    }

    private ulong CallbackCall(Span<ulong> arguments, out int count)
    {
        count = 2;
        switch (_random.Below(8))
        {
            case 0:
                arguments[0] = _random.Below(8) == 0 ? 2 : _random.Below(4) == 0 ? XenCall.Unregister : XenCall.Register;
                arguments[1] = NmiStructure();
                return XenCall.NmiOp;
            case 1:
                // The older way; a 32-bit guest gives selectors, too.
                count = Narrow ? 4 : 3;
                for (int i = 0; i < MostArguments; i++)
                {
                    XenCallbackKind kind = Narrow ? (XenCallbackKind)(i / 2) : (XenCallbackKind)Math.Min(i, (int)XenCallbackKind.Syscall);
                    arguments[i] = Narrow && (i & 1) == 0 ? XenMap.KernelCode32 : XenMap.CallbackAddress(_abi, kind);
                }

                return XenCall.SetCallbacks;
            default:
                arguments[0] = _random.Below(12) == 0 ? 2 + (_random.Next() & 7) : _random.Below(6) == 0 ? XenCall.Unregister : XenCall.Register;
                arguments[1] = CallbackStructure(register: arguments[0] == XenCall.Register);
                return XenCall.CallbackOp;
        }
    }

    private ulong SchedulingCall(Span<ulong> arguments, out int count, bool fromPayload)
    {
        count = 2;
        if (fromPayload && _hazard == Hazard.Shutdown)
        {
            arguments[0] = XenCall.Shutdown;
            arguments[1] = XenCall.ShutdownCrash;
            return XenCall.SchedOpCompat;
        }

        if (_random.Below(8) == 0)
        {
            (arguments[0], arguments[1]) = (XenCall.IsUp, 0);
            return XenCall.VcpuOp;
        }

        // With an event pending the guest does not block.
        arguments[0] = fromPayload && _pending && _random.Percent(60) ? XenCall.Block : XenCall.Yield;
        return _random.Percent(70) ? XenCall.SchedOp : XenCall.SchedOpCompat;
    }

    private ulong PlainCall(Span<ulong> arguments, out int count)
    {
        count = 2;
        switch (_random.Below(5))
        {
            case 0:
                arguments[0] = _random.Below(4) == 0 ? 2 + (_random.Next() & 0xff) : 0;
                arguments[1] = 0;
                count = 3;
                return XenCall.ConsoleIo;
            case 1:
                arguments[0] = _random.Percent(80) ? 0 : 0x100 + (_random.Next() & 0xff);
                return XenCall.XenVersion;
            case 2:
                // Aligned ones would be machine addresses.
                arguments[0] = (OperandValue() & ~7UL) | (1 + (_random.Next() % 7));
                arguments[1] = _random.Pick(XenEdges.Descriptors);
                return XenCall.UpdateDescriptor;
            default:
                arguments[0] = Narrow ? KernelSelector : _random.Pick<ulong>([KernelSelector, KernelSelector, KernelSelector, 0x28, 0, 0xe028]);
                arguments[1] = KernelStack();
                return XenCall.StackSwitch;
        }
    }

    private ulong UnknownCall(Span<ulong> arguments, out int count)
    {
        count = arguments.Length;
        return Narrow ? (uint)_random.Pick(XenCall.Unknown) | 0x1000 : _random.Pick(XenCall.Unknown);
    }

    private ulong TableCall(Span<ulong> arguments, out int count)
    {
        if (_random.Percent(75))
        {
            count = 1;
            arguments[0] = TrapTable();
            return XenCall.SetTrapTable;
        }

        count = 2;
        arguments[1] = _random.Pick<ulong>([0, 7169, 0x1_0000, uint.MaxValue]);
        return XenCall.SetGdt;
    }

    private ulong MulticallCall(Span<ulong> arguments)
    {
        arguments[0] = Multicall(out ulong calls);
        arguments[1] = calls;
        return XenCall.Multicall;
    }

    /// <summary>Where a structure goes: mostly the kernel's data, once in a while where it cannot be read.</summary>
    private ulong StructureAt(int size)
    {
        ulong bits = _random.Next();
        return (bits & 31) switch
        {
            0 => Faulting(size, writes: false),
            1 => _block + XenMap.Data + Page + ((bits >> 8) & 0xfc0),
            2 => _block + XenMap.Data + (2 * Page) - 8,
            3 => _block + AddressMap.Data + ((bits >> 8) & 0xfc0) + ((bits >> 20) & 7),
            _ => _block + XenMap.Data + ((bits >> 8) & 0xe00),
        };
    }

    private ulong Iopl()
    {
        ulong at = StructureAt(sizeof(uint));
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, _random.Below(8) == 0 ? 4 + (uint)(_random.Next() & 0xff) : (uint)_random.Below(4));
        _contents.Poke(ref _random, at, bytes, _block);
        return at;
    }

    /// <summary>A bitmap of as many ports as a page holds, mostly clear, so that they are allowed.</summary>
    private ulong IoBitmap()
    {
        ulong at = StructureAt(16);
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        Word(bytes, 0, _random.Percent(80) ? _block + XenMap.Data + 0xf00 : FaultTarget());
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[PointerSize..], _random.Pick<uint>([0, 0x84, 0x100, 0x800, 0x1_0000, 0x1_0001]));
        _contents.Poke(ref _random, at, bytes, _block);
        return at;
    }

    private ulong NmiStructure()
    {
        ulong at = StructureAt(16);
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        Word(bytes, 0, XenMap.CallbackAddress(_abi, XenCallbackKind.Nmi));
        _contents.Poke(ref _random, at, bytes, _block);
        return at;
    }

    private ulong CallbackStructure(bool register)
    {
        ulong at = StructureAt(16);
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        ushort type = _random.Pick(XenCall.CallbackTypes);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, type);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[2..], register ? (ushort)_random.Below(2) : (ushort)0);
        XenCallbackKind kind = type switch { 1 => XenCallbackKind.Failsafe, 2 => XenCallbackKind.Syscall, 4 => XenCallbackKind.Nmi, 5 => XenCallbackKind.Sysenter, 7 => XenCallbackKind.Syscall32, _ => XenCallbackKind.Event };

        // Another address for a callback that is due would be a jump; those of exceptions are moved by the trap table.
        ulong address = _random.Below(8) == 0 ? NonCanonical + (_random.Next() & 0xfff) : XenMap.CallbackAddress(_abi, kind);
        if (Narrow)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], XenMap.KernelCode32);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[8..], (uint)XenMap.CallbackAddress(_abi, kind));
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], address);
        }

        _contents.Poke(ref _random, at, bytes, _block);
        return at;
    }

    /// <summary>A list of one to three entries, ended by one without an address. Handlers are those of the agent, or a piece of the payload, so that a delivery there is a jump.</summary>
    private ulong TrapTable()
    {
        int size = Narrow ? 8 : 16;
        ulong at = StructureAt(4 * size);
        Span<byte> bytes = stackalloc byte[4 * 16];
        bytes.Clear();
        int count = 1 + _random.Below(3);
        for (int i = 0; i < count; i++)
        {
            Span<byte> entry = bytes[(i * size)..];
            // What IDT and FRED delivery do otherwise goes to handlers that show it, not to jumps.
            bool jumps = _random.Below(6) == 0;
            byte vector = jumps ? _random.Pick(XenEdges.AlikeVectors) : _random.Percent(80) ? _random.Pick(XenEdges.Interrupts) : _random.Pick(XenEdges.Exceptions);
            XenTrap trap = (Narrow ? XenMap.Traps32 : XenMap.Traps)[vector];
            ulong address = jumps ? Snippet(kernel: true) : !Narrow && _random.Below(12) == 0 ? NonCanonical + (_random.Next() & 0xfff) : trap.Address;
            entry[0] = vector;
            entry[1] = (byte)_random.Below(8);
            BinaryPrimitives.WriteUInt16LittleEndian(entry[2..], trap.Cs);
            if (Narrow)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(entry[4..], (uint)address);
            }
            else
            {
                BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], address);
            }
        }

        _contents.Poke(ref _random, at, bytes[..(4 * size)], _block);
        return at;
    }

    /// <summary>A list of one or two calls that need no structures of their own.</summary>
    private ulong Multicall(out ulong calls)
    {
        int size = 8 * PointerSize;
        calls = _random.Below(16) == 0 ? 0 : 1 + (ulong)_random.Below(2);
        ulong at = StructureAt(2 * size);
        Span<byte> bytes = stackalloc byte[2 * 64];
        bytes.Clear();
        for (int i = 0; i < (int)calls; i++)
        {
            Span<byte> entry = bytes[(i * size)..];
            (ulong number, ulong first) = _random.Below(6) switch
            {
                0 => (XenCall.FpuTaskswitch, (ulong)_random.Below(2)),
                1 => (XenCall.SchedOp, XenCall.Yield),
                2 => (XenCall.GetDebugreg, (ulong)_random.Below(8)),
                3 => (XenCall.XenVersion, 0UL),
                4 => (XenCall.FpuTaskswitch, 1UL),
                _ => (_random.Pick(XenCall.Unknown), OperandValue()),
            };
            Word(entry, 0, number);
            Word(entry, 1, _random.Next());
            Word(entry, 2, first);
        }

        _contents.Poke(ref _random, at, bytes[..(2 * size)], _block);
        return at;
    }

    private void Word(Span<byte> bytes, int index, ulong value)
    {
        if (Narrow)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[(index * 4)..], (uint)value);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[(index * 8)..], value);
        }
    }

    private ImmutableArray<Hypercall> Calls()
    {
        Span<ulong> arguments = stackalloc ulong[MostArguments];
        ImmutableArray<Hypercall>.Builder calls = ImmutableArray.CreateBuilder<Hypercall>(2);
        int wanted = _random.Below(5) == 0 ? 2 : 1;
        for (int i = 0; i < wanted; i++)
        {
            ulong number = Call(arguments, out int count, fromPayload: false);
            calls.Add(new Hypercall(number, ImmutableArray.Create(arguments[..count])));
        }

        return calls.DrainToImmutable();
    }
}
