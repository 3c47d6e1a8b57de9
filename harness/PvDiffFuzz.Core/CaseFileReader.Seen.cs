namespace PvDiffFuzz.Core;

/// <content>Where a target could look at memory.</content>
internal sealed partial class CaseFileReader
{
    /// <summary>Reads words such as <c>22f08*64</c>: an address, and how many bytes from there.</summary>
    private static void TakeSeen(CaseFileLine line, RecordedBuilder outcome)
    {
        string[] words = line.Words;
        if (words.Length == 0)
        {
            throw line.Wrong("`seen` without a range", "write ranges as in `seen     22f08*64`, or leave the line out where all memory was seen");
        }

        foreach (string word in words)
        {
            int star = word.IndexOf('*', StringComparison.Ordinal);
            if (star < 0 || outcome.Ranges.Count == TestCase.MaximumPages)
            {
                throw line.Wrong($"{CaseFileText.Quote(word)} is no range, or one too many", $"write address and number of bytes, as in `22f08*64`, at most {TestCase.MaximumPages} of them");
            }

            outcome.Ranges.Add(new MemoryRange(line.Hex(word[..star], "address"), line.Count(word[(star + 1)..], "bytes", 1, TestCase.MaximumContents)));
        }
    }
}
