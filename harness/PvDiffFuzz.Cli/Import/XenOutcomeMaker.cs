using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Makes the recorded outcome of a case from a record.</summary>
internal static class XenOutcomeMaker
{
    private const int Rsp = 4;
    private const int FrameLength = 56;
    private const int FrameLengthWithError = 64;
    private const int ErrorWord = 2;
    private const byte PageFault = 14;

    /// <summary>Makes the outcome.</summary>
    /// <param name="record">The record.</param>
    /// <param name="testCase">The case made of it.</param>
    public static Outcome Make(XenObservation record, TestCase testCase)
    {
        if (record.Delivery is not XenDelivery delivery)
        {
            // In a dead guest nobody sees registers or memory.
            return new Outcome { End = EndKind.Crash, Detail = "Xen crashed the domain" };
        }

        RegisterState registers = RegistersOf(delivery, testCase, record);
        Event e = EventOf(record, delivery, registers);
        return new Outcome
        {
            End = EndKind.Event,
            Events = [e],
            Registers = registers,
            System = SystemOf(delivery),
            Memory = ChangedWords(delivery.Registers[Rsp], e.Frame.Length / sizeof(ulong), delivery, testCase),
            Seen = [new MemoryRange(delivery.Registers[Rsp], e.Frame.Length)],
        };
    }

    /// <summary>What the record does not show is as at the start: the bases of FS and GS.</summary>
    private static RegisterState RegistersOf(XenDelivery delivery, TestCase testCase, XenObservation record)
    {
        GprFile gpr = default;
        delivery.Registers.AsSpan().CopyTo(gpr);
        return testCase.Registers with
        {
            Gpr = gpr,
            Rip = AddressOf(delivery, testCase, record),
            Rflags = delivery.Rflags,
            Cs = delivery.Cs,
            Ss = delivery.Ss,
            Ds = (ushort)delivery.Selectors,
            Es = (ushort)(delivery.Selectors >> 16),
            Fs = (ushort)(delivery.Selectors >> 32),
            Gs = (ushort)(delivery.Selectors >> 48),
        };
    }

    /// <summary>The handler's address, which records show in RCX, as Xen leaves it there.</summary>
    private static ulong AddressOf(XenDelivery delivery, TestCase testCase, XenObservation record)
    {
        ulong address = delivery.Entry switch
        {
            EntryPoint.XenTrap => testCase.Xen!.Traps[delivery.Vector].Address,
            _ => testCase.Xen!.CallbackOf(Words.Find<XenCallbackKind>(Words.Text, delivery.Entry.Text()["xen.".Length..])!.Value)!.Value.Address,
        };
        return address == delivery.Registers[1]
            ? address
            : throw record.Bad($"{delivery.Entry.Text()} {delivery.Vector:x2} with RCX {delivery.Registers[1]:x}; its handler lies at {address:x}");
    }

    /// <summary>Xen aligns the stack to 16 bytes and pushes seven words, or eight with an error code, so RSP tells the two apart.</summary>
    private static Event EventOf(XenObservation record, XenDelivery delivery, RegisterState registers)
    {
        bool error = delivery.Registers[Rsp] % 16 == 0;
        byte[] frame = new byte[error ? FrameLengthWithError : FrameLength];
        for (int i = 0; i < frame.Length; i += sizeof(ulong))
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(i), delivery.Stack[i / sizeof(ulong)]);
        }

        if (error && delivery.Stack[ErrorWord] > uint.MaxValue)
        {
            throw record.Bad($"error code {delivery.Stack[ErrorWord]:x}: it has 32 bits");
        }

        EventKind kind = delivery.Entry switch
        {
            EntryPoint.XenTrap => error || !HasErrorCode(delivery.Vector) ? Event.KindOf(delivery.Vector) : EventKind.Trap,
            EntryPoint.XenEvent => EventKind.Upcall,
            EntryPoint.XenNmi => EventKind.Interrupt,
            EntryPoint.XenFailsafe => EventKind.Fault,
            _ => EventKind.SystemCall,
        };
        ulong? cr2 = error && delivery.Vector == PageFault && delivery.Entry == EntryPoint.XenTrap ? delivery.Cr2 : null;
        return new Event(kind, delivery.Vector, error ? (uint)delivery.Stack[ErrorWord] : null, cr2, delivery.Entry, registers) { Frame = ImmutableArray.Create(frame) };
    }

    private static bool HasErrorCode(byte vector) => vector is 8 or (>= 10 and <= 14) or 17 or 21;

    private static SystemState SystemOf(XenDelivery delivery) => SystemState.Of(
        new(SystemRegister.Cr2, delivery.Cr2),
        new(SystemRegister.XenUpcallMask, (byte)(delivery.VcpuInfo >> 8)),
        new(SystemRegister.XenUpcallPending, (byte)delivery.VcpuInfo),
        new(SystemRegister.XenVcpuInfoPad, delivery.VcpuInfo >> 16));

    /// <summary>Words of the frame that are not as at the start. What lies above it was left there by earlier runs.</summary>
    private static ImmutableArray<MemoryWord> ChangedWords(ulong rsp, int count, XenDelivery delivery, TestCase testCase) =>
    [
        .. delivery.Stack.Take(count).Select((word, i) => new MemoryWord(rsp + (ulong)(i * sizeof(ulong)), word)).Where(word => word.Value != testCase.InitialWord(word.Address)),
    ];
}
