using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Finds the bytes in which the final memories of two outcomes differ.</summary>
/// <remarks>
/// A frame on the guest's stack is memory, too. It was compared by its parts, so what is still there of it is left out here: a wrong flag in a frame has one name, and what is undefined in
/// a register is undefined in the frame's copy of it.
/// </remarks>
internal static class MemoryDiff
{
    /// <summary>Linear addresses of the differing bytes, ascending, frames left out.</summary>
    public static List<ulong> Bytes(TestCase testCase, Outcome a, Outcome b)
    {
        List<ulong> bytes = DifferingBytes(testCase, a, b);
        if (testCase.Abi != Abi.X86 && bytes.Count > 0)
        {
            Frames ofA = new(testCase, a);
            Frames ofB = new(testCase, b);
            bytes.RemoveAll(at => ofA.Hold(at) ? ofB.Hold(at) || (!ofB.Cover(at) && ofB.IsInitial(at)) : ofB.Hold(at) && !ofA.Cover(at) && ofA.IsInitial(at));
        }

        return bytes;
    }

    /// <summary>The bits that differ in any of the quadwords in which <see cref="Bytes"/> finds something; 0 when nothing differs.</summary>
    public static ulong Bits(TestCase testCase, Outcome a, Outcome b)
    {
        SortedDictionary<ulong, ulong> words = DifferingWords(testCase, a, b);
        return Bytes(testCase, a, b).Aggregate(0UL, (bits, at) => bits | (words[at & ~7UL] & (0xffUL << (8 * (int)(at & 7)))));
    }

    /// <summary>Aligned quadwords that an outcome says something of, with the bits in which they differ.</summary>
    public static SortedDictionary<ulong, ulong> DifferingWords(TestCase testCase, Outcome a, Outcome b)
    {
        SortedDictionary<ulong, ulong> words = [];
        foreach (MemoryWord word in a.Memory)
        {
            words[word.Address] = word.Value ^ testCase.InitialWord(word.Address);
        }

        foreach (MemoryWord word in b.Memory)
        {
            words[word.Address] = words.GetValueOrDefault(word.Address) ^ word.Value ^ testCase.InitialWord(word.Address);
        }

        return words;
    }

    private static List<ulong> DifferingBytes(TestCase testCase, Outcome a, Outcome b)
    {
        List<ulong> bytes = [];
        foreach ((ulong address, ulong value) in DifferingWords(testCase, a, b))
        {
            // What only one side could look at says nothing.
            ulong differing = value & MemoryRange.BitsOf(a.Seen.AsSpan(), address) & MemoryRange.BitsOf(b.Seen.AsSpan(), address);
            for (int i = 0; i < sizeof(ulong); i++)
            {
                if ((byte)(differing >> (8 * i)) != 0)
                {
                    bytes.Add(address + (ulong)i);
                }
            }
        }

        return bytes;
    }

    /// <summary>Where the frames of an outcome lay, and where they still lie.</summary>
    private sealed class Frames
    {
        private readonly TestCase _testCase;
        private readonly Dictionary<ulong, ulong> _words;
        private readonly HashSet<ulong> _covered = [];
        private readonly HashSet<ulong> _held = [];

        public Frames(TestCase testCase, Outcome outcome)
        {
            _testCase = testCase;
            _words = outcome.Memory.ToDictionary(word => word.Address, word => word.Value);
            foreach (Event e in outcome.Events.Where(e => Interrupted.IsOnStack(testCase.Abi, e)))
            {
                ulong at = e.Registers[Register.Rsp];
                foreach (byte b in e.Frame)
                {
                    _covered.Add(at);
                    if (ByteAt(at) == b)
                    {
                        _held.Add(at);
                    }

                    at++;
                }
            }
        }

        /// <summary>True where a byte of a frame is still as it was delivered.</summary>
        public bool Hold(ulong address) => _held.Contains(address);

        /// <summary>True where any frame lay.</summary>
        public bool Cover(ulong address) => _covered.Contains(address);

        /// <summary>True where memory is as at the start of the case.</summary>
        public bool IsInitial(ulong address) => ByteAt(address) == (byte)(_testCase.InitialWord(address & ~7UL) >> (int)(8 * (address & 7)));

        private byte ByteAt(ulong address)
        {
            ulong word = _words.TryGetValue(address & ~7UL, out ulong changed) ? changed : _testCase.InitialWord(address & ~7UL);
            return (byte)(word >> (int)(8 * (address & 7)));
        }
    }
}
