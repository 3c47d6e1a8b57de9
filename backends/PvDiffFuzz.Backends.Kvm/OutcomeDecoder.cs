using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Reads results as outcomes, whether the agent wrote them or <see cref="SingleRun"/>.</summary>
internal sealed unsafe class OutcomeDecoder
{
    /// <summary>The detail of a case that the harness stopped.</summary>
    public static readonly string TimeLimit = $"{RunTimer.LongestRun / 1_000_000} ms of processor time";

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
            int vector = *(int*)(last + Context.Vector);
            return Outcome.Unsupported($"the processor refuses to enter user mode with these registers (vector {vector})");
        }

        Event[] events = new Event[count];
        for (int i = 0; i < count; i++)
        {
            if (DecodeEvent(context, out string? trouble) is not Event decoded)
            {
                return Outcome.HarnessError(trouble!);
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
        // SAFETY: a whole context is here.
        trouble = null;
        uint word = *(uint*)(context + Context.Vector);
        ulong below = *(ulong*)(context + Context.Below);
        ulong extra = *(ulong*)(context + Context.Extra);
        if ((*(ulong*)(context + Context.Cs) | *(ulong*)(context + Context.Ss)) > ushort.MaxValue)
        {
            trouble = $"the frame of vector {word & 0xff} has a selector of more than 16 bits";
            return null;
        }

        RegisterState registers = ReadRegisters(context);
        if ((word & 0xffff) == GuestMap.SyscallVector)
        {
            // Where SYSCALL does not raise the privilege, the payload just goes on at the entry, and that is what the guest sees.
            bool entered = (below & 3) == 0;
            return new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, entered ? registers : registers with { Rip = GuestMap.Landing });
        }

        byte vector = (byte)word;
        bool pushed = (word & SingleRun.FrameSizeKnown) != 0 ? (word & SingleRun.ErrorCodePushed) != 0 : vector < 32 && ((PushErrorCode >> vector) & 1) != 0;
        return new Event(Event.KindOf(vector), vector, pushed ? (uint)below : null, vector == 14 ? extra : null, EntryPoint.Idt, registers);
    }

    private static RegisterState ReadRegisters(byte* context)
    {
        // SAFETY: a whole context is here.
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = *(ulong*)(context + Context.GprAt(i));
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
