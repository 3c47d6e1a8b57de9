using System.Buffers.Binary;
using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <content>What memory holds at the start.</content>
public sealed partial record TestCase
{
    /// <summary>The quadword at an address before the case runs: code, contents, and zero where neither says anything.</summary>
    /// <param name="address">Linear address of its first byte.</param>
    public ulong InitialWord(ulong address)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        word.Clear();
        Copy(Code.Address, Code.Bytes, address, word);
        foreach (MemoryContents contents in Contents)
        {
            Copy(contents.Address, contents.Bytes, address, word);
        }

        return BinaryPrimitives.ReadUInt64LittleEndian(word);
    }

    private static void Copy(ulong from, ImmutableArray<byte> bytes, ulong to, Span<byte> word)
    {
        for (int i = 0; i < word.Length; i++)
        {
            ulong offset = to + (ulong)i - from;
            if (offset < (ulong)bytes.Length)
            {
                word[i] = bytes[(int)offset];
            }
        }
    }
}
