using System.Collections.Immutable;
using System.Text;

namespace PvDiffFuzz.Core;

/// <summary>What one target answered when the case was stored.</summary>
/// <param name="Target">Name of the target, such as <c>model.x86</c>.</param>
/// <param name="Kind">What executed.</param>
/// <param name="Lineage">Targets of one lineage count as one vote.</param>
/// <param name="Fingerprint">Facts that identify what ran; no name occurs twice.</param>
/// <param name="Outcome">The answer.</param>
public sealed record RecordedOutcome(string Target, TargetKind Kind, string Lineage, Fingerprint Fingerprint, Outcome Outcome);

/// <summary>A stored case: the input, why it is kept, and what targets answered. One text file each; docs/case-format.md is the reference.</summary>
/// <remarks>
/// Every case file has one canonical text. <see cref="Parse(ReadOnlySpan{byte}, string)"/> accepts nothing else, so <see cref="Write"/> gives back the very bytes
/// that were read. The lenient forms accept other spacing, order and number forms, for people who write by hand; writing normalises them.
/// </remarks>
public sealed partial record CaseFile
{
    /// <summary>Version of the format, in the first line after the comment.</summary>
    public const int FormatVersion = 1;

    /// <summary>Most bytes in a file. A longer one is refused before more than this is read.</summary>
    public const int MaximumBytes = 1 << 20;

    /// <summary>Most outcomes in a file.</summary>
    public const int MaximumOutcomes = 256;

    /// <summary>Most bytes in a line, without its line break.</summary>
    public const int MaximumLine = 4096;

    /// <summary>Why the case exists, for a reader who meets it in a diff: at least one line, lines separated by <c>\n</c>, without the leading <c>#</c>.</summary>
    public required string Comment { get; init; }

    /// <summary>Short name: lower-case letters, digits, dots and hyphens, at most 100 of them.</summary>
    public required string Id { get; init; }

    /// <summary>Statements of specifications that the case touches, as document and section: <c>SDM vol.2A ADC</c>.</summary>
    public ImmutableArray<string> Spec { get; init; } = [];

    /// <summary>How the case was found, such as generator, seed and index; null for a hand-written one.</summary>
    public string? Found { get; init; }

    /// <summary>The input.</summary>
    public required TestCase Case { get; init; }

    /// <summary>Disassembly or other remark for each instruction of <see cref="TestCase.Code"/>, in order; an empty string for none.</summary>
    public ImmutableArray<string> CodeComments
    {
        get => field.IsDefault ? [.. Enumerable.Repeat("", Case.Code.Lengths.Length)] : field;
        init;
    }

    /// <summary>What targets answered, in the order of the file.</summary>
    public ImmutableArray<RecordedOutcome> Outcomes { get; init; } = [];

    /// <summary>How the divergence was judged, such as <c>new</c> or <c>known some-id</c>; null when nobody did.</summary>
    public string? Verdict { get; init; }

    /// <summary>Reads a file in canonical form.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">The file cannot be read or is not a canonical case file.</exception>
    public static CaseFile Read(string path) => Read(path, lenient: false);

    /// <summary>Reads a file.</summary>
    /// <param name="path">Path of the file.</param>
    /// <param name="lenient">Accept other spacing, order and number forms than the canonical ones.</param>
    /// <exception cref="CaseFileException">The file cannot be read or is not a case file.</exception>
    public static CaseFile Read(string path, bool lenient)
    {
        ArgumentNullException.ThrowIfNull(path);
        try
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
            return Read(stream, path, lenient);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new CaseFileException(path, 1, $"cannot be read: {e.Message}; name a readable case file", e);
        }
    }

    /// <summary>Reads a stream to its end, but never more than <see cref="MaximumBytes"/> and one.</summary>
    /// <param name="stream">Where to read.</param>
    /// <param name="fileName">Name for messages.</param>
    /// <param name="lenient">Accept other spacing, order and number forms than the canonical ones.</param>
    /// <exception cref="CaseFileException">The stream does not hold a case file.</exception>
    /// <exception cref="IOException">The stream failed.</exception>
    public static CaseFile Read(Stream stream, string fileName, bool lenient)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(fileName);

        // A stream that knows its length need not be read to be refused.
        if (stream.CanSeek && stream.Length - stream.Position > MaximumBytes)
        {
            throw CaseFileText.TooLong(fileName);
        }

        byte[] buffer = new byte[8192];
        int length = 0;
        while (true)
        {
            int read = stream.Read(buffer, length, buffer.Length - length);
            if (read == 0)
            {
                return Parse(buffer.AsSpan(0, length), fileName, lenient);
            }

            length += read;
            if (length > MaximumBytes)
            {
                throw CaseFileText.TooLong(fileName);
            }

            if (length == buffer.Length)
            {
                Array.Resize(ref buffer, Math.Min(length * 2, MaximumBytes + 1));
            }
        }
    }

    /// <summary>Parses a text in canonical form.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="fileName">Name for messages.</param>
    /// <exception cref="CaseFileException">The text is not a canonical case file.</exception>
    public static CaseFile Parse(ReadOnlySpan<byte> text, string fileName) => Parse(text, fileName, lenient: false);

    /// <summary>Parses a text.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="fileName">Name for messages.</param>
    /// <param name="lenient">Accept other spacing, order and number forms than the canonical ones.</param>
    /// <exception cref="CaseFileException">The text is not a case file.</exception>
    public static CaseFile Parse(ReadOnlySpan<byte> text, string fileName, bool lenient) => Parse(text, fileName, lenient, firstLine: 1);

    /// <summary>Parses a text that stands inside a file.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="fileName">Name for messages.</param>
    /// <param name="lenient">Accept other spacing, order and number forms than the canonical ones.</param>
    /// <param name="firstLine">Line of the file at which the text starts, from 1.</param>
    /// <exception cref="CaseFileException">The text is not a case file.</exception>
    internal static CaseFile Parse(ReadOnlySpan<byte> text, string fileName, bool lenient, int firstLine)
    {
        ArgumentNullException.ThrowIfNull(fileName);
        CaseFileText lines = CaseFileText.Split(text, fileName, firstLine);
        CaseFile parsed = new CaseFileReader(lines).Read();
        if (parsed.Check() is CaseProblem problem)
        {
            throw new CaseFileException(fileName, lines.LineOf(problem.Field), problem.Message);
        }

        string canonical = CaseFileWriter.Write(parsed);
        if (Encoding.UTF8.GetByteCount(canonical) > MaximumBytes)
        {
            throw CaseFileText.TooLong(fileName, firstLine);
        }

        return lenient || CaseFileText.FirstDifference(text, canonical) is not (int line, string right)
            ? parsed
            : throw new CaseFileException(fileName, firstLine + line - 1, $"not in canonical form; {right}");
    }

    /// <summary>The canonical text. Reading it gives an equal case file, and reading and writing it again gives the same bytes.</summary>
    /// <exception cref="InvalidOperationException"><see cref="Check"/> finds a problem, or the text would be longer than a case file may be.</exception>
    public string Write()
    {
        if (Check() is CaseProblem problem)
        {
            throw new InvalidOperationException($"this case cannot be stored: {problem.Field}: {problem.Message}");
        }

        string text = CaseFileWriter.Write(this);
        if (Encoding.UTF8.GetByteCount(text) > MaximumBytes)
        {
            throw new InvalidOperationException($"this case cannot be stored: its text is longer than {MaximumBytes} bytes");
        }

        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
        {
            if (Encoding.UTF8.GetByteCount(line) > MaximumLine)
            {
                throw new InvalidOperationException($"this case cannot be stored: a line is longer than {MaximumLine} bytes: {CaseFileText.Quote(line.ToString())}");
            }
        }

        return text;
    }

    /// <inheritdoc/>
    public bool Equals(CaseFile? other) =>
        ReferenceEquals(this, other)
        || (other is not null && string.Equals(Comment, other.Comment, StringComparison.Ordinal) && string.Equals(Id, other.Id, StringComparison.Ordinal)
            && Spec.AsSpan().SequenceEqual(other.Spec.AsSpan()) && string.Equals(Found, other.Found, StringComparison.Ordinal) && Case.Equals(other.Case)
            && CodeComments.AsSpan().SequenceEqual(other.CodeComments.AsSpan()) && Outcomes.AsSpan().SequenceEqual(other.Outcomes.AsSpan())
            && string.Equals(Verdict, other.Verdict, StringComparison.Ordinal));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Id, Case, Outcomes.Length);
}
