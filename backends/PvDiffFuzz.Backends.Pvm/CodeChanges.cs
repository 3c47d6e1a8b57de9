using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Collects which bytes of a guest that may be executed have changed, for hosts that have to be told.</summary>
/// <param name="memory">The guest's memory.</param>
/// <param name="pages">The pages of the case.</param>
internal sealed class CodeChanges(GuestMemory memory, CasePages pages)
{
    /// <summary>Ranges that are no farther apart are told as one.</summary>
    private const int Near = 64;

    private readonly List<(int Offset, int Length)> _ranges = [];

    /// <summary>Code and contents of a case were written or cleared.</summary>
    public void Changed(TestCase testCase)
    {
        if (!memory.WantsToBeTold)
        {
            return;
        }

        Changed(testCase.Code.Address, testCase.Code.Bytes.Length + AgentCode.LeaveLength);
        foreach (MemoryContents contents in testCase.Contents)
        {
            Changed(contents.Address, contents.Bytes.Length);
        }
    }

    /// <summary>Words that the guest wrote were cleared.</summary>
    public void Changed(ReadOnlySpan<MemoryWord> words)
    {
        if (memory.WantsToBeTold)
        {
            foreach (MemoryWord word in words)
            {
                Changed(word.Address, sizeof(ulong));
            }
        }
    }

    /// <summary>Every page of the case that can be executed was cleared.</summary>
    public void ChangedEverywhere()
    {
        for (int i = 0; memory.WantsToBeTold && i < pages.Count; i++)
        {
            Changed(pages.AddressOf(i), PageLayout.PageSize);
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
        (int first, int end) = (_ranges[0].Offset, _ranges[0].Offset);
        foreach ((int offset, int length) in _ranges)
        {
            if (offset > end + Near)
            {
                memory.Written(first, end - first);
                first = offset;
            }

            end = Math.Max(end, offset + length);
        }

        memory.Written(first, end - first);
        _ranges.Clear();
    }

    private void Changed(ulong address, int length)
    {
        while (length > 0)
        {
            int piece = Math.Min(length, PageLayout.PageSize - (int)(address & 0xfff));
            if (pages.IsExecutable(address) && pages.IndexOf(address) is int index and >= 0)
            {
                _ranges.Add((GuestMap.Pool + (index * PageLayout.PageSize) + (int)(address & 0xfff), piece));
            }

            address += (ulong)piece;
            length -= piece;
        }
    }
}
