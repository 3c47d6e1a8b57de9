using System.Buffers;
using System.Collections.Immutable;
using System.Text;

namespace PvDiffFuzz.Core;

/// <summary>Reads a recording: its head, then cases one by one, then its end. Every error names its line.</summary>
/// <remarks>Head and cases are texts that start with a comment and end with a line <c>end</c>; each is read by what reads case files.</remarks>
internal sealed class RecordingReader(Stream stream, string file)
{
    private static readonly byte[] End = "end\n"u8.ToArray();

    private readonly byte[] _buffer = new byte[1 << 16];
    private readonly ArrayBufferWriter<byte> _block = new(1 << 12);
    private readonly Dictionary<TestCase, int> _lines = new(CaseComparer.Instance);
    private int _at;
    private int _filled;
    private int _line;
    private int _blockLine;

    /// <summary>Reads to the end.</summary>
    public Recording Read()
    {
        if (!StartBlock() || _block.WrittenSpan[0] != (byte)'#')
        {
            throw Wrong(1, "the file does not start with a comment, so it is no recording; make one with `pvdf record`");
        }

        FinishBlock();
        Recording head = ReadHead();
        ImmutableArray<CaseFile>.Builder cases = ImmutableArray.CreateBuilder<CaseFile>();
        while (TakeGap(cases.Count))
        {
            FinishBlock();
            cases.Add(ReadCase(head));
            if (cases.Count > Recording.MaximumCases)
            {
                throw Wrong(_blockLine, $"one case too many; a recording has at most {Recording.MaximumCases}");
            }
        }

        return head with { Cases = cases.ToImmutable(), Planned = ReadFoot(cases.Count) };
    }

    private Recording ReadHead()
    {
        Recording head = new CaseFileReader(CaseFileText.Split(_block.WrittenSpan, file, _blockLine)).ReadHead();
        return CaseFileText.FirstDifference(_block.WrittenSpan, CaseFileWriter.WriteHead(head)) is not (int line, string right)
            ? head
            : throw Wrong(_blockLine + line - 1, $"not in canonical form; {right}");
    }

    private CaseFile ReadCase(Recording head)
    {
        CaseFile read = CaseFile.Parse(_block.WrittenSpan, file, lenient: false, _blockLine);
        for (int i = 0; i < Math.Max(read.Outcomes.Length, head.Targets.Length); i++)
        {
            if (i >= read.Outcomes.Length || i >= head.Targets.Length)
            {
                throw Wrong(LineOf("outcome", i), $"{read.Outcomes.Length} outcomes for {head.Targets.Length} targets; a case has one outcome for each target of the head");
            }

            (RecordedOutcome outcome, RecordedSource target) = (read.Outcomes[i], head.Targets[i]);
            if (outcome.Target != target.Name || outcome.Kind != target.Kind || outcome.Lineage != target.Lineage)
            {
                throw Wrong(LineOf("outcome", i), $"this is not the target {CaseFileText.Quote(target.Name)} of the head; outcomes stand in the order of the head's targets, with their kind and lineage");
            }

            if (!outcome.Fingerprint.Facts.IsEmpty)
            {
                throw Wrong(LineOf("fact", 0), "a fact in a case; the head states the facts of a target once for all cases");
            }
        }

        if (read.Verdict is not null)
        {
            throw Wrong(LineOf("verdict", 0), "a verdict in a recording; `pvdf triage` judges, a recording only tells what was seen");
        }

        if (!_lines.TryAdd(read.Case, _blockLine))
        {
            throw Wrong(_blockLine, $"the case of line {_lines[read.Case]} again; keep one of them");
        }

        return read with { Outcomes = [.. read.Outcomes.Select((outcome, i) => outcome with { Fingerprint = head.Targets[i].Fingerprint })] };
    }

    private int ReadFoot(int count)
    {
        string text = Encoding.UTF8.GetString(_block.WrittenSpan).TrimEnd('\n');
        CaseFileLine line = new(file, _line, "cases", text["cases".Length..].Trim(' '));
        if (line.Words is not [string countText, "of", string plannedText])
        {
            throw line.Wrong($"{CaseFileText.Quote(text)} does not count the cases", "write how many there are and how many were to be recorded, as in `cases    18 of 18`");
        }

        int planned = line.Count(plannedText, "cases", 0, 99_999_999);
        if (line.Count(countText, "cases", 0, 99_999_999) != count || planned < count || planned > Recording.MaximumCases)
        {
            throw line.Wrong($"{countText} of {plannedText} cases, but {count} stand above", "the recording is damaged; record it again or take another copy");
        }

        string canonical = $"{CaseFileWriter.WriteFoot(count, planned)}";
        if (!StartBlock() || !_block.WrittenSpan.SequenceEqual(End))
        {
            throw CutOff(count);
        }

        return $"\n{text}\nend\n" != canonical ? throw Wrong(_line - 1, "not in canonical form; this line should read " + CaseFileText.Quote(canonical.Split('\n')[1]))
            : StartBlock() ? throw Wrong(_line, "something after `end`; `end` is the last line")
            : planned;
    }

    /// <summary>Takes the empty line before a case or before the end, and the first line of what follows.</summary>
    /// <returns>True when a case follows.</returns>
    private bool TakeGap(int cases)
    {
        if (!StartBlock())
        {
            throw CutOff(cases);
        }

        if (!_block.WrittenSpan.SequenceEqual("\n"u8))
        {
            throw Wrong(_line, "not in canonical form; this line should be empty");
        }

        if (!StartBlock())
        {
            throw CutOff(cases);
        }

        bool comment = _block.WrittenSpan[0] == (byte)'#';
        return comment || _block.WrittenSpan.StartsWith("cases"u8)
            ? comment
            : throw Wrong(_line, "neither a case nor the end; a case starts with a comment, and after the last one comes `cases`");
    }

    /// <summary>Starts a block with the next line.</summary>
    /// <returns>False at the end of the file.</returns>
    private bool StartBlock()
    {
        _block.ResetWrittenCount();
        _blockLine = _line + 1;
        return TakeLine(out _);
    }

    /// <summary>Takes the rest of a block, to its line <c>end</c>.</summary>
    private void FinishBlock()
    {
        int length = 0;
        do
        {
            if (_block.WrittenCount > CaseFile.MaximumBytes)
            {
                throw Wrong(_blockLine, $"no line `end` within {CaseFile.MaximumBytes} bytes; the file is damaged, or is no recording");
            }

            if (!TakeLine(out length))
            {
                throw CutOff(_lines.Count);
            }
        }
        while (!_block.WrittenSpan[^length..].SequenceEqual(End));
    }

    /// <summary>Appends a line to the block, line feed included.</summary>
    /// <returns>False at the end of the file.</returns>
    private bool TakeLine(out int length)
    {
        length = 0;
        while (true)
        {
            if (_at == _filled)
            {
                (_at, _filled) = (0, stream.Read(_buffer));
                if (_filled == 0)
                {
                    _line += length > 0 ? 1 : 0;
                    return length > 0 ? throw CutOff(_lines.Count) : false;
                }
            }

            ReadOnlySpan<byte> rest = _buffer.AsSpan(_at, _filled - _at);
            int feed = rest.IndexOf((byte)'\n');
            ReadOnlySpan<byte> piece = feed < 0 ? rest : rest[..(feed + 1)];
            length += piece.Length;
            if (length > CaseFile.MaximumLine + 1)
            {
                throw Wrong(_line + 1, $"the line is longer than {CaseFile.MaximumLine} bytes; a recording is lines of text, so the file is damaged or is something else");
            }

            _block.Write(piece);
            _at += piece.Length;
            if (feed >= 0)
            {
                _line++;
                return true;
            }
        }
    }

    /// <summary>Line of the n-th use of a key in the block; of its last line when there are fewer.</summary>
    private int LineOf(string key, int n)
    {
        int line = _blockLine;
        foreach (string text in Encoding.UTF8.GetString(_block.WrittenSpan).Split('\n'))
        {
            if (text.StartsWith(key + " ", StringComparison.Ordinal) && n-- == 0)
            {
                return line;
            }

            line++;
        }

        return _line;
    }

    private CaseFileException CutOff(int cases) =>
        Wrong(Math.Max(_line, 1), $"the recording is cut off after {cases} whole cases; it ends with the number of its cases and `end`, so record it again or take another copy");

    private CaseFileException Wrong(int line, string problem) => new(file, line, problem);
}
