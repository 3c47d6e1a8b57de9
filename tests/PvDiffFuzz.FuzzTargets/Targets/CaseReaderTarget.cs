using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>The reader of case files takes any bytes: it gives a case that it writes back and reads again the same, or an error with a line.</summary>
/// <param name="write">Writes a case file.</param>
internal sealed class CaseReaderTarget(Func<CaseFile, string> write) : FuzzTarget
{
    /// <summary>Takes the reader and the writer.</summary>
    public CaseReaderTarget()
        : this(file => file.Write())
    {
    }

    /// <inheritdoc/>
    public override void Run(byte[] input)
    {
        if (Read(input, lenient: false) is CaseFile strict && !Text(strict).AsSpan().SequenceEqual(input))
        {
            throw new BrokenPromiseException("a file in canonical form is not written as it was read");
        }

        if (Read(input, lenient: true) is CaseFile file && (Read(Text(file), lenient: false) is not CaseFile again || !again.Equals(file)))
        {
            throw new BrokenPromiseException("a file is not read again as it was written");
        }
    }

    private byte[] Text(CaseFile file) => Encoding.UTF8.GetBytes(write(file));

    private static CaseFile? Read(byte[] text, bool lenient)
    {
        try
        {
            return CaseFile.Parse(text, "input", lenient);
        }
        catch (CaseFileException trouble)
        {
            return trouble.Line >= 1 ? null : throw new BrokenPromiseException($"an error without a line: {trouble.Message}");
        }
    }
}
