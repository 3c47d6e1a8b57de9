using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;
using Tmds.Linux;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Reads results of the agent as outcomes.</summary>
internal sealed unsafe class OutcomeDecoder
{
    /// <summary>The detail of a case that the harness stopped.</summary>
    public const string TimeLimit = "5 ms of processor time";

    /// <summary>Vectors that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.</summary>
    private const uint PushErrorCode =
        (1u << 8) | (1u << 10) | (1u << 11) | (1u << 12) | (1u << 13) | (1u << 14) | (1u << 17) | (1u << 21) | (1u << 29) | (1u << 30);

    private readonly List<MemoryWord> _words = [];

    /// <summary>Reads one result.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="map">Its layout.</param>
    /// <param name="record">The case as it was encoded.</param>
    /// <param name="result">The result.</param>
    /// <param name="end">The first byte after it.</param>
    public Outcome Decode(TestCase testCase, LayoutMap map, byte* record, byte* result, byte* end)
    {
        // SAFETY: the agent wrote `Events` contexts and then pairs of words up to `end`.
        int count = *(int*)(result + Result.Events);
        uint status = *(uint*)(result + Result.Status);
        byte* context = result + Result.HeaderSize;
        byte* words = context + (count * Context.Size);
        if (status == Result.Stopped)
        {
            return Outcome.BudgetSpent(TimeLimit);
        }

        if (status == Result.Refused)
        {
            byte* last = words - Context.Size;
            ulong vector = *(ulong*)(last + Context.Trap);
            uint error = *(uint*)(last + Context.Error);
            return Outcome.Unsupported($"the processor refuses to enter user mode with these registers (vector {vector}, error code {error:x})");
        }

        Event[] events = new Event[count];
        for (int i = 0; i < count; i++)
        {
            if (DecodeEvent(context, out string? trouble) is not Event decoded)
            {
                return Outcome.Unsupported(trouble!);
            }

            events[i] = decoded;
            context += Context.Size;
        }

        Event final = events[^1];
        bool fetch = final is { Vector: 14, Entry: EntryPoint.Idt } && (final.ErrorCode & 0x10) != 0 && final.Cr2 == final.Registers.Rip;
        bool atEnd = fetch && final.Cr2 == testCase.Code.End;
        return new Outcome
        {
            End = atEnd ? EndKind.ReachedEnd : EndKind.Event,
            Events = ImmutableCollectionsMarshal.AsImmutableArray(events),
            Registers = final.Registers,
            Memory = DecodeMemory(map, record, words, end),
        };
    }

    private static Event? DecodeEvent(byte* context, out string? trouble)
    {
        trouble = null;

        // SAFETY: a whole context is here.
        int signal = *(int*)(context + Context.Signal);
        RegisterState registers = ReadRegisters(context);
        if (signal == LibC.SIGSYS)
        {
            // Trap number and error code of such a frame are left over from an earlier event.
            uint architecture = *(uint*)(context + Context.Architecture);
            return architecture == LinuxAbi.AUDIT_ARCH_X86_64
                ? new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, registers)
                : new Event(EventKind.Trap, 0x80, null, null, EntryPoint.Idt, registers);
        }

        ulong vector = *(ulong*)(context + Context.Trap);
        if (vector > 31)
        {
            trouble = $"signal {signal} with trap number {vector} is no exception";
            return null;
        }

        uint? errorCode = ((PushErrorCode >> (int)vector) & 1) != 0 ? *(uint*)(context + Context.Error) : null;
        ulong? cr2 = vector == 14 ? *(ulong*)(context + Context.Cr2) : null;
        return new Event(Event.KindOf((byte)vector), (byte)vector, errorCode, cr2, EntryPoint.Idt, registers);
    }

    private static RegisterState ReadRegisters(byte* context)
    {
        // SAFETY: a whole context is here.
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = *(ulong*)(context + Context.Layout.Gpr[i]);
        }

        return new RegisterState
        {
            Gpr = gpr,
            Rip = *(ulong*)(context + Context.Rip),
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

    /// <summary>Compares final with initial contents: both lists are in address order and leave out zeros.</summary>
    private ImmutableArray<MemoryWord> DecodeMemory(LayoutMap map, byte* record, byte* words, byte* end)
    {
        _words.Clear();

        // SAFETY: the runs of the record were written by CaseEncoder; the words end at `end`.
        byte* run = record + Record.FirstRun(Context.Layout);
        for (uint left = *(uint*)(record + Record.Runs(Context.Layout)); left > 0; left--)
        {
            uint offset = *(uint*)run;
            uint length = *(uint*)(run + 4) & ~Record.ReadOnlyRun;
            bool writable = (*(uint*)(run + 4) & Record.ReadOnlyRun) == 0;
            ulong* initial = (ulong*)(run + 8);
            run += 8 + (length * 8);
            for (uint i = 0; writable && i < length; i++, offset += 8)
            {
                for (; words < end && *(ulong*)words < offset; words += 16)
                {
                    Add(map, words);
                }

                if (words < end && *(ulong*)words == offset)
                {
                    if (*(ulong*)(words + 8) != initial[i])
                    {
                        Add(map, words);
                    }

                    words += 16;
                }
                else if (initial[i] != 0)
                {
                    _words.Add(new MemoryWord(map.AddressOf(offset), 0));
                }
            }
        }

        for (; words < end; words += 16)
        {
            Add(map, words);
        }

        return ImmutableArray.Create(CollectionsMarshal.AsSpan(_words));
    }

    private void Add(LayoutMap map, byte* word)
    {
        // SAFETY: a pair of pool offset and value.
        _words.Add(new MemoryWord(map.AddressOf(*(uint*)word), *(ulong*)(word + 8)));
    }
}
