using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Reads what the agent has recorded as outcomes.</summary>
internal sealed unsafe class OutcomeDecoder
{
    private const byte PageFaultVector = 14;
    private const int FrameLength = 56;
    private const int FrameLengthWithError = 64;
    private const int ErrorCodePlace = 16;
    private const int CodeWordPlace = 32;
    private const ulong FetchError = 0x10;

    /// <summary>Vectors that have an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.</summary>
    private const uint ErrorCodes = (1u << 8) | (1u << 10) | (1u << 11) | (1u << 12) | (1u << 13) | (1u << 14) | (1u << 17) | (1u << 21) | (1u << 29) | (1u << 30);

    /// <summary>True when the agent itself was interrupted from outside in the case that was read last, so that another try may say something of the payload.</summary>
    public bool MetAgent { get; private set; }

    /// <summary>What RCX holds after the agent's HYPERVISOR_iret, see <see cref="AgentCode.Returned"/>.</summary>
    public ulong Returned { get; set; }

    /// <summary>The reason for results that the agent cannot have written: a payload wrote over them.</summary>
    public const string NoSense = "the agent's results make no sense";

    private readonly List<MemoryWord> _words = [];
    private readonly Dictionary<ulong, ulong> _frames = [];
    private readonly Dictionary<ulong, ulong> _returns = [];
    private ulong _returnsFrom;
    private readonly ulong[] _initial = new ulong[PageLayout.PageSize / sizeof(ulong)];
    private readonly ulong[] _final = new ulong[PageLayout.PageSize / sizeof(ulong)];

    /// <summary>Reads one result.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="map">Its layout.</param>
    /// <param name="record">The case as it was encoded.</param>
    /// <param name="result">The result.</param>
    /// <param name="end">The first byte after it; unused after a death.</param>
    /// <param name="death">Why there is no more than this; null when the agent has finished the case.</param>
    /// <exception cref="QemuException">The result makes no sense.</exception>
    public Outcome Decode(TestCase testCase, LayoutMap map, byte* record, byte* result, byte* end, Death? death)
    {
        // SAFETY: the agent wrote `Events` contexts, and then memory up to `EndAt` if it finished.
        MetAgent = false;
        int count = *(int*)(result + Result.Events);
        if (count is < 0 or > GuestMap.ResultsSize / Context.Size)
        {
            throw new QemuException(NoSense);
        }

        byte* context = result + Result.HeaderSize;
        byte* memory = context + (count * Context.Size);
        for (int i = 0; i < *(int*)(record + Record.Hypercalls); i++)
        {
            if (RecordWriter.ResultOf(record, i) < 0 && death is null)
            {
                return Outcome.Unsupported($"Xen refuses a part of the state at the start with {RecordWriter.ResultOf(record, i)}");
            }
        }

        bool reachedStub = count > 0 && *(int*)(memory - Context.Size + Context.Entry) == EntryNumber.End;
        Event[] events = new Event[reachedStub ? count - 1 : count];
        SystemState system = SystemState.Empty;
        RegisterState? registers = null;
        _frames.Clear();
        _returns.Clear();
        _returnsFrom = 0;
        int answered = 0;
        for (int i = 0; i < count; i++, context += Context.Size)
        {
            if (death is null && context + Context.Size > end)
            {
                throw new QemuException(NoSense);
            }

            int entry = *(int*)(context + Context.Entry);
            _returnsFrom = registers?.Rip ?? 0;
            _returns[i == 0 ? testCase.Registers.Rip : ReturnsTo(events.AsSpan(0, i), testCase.Responses, ref answered)] = _returnsFrom;
            if (entry == EntryNumber.HypercallReturn)
            {
                registers = ReadRegisters(context, registers!.Rip);
                registers = GuestMap.IsKernel(registers.Gpr[(int)Register.Rcx]) ? registers.With(Register.Rcx, registers.Rip) : registers;
                events[i] = new Event(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, registers);
            }
            else if (entry == EntryNumber.End)
            {
                if (i + 1 < count)
                {
                    // What comes behind the end comes to the agent.
                    MetAgent = true;
                    return Outcome.Unsupported("the agent itself meets something behind the end of the code");
                }

                registers = ReadRegisters(context, testCase.Code.End);
            }
            else
            {
                registers = ReadRegisters(context, AddressOf(entry, testCase.Xen!));
                events[i] = EventOf(context, entry, registers);
                NoteFrame(registers.Gpr[(int)Register.Rsp], *(ulong*)(context + Context.Frame));
                if (IsOfAgent(events[i]))
                {
                    MetAgent = events[i].Kind == EventKind.Upcall;
                    return Outcome.Unsupported($"the agent itself meets {(events[i].Kind == EventKind.Upcall ? "an upcall" : $"vector {events[i].Vector}")} when it enters the payload");
                }
            }

            system = ReadSystem(*(ulong*)(context + Context.VcpuInfo), *(ulong*)(context + Context.Cr2));
        }

        if (death is not null)
        {
            return new Outcome { End = death.Kind == DeathKind.Hypervisor ? EndKind.HypervisorCrash : EndKind.Crash, Events = ImmutableCollectionsMarshal.AsImmutableArray(events), Detail = death.Reason };
        }

        return new Outcome
        {
            End = reachedStub || (events.Length > 0 && IsEnd(events[^1], testCase)) ? EndKind.ReachedEnd : EndKind.Event,
            Events = ImmutableCollectionsMarshal.AsImmutableArray(events),
            Registers = registers,
            System = system,
            Memory = DecodeMemory(map, record, memory, end),
        };
    }

    /// <summary>Makes the outcome of a case whose guest halts. Its registers are Xen's to know; memory is read where it is.</summary>
    /// <param name="outcome">What was decoded of it.</param>
    /// <param name="map">Its layout.</param>
    /// <param name="record">The case as it was encoded.</param>
    /// <param name="pool">The pages of cases.</param>
    /// <param name="vcpuInfo">The first bytes of vcpu_info.</param>
    public Outcome Halt(Outcome outcome, LayoutMap map, byte* record, byte* pool, ReadOnlySpan<byte> vcpuInfo)
    {
        _words.Clear();
        foreach (LayoutMap.Page page in map.Pages)
        {
            if (page.Writable)
            {
                uint offset = (uint)(page.Index * PageLayout.PageSize);

                // SAFETY: the pool has all pages of the map.
                new ReadOnlySpan<ulong>(pool + offset, _final.Length).CopyTo(_final);
                ComparePage(record, offset, page.Address);
            }
        }

        return outcome with { End = EndKind.Halt, Memory = ImmutableArray.Create(CollectionsMarshal.AsSpan(_words)), System = ReadSystem(BinaryPrimitives.ReadUInt64LittleEndian(vcpuInfo), BinaryPrimitives.ReadUInt64LittleEndian(vcpuInfo[16..])) };
    }

    private static ulong AddressOf(int entry, XenState xen) =>
        entry >= EntryNumber.FirstCallback ? xen.CallbackOf((XenCallbackKind)(entry - EntryNumber.FirstCallback))?.Address ?? 0 : xen.Traps[(byte)entry].Address;

    private static Event EventOf(byte* context, int entry, RegisterState registers)
    {
        // SAFETY: a whole context is here. Xen aligns the stack before it pushes, so RSP tells the two lengths apart.
        bool error = (registers.Gpr[(int)Register.Rsp] & 8) == 0;
        ImmutableArray<byte> frame = ImmutableArray.Create(new ReadOnlySpan<byte>(context + Context.Frame, error ? FrameLengthWithError : FrameLength));
        uint? errorCode = error ? *(uint*)(context + Context.Frame + ErrorCodePlace) : null;
        if (entry >= EntryNumber.FirstCallback)
        {
            (EventKind kind, EntryPoint point, byte vector) = (XenCallbackKind)(entry - EntryNumber.FirstCallback) switch
            {
                XenCallbackKind.Event => (EventKind.Upcall, EntryPoint.XenEvent, (byte)0),
                XenCallbackKind.Failsafe => (EventKind.Fault, EntryPoint.XenFailsafe, (byte)0),
                XenCallbackKind.Syscall => (EventKind.SystemCall, EntryPoint.XenSyscall, (byte)0),
                XenCallbackKind.Syscall32 => (EventKind.SystemCall, EntryPoint.XenSyscall32, (byte)0),
                XenCallbackKind.Sysenter => (EventKind.SystemCall, EntryPoint.XenSysenter, (byte)0),
                _ => (EventKind.Interrupt, EntryPoint.XenNmi, Injection.NmiVector),
            };
            return new Event(kind, vector, errorCode, null, point, registers) { Frame = frame };
        }

        // A vector that has an error code comes without one only by INT n.
        bool software = !error && entry < 32 && ((ErrorCodes >> entry) & 1) != 0;
        ulong? cr2 = error && entry == PageFaultVector ? *(ulong*)(context + Context.Cr2) : null;
        return new Event(software ? EventKind.Trap : Event.KindOf((byte)entry), (byte)entry, errorCode, cr2, EntryPoint.XenTrap, registers) { Frame = frame };
    }

    /// <summary>Where the answer to the last event led. Hypercalls of an answer are events behind the one that is answered.</summary>
    private static ulong ReturnsTo(ReadOnlySpan<Event> events, ImmutableArray<Response> responses, ref int answered)
    {
        answered += events[^1].Kind == EventKind.Hypercall ? 0 : 1;
        while (events.Length > 1 && events[^1].Kind == EventKind.Hypercall)
        {
            events = events[..^1];
        }

        foreach ((Register register, ulong value) in answered <= responses.Length ? responses[answered - 1].Patches : [])
        {
            if (register == Register.Rip)
            {
                return value;
            }
        }

        return events[^1].Frame.IsEmpty ? 0 : FrameRip(events[^1]);
    }

    private static ulong FrameRip(Event e) => BinaryPrimitives.ReadUInt64LittleEndian(e.Frame.AsSpan()[(e.Frame.Length == FrameLength ? 16 : 24)..]);

    /// <summary>True for an event that met the agent. One that comes before the first instruction of an entry belongs to what was delivered there.</summary>
    private static bool IsOfAgent(Event e) => GuestMap.IsKernel(FrameRip(e)) && !GuestMap.IsEntry(FrameRip(e));

    /// <summary>
    /// True for an outcome with RF in the frame of an event that is no fault, where nothing before has loaded RF. The emulator keeps RF until the end of a block of instructions, so that an interrupt of
    /// the machine, which nothing else shows, can leave it there: once in some thousand cases. <c>INT n</c> of other vectors is a fault for the processor, and has it always.
    /// </summary>
    public static bool HasStrayResume(TestCase testCase, Outcome outcome)
    {
        bool loaded = (testCase.Registers.Rflags & RflagsBits.RF) != 0 || testCase.Responses.Any(LoadsResume);
        foreach (Event e in outcome.Events)
        {
            if (loaded)
            {
                return false;
            }

            bool resume = e.Frame.Length >= FrameLength && (BinaryPrimitives.ReadUInt64LittleEndian(e.Frame.AsSpan()[(e.Frame.Length - 24)..]) & RflagsBits.RF) != 0;
            bool trap = e is { Kind: EventKind.Trap, Vector: 1 or 3 or 4 or 0x80 } or { Kind: EventKind.SystemCall or EventKind.Upcall };
            if (trap && resume)
            {
                return true;
            }

            loaded = resume;
        }

        return false;
    }

    private static bool LoadsResume(Response response) => response.Patches.Any(patch => patch.Key == Register.Rflags && (patch.Value & RflagsBits.RF) != 0);

    /// <summary>True for the fetch from the end of user code.</summary>
    private static bool IsEnd(Event e, TestCase testCase) =>
        testCase.Start == GuestMode.User && e is { Entry: EntryPoint.XenTrap, Vector: PageFaultVector } && e.Cr2 == testCase.Code.End && (e.ErrorCode & FetchError) != 0 && FrameRip(e) == testCase.Code.End
        && (e.Frame[CodeWordPlace] & 3) == 3;

    private static SystemState ReadSystem(ulong vcpuInfo, ulong cr2) => SystemState.OfSorted(
    [
        new(SystemRegister.Cr2, cr2),
        new(SystemRegister.XenUpcallMask, (byte)(vcpuInfo >> 8)),
        new(SystemRegister.XenUpcallPending, (byte)vcpuInfo),
        new(SystemRegister.XenVcpuInfoPad, vcpuInfo >> 16),
    ]);

    private static RegisterState ReadRegisters(byte* context, ulong rip)
    {
        // SAFETY: a whole context is here.
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = *(ulong*)(context + Context.Gpr + (i * sizeof(ulong)));
        }

        return new RegisterState
        {
            Gpr = gpr,
            Rip = rip,
            Rflags = *(ulong*)(context + Context.Rflags),
            Cs = *(ushort*)(context + Context.Cs),
            Ss = *(ushort*)(context + Context.Ss),
            Ds = *(ushort*)(context + Context.Ds),
            Es = *(ushort*)(context + Context.Es),
            Fs = *(ushort*)(context + Context.Fs),
            Gs = *(ushort*)(context + Context.Gs),
            FsBase = *(ulong*)(context + Context.FsBase),
            GsBase = *(ulong*)(context + Context.GsBase),
        };
    }

    /// <summary>Compares final with initial contents of the pages that were written. They come in address order.</summary>
    private ImmutableArray<MemoryWord> DecodeMemory(LayoutMap map, byte* record, byte* item, byte* end)
    {
        _words.Clear();

        // SAFETY: items lie up to `end`. The first of a page has an odd offset; its words follow.
        while (item < end)
        {
            uint page = *(uint*)item & ~1u;
            if (!map.HasPageAt(page))
            {
                throw new QemuException(NoSense);
            }

            item += Result.WordSize;
            Array.Clear(_final);
            for (; item < end && (*(uint*)item & 1) == 0; item += Result.WordSize)
            {
                uint offset = *(uint*)item - page;
                _final[offset < PageLayout.PageSize ? offset / sizeof(ulong) : throw new QemuException(NoSense)] = *(ulong*)(item + 8);
            }

            ComparePage(record, page, map.AddressOf(page));
        }

        return ImmutableArray.Create(CollectionsMarshal.AsSpan(_words));
    }

    private void ComparePage(byte* record, uint offset, ulong address)
    {
        ReadInitial(record, offset);
        int first = 0;
        while (first < _final.Length)
        {
            first += _final.AsSpan(first).CommonPrefixLength(_initial.AsSpan(first));
            if (first < _final.Length)
            {
                ulong at = address + ((ulong)first * sizeof(ulong));
                _words.Add(new MemoryWord(at, AsReturned(at, _final.AsSpan(first))));
                first++;
            }
        }
    }

    /// <summary>Remembers a frame whose RCX may be the agent's, as the agent has recorded it. Another one at its place, of an event that went to code of the case, would have RCX of a later return.</summary>
    private void NoteFrame(ulong address, ulong rcx)
    {
        if (rcx == _returnsFrom)
        {
            _frames[address] = rcx;
        }
        else
        {
            _frames.Remove(address);
        }
    }

    /// <summary>A frame in memory shows where the agent called Xen to return, when the payload had not begun. It counts as called at an entry, as the agent records it (ADR 9).</summary>
    private ulong AsReturned(ulong at, ReadOnlySpan<ulong> words)
    {
        ulong value = words[0];
        bool isFrame = _frames.TryGetValue(at, out ulong shown);
        if (value == Returned)
        {
            // Of one that went to code of the case, the RIP tells which return it followed, as long as nothing was executed between.
            return isFrame || (words.Length > 2 && _returns.TryGetValue(words[2], out shown)) || (words.Length > 3 && _returns.TryGetValue(words[3], out shown)) ? shown : _returnsFrom;
        }

        // The payload may have written over a part of it since. Two of its lower bytes are enough to know it again.
        for (int bits = 48; isFrame && bits >= 16; bits -= 8)
        {
            ulong low = (1UL << bits) - 1;
            if (((value ^ Returned) & low) == 0)
            {
                return (value & ~low) | (shown & low);
            }
        }

        return value;
    }

    private void ReadInitial(byte* record, uint page)
    {
        Array.Clear(_initial);

        // SAFETY: the runs of the record were written by CaseEncoder. No run crosses a page.
        byte* run = record + *(uint*)(record + Record.RunsAt);
        for (int left = *(int*)(record + Record.Runs); left > 0; left--)
        {
            uint offset = *(uint*)run;
            int length = *(int*)(run + 4);
            if (offset - page < PageLayout.PageSize)
            {
                new ReadOnlySpan<ulong>(run + Record.RunHead, length).CopyTo(_initial.AsSpan((int)(offset - page) / sizeof(ulong)));
            }

            run += Record.RunHead + (length * sizeof(ulong));
        }
    }
}
