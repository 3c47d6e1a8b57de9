using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Reads results as outcomes.</summary>
/// <typeparam name="TEvents">Reads the events.</typeparam>
internal sealed unsafe class OutcomeDecoder<TEvents>
    where TEvents : struct, IEventReader
{
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
        int size = TEvents.Layout.Size;
        byte* words = context + (count * size);
        if (status == Result.Stopped)
        {
            return Outcome.BudgetSpent(TEvents.TimeLimit);
        }

        if (status == Result.Refused)
        {
            return Outcome.Unsupported($"the processor refuses to enter user mode with these registers ({TEvents.DescribeRefusal(words - size)})");
        }

        Event[] events = new Event[count];
        for (int i = 0; i < count; i++)
        {
            if (TEvents.Read(context, TEvents.Layout.Read(context), out Outcome? trouble) is not Event decoded)
            {
                return trouble!;
            }

            events[i] = decoded;
            context += size;
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

    /// <summary>Compares final with initial contents: both lists are in address order and leave out zeros.</summary>
    private ImmutableArray<MemoryWord> DecodeMemory(LayoutMap map, byte* record, byte* words, byte* end)
    {
        _words.Clear();

        // SAFETY: the runs of the record were written by CaseEncoder; the words end at `end`.
        byte* run = record + Record.FirstRun(TEvents.Layout);
        for (uint left = *(uint*)(record + Record.Runs(TEvents.Layout)); left > 0; left--)
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
