using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Puts the contents of a case into the pool, and takes out what the guest changed. The pool is zero before and afterwards.</summary>
internal ref struct CaseMemory
{
    private static readonly byte[] Stub = AgentCode.Leave(AgentPort.End);

    private readonly Span<byte> _pool;
    private readonly CasePages _pages;

    /// <summary>Works on a pool.</summary>
    /// <param name="pool">The pages, in the order of <paramref name="pages"/>.</param>
    /// <param name="pages">Where they are in the guest.</param>
    public CaseMemory(Span<byte> pool, CasePages pages)
    {
        _pool = pool;
        _pages = pages;
    }

    /// <summary>Writes code, the stub behind supervisor code, and contents.</summary>
    public readonly void Load(TestCase testCase)
    {
        Write(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
        if (testCase.Start == GuestMode.Supervisor)
        {
            Write(testCase.Code.End, Stub);
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            Write(contents.Address, contents.Bytes.AsSpan());
        }
    }

    /// <summary>Clears everything; for cases whose outcome has no memory.</summary>
    public readonly void Clear(TestCase testCase)
    {
        _pool[..(_pages.Writable * PageLayout.PageSize)].Clear();
        ClearContents(testCase);
    }

    /// <summary>The words that differ from the initial ones, in address order; everything is cleared.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="stubIntact">False when the guest has changed the stub behind supervisor code.</param>
    public readonly ImmutableArray<MemoryWord> Unload(TestCase testCase, out bool stubIntact)
    {
        stubIntact = true;
        if (testCase.Start == GuestMode.Supervisor)
        {
            for (int i = 0; i < Stub.Length; i++)
            {
                ref byte at = ref At(testCase.Code.End + (ulong)i);
                stubIntact &= at == Stub[i];
                at = 0;
            }
        }

        // What is there now less what was there at first: words that are not zero have changed.
        Subtract(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
        foreach (MemoryContents contents in testCase.Contents)
        {
            Subtract(contents.Address, contents.Bytes.AsSpan());
        }

        List<MemoryWord> words = [];
        Span<ulong> differences = MemoryMarshal.Cast<byte, ulong>(_pool[..(_pages.Writable * PageLayout.PageSize)]);
        for (int first = 0; ;)
        {
            int skipped = differences[first..].IndexOfAnyExcept(0UL);
            if (skipped < 0)
            {
                break;
            }

            first += skipped;
            words.Add(new MemoryWord(_pages.AddressOf(first >> 9) + ((ulong)(first & 0x1ff) * sizeof(ulong)), differences[first]));
            differences[first] = 0;
        }

        Restore(words, testCase);
        words.Sort((a, b) => a.Address.CompareTo(b.Address));
        return ImmutableArray.Create(CollectionsMarshal.AsSpan(words));
    }

    /// <summary>Makes final values of differences: an exclusive or with the initial bytes.</summary>
    private static void Restore(List<MemoryWord> words, TestCase testCase)
    {
        Span<MemoryWord> all = CollectionsMarshal.AsSpan(words);
        for (int i = 0; i < all.Length; i++)
        {
            ulong initial = InitialWord(testCase.Code.Address, testCase.Code.Bytes.AsSpan(), all[i].Address);
            foreach (MemoryContents contents in testCase.Contents)
            {
                initial |= InitialWord(contents.Address, contents.Bytes.AsSpan(), all[i].Address);
            }

            all[i] = all[i] with { Value = all[i].Value ^ initial };
        }
    }

    /// <summary>The part of a word that a run of bytes covers; zero elsewhere.</summary>
    private static ulong InitialWord(ulong address, ReadOnlySpan<byte> bytes, ulong word)
    {
        if (word + 7 < address || word >= address + (ulong)bytes.Length)
        {
            return 0;
        }

        ulong value = 0;
        for (int i = 0; i < sizeof(ulong); i++)
        {
            ulong at = word + (ulong)i - address;
            value |= at < (ulong)bytes.Length ? (ulong)bytes[(int)at] << (8 * i) : 0;
        }

        return value;
    }

    private readonly void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            Span<byte> page = Rest(address);
            int length = Math.Min(page.Length, bytes.Length);
            bytes[..length].CopyTo(page);
            bytes = bytes[length..];
            address += (ulong)length;
        }
    }

    private readonly void Subtract(ulong address, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            Span<byte> page = Rest(address);
            int length = Math.Min(page.Length, bytes.Length);
            if (page[..length].SequenceEqual(bytes[..length]))
            {
                page[..length].Clear();
            }
            else
            {
                for (int i = 0; i < length; i++)
                {
                    page[i] ^= bytes[i];
                }
            }

            bytes = bytes[length..];
            address += (ulong)length;
        }
    }

    private readonly void ClearContents(TestCase testCase)
    {
        ClearRun(testCase.Code.Address, testCase.Code.Bytes.Length + (testCase.Start == GuestMode.Supervisor ? AgentCode.LeaveLength : 0));
        foreach (MemoryContents contents in testCase.Contents)
        {
            ClearRun(contents.Address, contents.Bytes.Length);
        }
    }

    private readonly void ClearRun(ulong address, int length)
    {
        while (length > 0)
        {
            Span<byte> page = Rest(address);
            int piece = Math.Min(page.Length, length);
            page[..piece].Clear();
            address += (ulong)piece;
            length -= piece;
        }
    }

    /// <summary>From an address to the end of its page.</summary>
    private readonly Span<byte> Rest(ulong address)
    {
        int index = _pages.IndexOf(address);
        int offset = (int)(address & 0xfff);
        return index >= 0
            ? _pool.Slice((index * PageLayout.PageSize) + offset, PageLayout.PageSize - offset)
            : throw new InvalidOperationException($"{address:x}: no page of the case; the case was not checked");
    }

    private readonly ref byte At(ulong address) => ref Rest(address)[0];
}
