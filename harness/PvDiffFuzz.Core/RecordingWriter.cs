using System.Text;

namespace PvDiffFuzz.Core;

/// <summary>Writes the canonical text of a recording, case by case, so that a long one need not fit into memory.</summary>
/// <remarks>Without <see cref="Finish"/> the text is not a recording, and no reader takes it for one.</remarks>
public sealed class RecordingWriter
{
    private readonly Stream _stream;
    private readonly Recording _head;
    private readonly HashSet<TestCase> _seen = new(CaseComparer.Instance);

    /// <summary>Writes the head.</summary>
    /// <param name="stream">Receives UTF-8; owned by the caller.</param>
    /// <param name="head">Comment, host and targets; its cases are not written.</param>
    /// <exception cref="InvalidOperationException">The head cannot be stored.</exception>
    /// <exception cref="IOException">The stream failed.</exception>
    public RecordingWriter(Stream stream, Recording head)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(head);
        if (head.CheckHead() is CaseProblem problem)
        {
            throw new InvalidOperationException($"this recording cannot be stored: {problem.Field}: {problem.Message}");
        }

        (_stream, _head) = (stream, head);
        Put(CaseFileWriter.WriteHead(head));
    }

    /// <summary>Number of cases so far.</summary>
    public int Count => _seen.Count;

    /// <summary>Writes a case.</summary>
    /// <param name="file">One outcome for each target of the head, in that order. Its verdict, if any, is about other outcomes and is left out.</param>
    /// <returns>False when the same input was written before; nothing is written then.</returns>
    /// <exception cref="InvalidOperationException">The case cannot be stored, or its outcomes are not those of the targets.</exception>
    /// <exception cref="IOException">The stream failed.</exception>
    public bool Add(CaseFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (!file.Outcomes.Select(o => new RecordedSource(o.Target, o.Kind, o.Lineage, o.Fingerprint)).SequenceEqual(_head.Targets))
        {
            throw new InvalidOperationException($"the outcomes of case {file.Id} are not those of the targets of the recording");
        }

        if (_seen.Count == Recording.MaximumCases)
        {
            throw new InvalidOperationException($"a recording has at most {Recording.MaximumCases} cases");
        }

        // The head states the facts once for all.
        string text = (file with { Verdict = null, Outcomes = [.. file.Outcomes.Select(o => o with { Fingerprint = Fingerprint.Empty })] }).Write();
        if (!_seen.Add(file.Case))
        {
            return false;
        }

        Put("\n");
        Put(text);
        return true;
    }

    /// <summary>Writes the end, with the number of cases.</summary>
    /// <param name="planned">How many cases were to be recorded, at least <see cref="Count"/>.</param>
    /// <exception cref="IOException">The stream failed.</exception>
    public void Finish(int planned)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(planned, Count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(planned, Recording.MaximumCases);
        Put(CaseFileWriter.WriteFoot(Count, planned));
    }

    private void Put(string text) => _stream.Write(Encoding.UTF8.GetBytes(text));
}
