using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Collects which bytes of a guest that may be executed have changed, for hosts that have to be told.</summary>
/// <remarks>What a host was told last is kept: bytes that are as they were, such as code that many cases have in common, keep their translation.</remarks>
/// <param name="memory">The guest's memory.</param>
/// <param name="pages">The pages of the case.</param>
internal sealed unsafe class CodeChanges(GuestMemory memory, CasePages pages)
{
    /// <summary>Ranges that are no farther apart are told as one.</summary>
    private const int Near = 64;

    // SAFETY: offsets are below GuestMap.Size, the length of the memory.
    private readonly byte[] _told = memory.WantsToBeTold ? new byte[pages.Count * PageLayout.PageSize] : [];
    private readonly List<(int Offset, int Length, bool Certainly)> _ranges = [];

    /// <summary>Code and contents of a case were written or cleared.</summary>
    public void Changed(TestCase testCase)
    {
        if (!memory.WantsToBeTold)
        {
            return;
        }

        Changed(testCase.Code.Address, testCase.Code.Bytes.Length + AgentCode.PadLength, certainly: false);
        foreach (MemoryContents contents in testCase.Contents)
        {
            Changed(contents.Address, contents.Bytes.Length, certainly: false);
        }
    }

    /// <summary>Words that the guest wrote were cleared.</summary>
    public void Changed(ReadOnlySpan<MemoryWord> words)
    {
        if (memory.WantsToBeTold)
        {
            foreach (MemoryWord word in words)
            {
                Changed(word.Address, sizeof(ulong), certainly: true);
            }
        }
    }

    /// <summary>Every page of the case that can be executed was cleared.</summary>
    public void ChangedEverywhere()
    {
        for (int i = 0; memory.WantsToBeTold && i < pages.Count; i++)
        {
            Changed(pages.AddressOf(i), PageLayout.PageSize, certainly: true);
        }
    }

    /// <summary>Bytes at a guest-physical address were written.</summary>
    public void ChangedAt(int physical, int length)
    {
        if (memory.WantsToBeTold)
        {
            _ranges.Add((physical, length, true));
        }
    }

    /// <summary>Tells, before the guest runs.</summary>
    public void Tell()
    {
        if (_ranges.Count == 0)
        {
            return;
        }

        _ranges.Sort();
        (int first, int end, bool certainly) = (_ranges[0].Offset, _ranges[0].Offset, false);
        foreach ((int offset, int length, bool certain) in _ranges)
        {
            if (offset > end + Near)
            {
                Tell(first, end, certainly);
                (first, certainly) = (offset, false);
            }

            end = Math.Max(end, offset + length);
            certainly |= certain;
        }

        Tell(first, end, certainly);
        _ranges.Clear();
    }

    /// <summary>Tells of a range, or of that part of it which is not as it was told last.</summary>
    private void Tell(int first, int end, bool certainly)
    {
        int start = first - GuestMap.Pool;
        if (start < 0 || start + end - first > _told.Length)
        {
            memory.Written(first, end - first);
            return;
        }

        ReadOnlySpan<byte> now = new(memory.Start + first, end - first);
        Span<byte> then = _told.AsSpan(start, now.Length);
        int same = certainly ? 0 : now.CommonPrefixLength(then);
        int length = now.Length - same;
        while (!certainly && length > 0 && now[same + length - 1] == then[same + length - 1])
        {
            length--;
        }

        if (length > 0)
        {
            memory.Written(first + same, length);
            now.CopyTo(then);
        }
    }

    private void Changed(ulong address, int length, bool certainly)
    {
        while (length > 0)
        {
            int piece = Math.Min(length, PageLayout.PageSize - (int)(address & 0xfff));
            if (pages.IsExecutable(address) && pages.IndexOf(address) is int index and >= 0)
            {
                _ranges.Add((GuestMap.Pool + (index * PageLayout.PageSize) + (int)(address & 0xfff), piece, certainly));
            }

            address += (ulong)piece;
            length -= piece;
        }
    }
}
