using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents.Tests;

/// <summary>An agent of a few lines: it loads a record into a pool, makes stores in the place of a payload, and writes the result.</summary>
internal sealed unsafe class Machine
{
    private ulong[] _pool = [];

    /// <summary>Contexts as a backend might have them: general registers backwards, then the rest.</summary>
    public static ContextLayout Layout { get; } = new()
    {
        Gpr = [.. Enumerable.Range(0, GprFile.Count).Select(i => (GprFile.Count - 1 - i) * sizeof(ulong))],
        Rip = 128,
        Cs = 136,
        Rflags = 144,
        Ss = 152,
        FrameSelectorWidth = 8,
        Segments = 160,
        SizeOfInput = 184,
        Size = 184,
    };

    /// <summary>Encodes a case, runs it, decodes the outcome. Its one event is the fetch at the end of the code.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="stores">Aligned quadwords that the payload writes to writable pages.</param>
    public Outcome Run(TestCase testCase, IEnumerable<KeyValuePair<ulong, ulong>> stores)
    {
        LayoutMap map = LayoutMap.Create(testCase.Layout);
        _pool = new ulong[testCase.Layout.Ranges.Where(r => r.Access != PageAccess.None).Sum(r => r.Pages) * PageLayout.PageSize / sizeof(ulong)];
        byte[] request = new byte[CaseEncoder.Bound(testCase, Layout)];
        byte[] results = new byte[Result.Bound(map, Layout)];

        // SAFETY: both arrays have the size that the encoder and the layout ask for, and stay where they are while they are used.
        fixed (byte* record = request, result = results)
        {
            request.AsSpan().Fill(0xaa);
            byte* end = CaseEncoder.Encode(testCase, map, Layout, record);
            Assert.InRange(end - record, 0, request.Length);
            Assert.Equal(end - record, *(uint*)(record + Record.Length));
            Load(record, clearReadOnly: false);
            foreach ((ulong address, ulong value) in stores)
            {
                LayoutMap.Range range = map.Find(address)!.Value;
                Assert.True(range.Writable);
                _pool[(range.PoolOffset + (address - range.First)) / sizeof(ulong)] = value;
            }

            *(int*)(result + Result.Events) = 1;
            byte* at = result + Result.HeaderSize;
            Layout.Write(testCase.Registers with { Rip = testCase.Code.End }, at);
            at += Layout.Size;
            Load(record, clearReadOnly: true);
            for (int i = 0; i < map.WritablePages * PageLayout.PageSize / sizeof(ulong); i++)
            {
                if (_pool[i] != 0)
                {
                    ((ulong*)at)[0] = (ulong)i * sizeof(ulong);
                    ((ulong*)at)[1] = _pool[i];
                    _pool[i] = 0;
                    at += 2 * sizeof(ulong);
                }
            }

            Assert.False(_pool.AsSpan().ContainsAnyExcept(0UL));
            return new OutcomeDecoder<FetchAtEnd>().Decode(testCase, map, record, result, at);
        }
    }

    /// <summary>Writes the runs of a record to the pool, or zeros where the payload could not write.</summary>
    private void Load(byte* record, bool clearReadOnly)
    {
        // SAFETY: the runs lie in the record, as the encoder wrote it.
        byte* run = record + Record.FirstRun(Layout);
        for (uint left = *(uint*)(record + Record.Runs(Layout)); left > 0; left--)
        {
            uint offset = *(uint*)run;
            uint length = *(uint*)(run + 4) & ~Record.ReadOnlyRun;
            bool readOnly = (*(uint*)(run + 4) & Record.ReadOnlyRun) != 0;
            Span<ulong> words = _pool.AsSpan((int)(offset / sizeof(ulong)), (int)length);
            if (!clearReadOnly)
            {
                new ReadOnlySpan<ulong>(run + 8, words.Length).CopyTo(words);
            }
            else if (readOnly)
            {
                words.Clear();
            }

            run += 8 + (length * sizeof(ulong));
        }

        Assert.Equal(run - record, *(uint*)(record + Record.ResponsesAt(Layout)));
    }

    private readonly struct FetchAtEnd : IEventReader
    {
        public static ContextLayout Layout => Machine.Layout;

        public static string TimeLimit => "no limit";

        public static Event? Read(byte* context, RegisterState registers, out Outcome? trouble)
        {
            trouble = null;
            return new Event(EventKind.Fault, 14, 0x14, registers.Rip, EntryPoint.Idt, registers);
        }

        public static string DescribeRefusal(byte* context) => "never";
    }
}
