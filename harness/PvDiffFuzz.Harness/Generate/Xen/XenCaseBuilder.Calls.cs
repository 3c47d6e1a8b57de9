using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>Hypercalls with their arguments, and the structures in memory that they take.</content>
internal sealed partial class XenCaseBuilder
{
    private const int MostArguments = 3;

    private static ReadOnlySpan<byte> Arguments64 => [Rdi, Rsi, Rdx];

    private static ReadOnlySpan<byte> Arguments32 => [Rbx, Rcx, Rdx];

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

        _calls++;
    }

    /// <summary>A call and its arguments.</summary>
    /// <param name="arguments">Room for three; all are filled.</param>
    /// <param name="count">How many the call takes.</param>
    /// <param name="fromPayload">False for the calls of a response, which leave the ground on which the kernel answers.</param>
    private ulong Call(Span<ulong> arguments, out int count, bool fromPayload)
    {
        arguments[0] = OperandValue();
        arguments[1] = OperandValue();
        arguments[2] = OperandValue();
        count = 2;
        switch (_random.Below(fromPayload ? 46 : 38))
        {
            case < 3:
                arguments[0] = _random.Below(8) == 0 ? 2 : (ulong)_random.Below(2);
                arguments[1] = SegmentBaseArgument(arguments[0]);
                arguments[0] = _random.Below(16) == 0 ? arguments[0] + 4 : arguments[0];
                return XenCall.SetSegmentBase;
            case < 7:
                arguments[0] = (ulong)_random.Below(9);
                arguments[1] = DebugValue(arguments[0]);
                return XenCall.SetDebugreg;
            case < 9:
                count = 1;
                arguments[0] = _random.Below(8) == 0 ? 8 + (_random.Next() & 0xff) : (ulong)_random.Below(8);
                return XenCall.GetDebugreg;
            case < 12:
                count = 1;
                arguments[0] = _random.Pick<ulong>([0, 1, 1, 2]);
                return XenCall.FpuTaskswitch;
            case < 15:
                arguments[0] = _random.Pick<ulong>([0, 0, 0, 1, 2]);
                arguments[1] = _random.Pick<ulong>([XenEdges.ArchitecturalIopl, XenEdges.ArchitecturalIopl, XenEdges.ArchitecturalIopl, 6, 31, 64]);
                return XenCall.VmAssist;
            case < 18:
                arguments[0] = XenCall.SetIopl;
                arguments[1] = Iopl();
                return XenCall.PhysdevOp;
            case < 22:
                arguments[0] = _random.Below(12) == 0 ? 2 + (_random.Next() & 7) : _random.Below(6) == 0 ? XenCall.Unregister : XenCall.Register;
                arguments[1] = CallbackStructure(register: arguments[0] == XenCall.Register);
                return XenCall.CallbackOp;
            case < 24:
                arguments[0] = XenCall.Yield;
                return _random.Percent(70) ? XenCall.SchedOp : XenCall.SchedOpCompat;
            case < 26:
                arguments[0] = _random.Below(4) == 0 ? 2 + (_random.Next() & 0xff) : 0;
                arguments[1] = 0;
                count = 3;
                return XenCall.ConsoleIo;
            case 26:
                count = 1;
                arguments[0] = 0;
                return XenCall.SetTimerOp;
            case < 29:
                arguments[0] = _random.Percent(80) ? 0 : 0x100 + (_random.Next() & 0xff);
                return XenCall.XenVersion;
            case < 31:
                // Aligned ones would be machine addresses.
                arguments[0] = (OperandValue() & ~7UL) | (1 + (_random.Next() % 7));
                arguments[1] = _random.Pick(XenEdges.Descriptors);
                return XenCall.UpdateDescriptor;
            case < 34:
                arguments[0] = _random.Pick<ulong>([FlatData, FlatData, FlatData, 0x28, 0, 0xe028]);
                arguments[1] = KernelStack();
                return XenCall.StackSwitch;
            case < 38:
                count = 3;
                return _random.Pick(XenCall.Unknown);
            case < 42:
                count = 1;
                arguments[0] = TrapTable();
                return XenCall.SetTrapTable;
            case 42:
                arguments[1] = _random.Pick<ulong>([0, 7169, 0x1_0000, uint.MaxValue]);
                return XenCall.SetGdt;
            default:
                arguments[0] = Multicall(out ulong calls);
                arguments[1] = calls;
                return XenCall.Multicall;
        }
    }

    private ulong SegmentBaseArgument(ulong which) => which switch
    {
        _ when _random.Below(12) == 0 => NonCanonical + (_random.Next() & 0xffff),
        _ when _random.Below(8) == 0 => FaultTarget(),
        _ => ChooseTarget(8, writes: true),
    };

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
            byte vector = _random.Percent(80) ? _random.Pick(XenEdges.Interrupts) : _random.Pick(XenEdges.Exceptions);
            XenTrap trap = (Narrow ? XenMap.Traps32 : XenMap.Traps)[vector];
            ulong address = _random.Below(12) switch { 0 when !Narrow => NonCanonical + (_random.Next() & 0xfff), 1 or 2 => Snippet(kernel: true), _ => trap.Address };
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
                4 => (XenCall.SetTimerOp, 0UL),
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
