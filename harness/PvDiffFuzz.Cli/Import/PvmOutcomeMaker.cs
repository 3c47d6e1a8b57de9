using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Makes the recorded outcome of a case from a record.</summary>
internal static class PvmOutcomeMaker
{
    /// <summary>Port of the landing pad at MSR_LSTAR.</summary>
    public const ulong LstarPort = 0x13;

    private const ulong UserPort = 0x10;
    private const ulong SupervisorPort = 0x11;
    private const ulong SupervisorHighPort = 0x12;
    private const ulong TerminatorPort = 0x20;
    private const int StackFrameLength = 64;

    private const byte NmiVector = 2;

    /// <summary>In place of a vector, revision 612 writes this for an NMI.</summary>
    private const ulong NmiMark = 0x200;

    /// <summary>Makes the outcome.</summary>
    /// <param name="record">The record.</param>
    /// <param name="testCase">The case made of it.</param>
    public static Outcome Make(PvmObservation record, TestCase testCase) => record.Exit.Kind switch
    {
        ObservedExit.Port => AtPort(record, testCase),
        ObservedExit.Halted => Ended(record, EndKind.Halt, RegistersOf(record, testCase, 0), testCase),
        ObservedExit.Shutdown => Crashed("triple fault"),
        _ => Crashed($"the hypervisor gave the virtual CPU up: internal error {record.Exit.Port}"),
    };

    private static Outcome AtPort(PvmObservation record, TestCase testCase)
    {
        RegisterState registers = RegistersOf(record, testCase, PvmHostState.OutLength);
        if (record.Exit.Port == TerminatorPort)
        {
            return registers.Rip == testCase.Code.End
                ? Ended(record, EndKind.ReachedEnd, registers, testCase)
                : throw record.Bad($"the terminator answered at {registers.Rip:x}; it lies at {testCase.Code.End:x}");
        }

        Event e = EventOf(record, registers);
        return Ended(record, EndKind.Event, registers, testCase) with { Events = [e] };
    }

    private static Outcome Ended(PvmObservation record, EndKind end, RegisterState registers, TestCase testCase) => new()
    {
        End = end,
        Registers = registers,
        System = SystemState.Of(record.System),
        Memory = ChangedWords(record, testCase),
        Seen = SeenOf(record),
    };

    /// <summary>In a dead guest nobody sees registers or memory.</summary>
    private static Outcome Crashed(string detail) => new() { End = EndKind.Crash, Detail = detail };

    /// <summary>What the record does not show is as at the start, but for PKRU: RDPKRU reads 0 in both modes of these hosts.</summary>
    private static RegisterState RegistersOf(PvmObservation record, TestCase testCase, ulong after)
    {
        uint? pkru = testCase.Registers.Pkru is null ? null : 0;
        RegisterState registers = testCase.Registers with { Cs = Selectors.UserCode64, Ss = Selectors.UserData, Pkru = pkru };
        foreach ((Register register, ulong value) in record.Registers)
        {
            registers = registers.With(register, value);
        }

        return registers with { Rip = registers.Rip - after };
    }

    private static Event EventOf(PvmObservation record, RegisterState registers)
    {
        (EntryPoint entry, ulong address) = (record.Exit.Port, record.Abi) switch
        {
            (UserPort, _) => (EntryPoint.PvmUser, PvmHostState.EventEntry),
            (SupervisorPort, _) => (EntryPoint.PvmSupervisor, PvmHostState.EventEntry + 256),
            (SupervisorHighPort, Abi.PvmRfc1) => (EntryPoint.PvmSupervisorHigh, PvmHostState.EventEntry + 512),
            (SupervisorHighPort, _) => (EntryPoint.PvmSupervisor, PvmHostState.EventEntry + 512),
            (LstarPort, _) => (EntryPoint.Lstar, PvmHostState.Lstar),
            _ => throw record.Bad($"port {record.Exit.Port:x} belongs to no landing pad; they have {UserPort:x} to {LstarPort:x}, and the terminator {TerminatorPort:x}"),
        };
        if (registers.Rip != address)
        {
            throw record.Bad($"port {record.Exit.Port:x} answered at {registers.Rip:x}; its landing pad lies at {address:x}");
        }

        bool onStack = entry == EntryPoint.PvmSupervisor && record.Abi == Abi.PvmRfc1;
        ImmutableArray<byte> frame = onStack ? StackFrame(record) : Structure(record);
        if (entry == EntryPoint.Lstar)
        {
            return new Event(EventKind.SystemCall, 0, null, null, entry, registers) { Frame = frame };
        }

        // The frame's first two words, or the structure's fields, hold vector and error code. Revision 612 marks vectors as valid in their upper byte.
        ulong word = onStack ? BinaryPrimitives.ReadUInt64LittleEndian(frame.AsSpan()) : 0;
        ulong stated = onStack ? word >> 32 : record.System[SystemRegister.PvcsEventVector];
        bool nmi = record.Abi == Abi.Pvm612 && stated == NmiMark;
        byte vector = nmi ? NmiVector : (byte)stated;
        uint? error = HasErrorCode(vector) ? (uint)(onStack ? word : record.System[SystemRegister.PvcsEventErrcode]) : null;
        ulong? cr2 = vector == 14 ? record.System[SystemRegister.PvcsCr2] : null;
        return new Event(nmi ? EventKind.Interrupt : Event.KindOf(vector), vector, error, cr2, entry, registers) { Frame = frame };
    }

    private static bool HasErrorCode(byte vector) => vector is 8 or (>= 10 and <= 14) or 17 or 21 or 29 or 30;

    private static ImmutableArray<byte> StackFrame(PvmObservation record)
    {
        ImmutableArray<byte>.Builder frame = ImmutableArray.CreateBuilder<byte>(StackFrameLength);
        ulong rsp = record.Registers[Register.Rsp];
        for (ulong i = 0; i < StackFrameLength; i++)
        {
            frame.Add(record.Memory.TryGetValue(rsp + i, out byte value) ? value : throw record.Bad($"stk does not hold the frame at {rsp:x}; eight words from RSP are expected"));
        }

        return frame.MoveToImmutable();
    }

    private static ImmutableArray<byte> Structure(PvmObservation record)
    {
        byte[] bytes = new byte[PvcsLayout.Size];
        foreach (PvcsField field in PvcsLayout.Of(record.Abi))
        {
            ulong value = record.System[field.Register];
            for (int i = 0; i < field.Width; i++)
            {
                bytes[field.Offset + i] = (byte)(value >> (8 * i));
            }
        }

        return ImmutableArray.Create(bytes);
    }

    /// <summary>Aligned words of which the record shows a byte that is not the initial one.</summary>
    private static ImmutableArray<MemoryWord> ChangedWords(PvmObservation record, TestCase testCase)
    {
        SortedDictionary<ulong, ulong> words = [];
        foreach ((ulong address, byte value) in record.Memory)
        {
            ulong at = address & ~7UL;
            int shift = 8 * (int)(address - at);
            ulong word = words.TryGetValue(at, out ulong so) ? so : testCase.InitialWord(at);
            words[at] = (word & ~(0xffUL << shift)) | ((ulong)value << shift);
        }

        return [.. words.Where(w => w.Value != testCase.InitialWord(w.Key)).Select(w => new MemoryWord(w.Key, w.Value))];
    }

    private static ImmutableArray<MemoryRange> SeenOf(PvmObservation record)
    {
        ImmutableArray<MemoryRange>.Builder ranges = ImmutableArray.CreateBuilder<MemoryRange>();
        foreach (ulong address in record.Memory.Keys)
        {
            if (ranges.Count > 0 && ranges[^1].Address + (ulong)ranges[^1].Length == address)
            {
                ranges[^1] = ranges[^1] with { Length = ranges[^1].Length + 1 };
            }
            else
            {
                ranges.Add(new MemoryRange(address, 1));
            }
        }

        return ranges.ToImmutable();
    }
}
