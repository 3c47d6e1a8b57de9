using System.Globalization;
using System.Text;
using System.Text.Unicode;

namespace PvDiffFuzz.Core;

/// <summary>One line of a case file: where it stands, its key and what follows.</summary>
/// <param name="File">File name for messages.</param>
/// <param name="Number">Line from 1.</param>
/// <param name="Key">First word.</param>
/// <param name="Value">The rest without the spaces around it.</param>
internal readonly record struct CaseFileLine(string File, int Number, string Key, string Value)
{
    /// <summary>The value split at spaces.</summary>
    public string[] Words => Value.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>The error for this line.</summary>
    /// <param name="what">What is wrong.</param>
    /// <param name="right">What would be right.</param>
    public CaseFileException Wrong(string what, string right) => new(File, Number, $"{what}; {right}");

    /// <summary>Reads a hexadecimal number without 0x, 1 to 16 digits, at most <paramref name="maximum"/>.</summary>
    public ulong Hex(string text, string name, ulong maximum = ulong.MaxValue)
    {
        bool good = text.Length is >= 1 and <= 16 && text.All(char.IsAsciiHexDigit);
        ulong value = good ? ulong.Parse(text, NumberStyles.AllowHexSpecifier) : 0;
        return good && value <= maximum
            ? value
            : throw Wrong($"{name} {CaseFileText.Quote(text)} is not a number of this field", $"use hexadecimal digits without 0x, 0 to {maximum:x}");
    }

    /// <summary>Reads one byte as exactly two hexadecimal digits.</summary>
    public byte Byte(string text, string name) =>
        text.Length == 2 && text.All(char.IsAsciiHexDigit)
            ? byte.Parse(text, NumberStyles.AllowHexSpecifier)
            : throw Wrong($"{name} {CaseFileText.Quote(text)} is not a byte", "use two hexadecimal digits, 00 to ff");

    /// <summary>Reads a count in decimal.</summary>
    public int Count(string text, string name, int minimum, int maximum) =>
        text.Length is >= 1 and <= 9 && text.All(char.IsAsciiDigit) && int.Parse(text, NumberStyles.None) is int value && value >= minimum && value <= maximum
            ? value
            : throw Wrong($"{name} {CaseFileText.Quote(text)} is not a count of this field", $"use decimal digits, {minimum} to {maximum}");

    /// <summary>Splits <c>name=value</c>.</summary>
    public (string Name, string Value) Pair(string word)
    {
        int equals = word.IndexOf('=', StringComparison.Ordinal);
        return equals > 0 ? (word[..equals], word[(equals + 1)..]) : throw Wrong($"{CaseFileText.Quote(word)} is not of the form name=value", "write for example rax=1");
    }

    /// <summary>Reads exactly these names in this order: <c>a=1 b=2</c>.</summary>
    /// <returns>The values as text.</returns>
    public string[] Named(ReadOnlySpan<string> words, ReadOnlySpan<string> names)
    {
        string form = string.Join(' ', names.ToArray().Select(n => n + "=..."));
        if (words.Length != names.Length)
        {
            throw Wrong($"`{Key}` has {words.Length} of {names.Length} named values", $"write {form}");
        }

        string[] values = new string[names.Length];
        for (int i = 0; i < names.Length; i++)
        {
            (string name, values[i]) = Pair(words[i]);
            if (name != names[i])
            {
                throw Wrong($"{CaseFileText.Quote(name)} is not expected here", $"write {form}");
            }
        }

        return values;
    }

    /// <summary>Finds a word in a table.</summary>
    /// <returns>Its index.</returns>
    public int OneOf(string word, string name, ReadOnlySpan<string> table)
    {
        int at = table.IndexOf(word);
        return at >= 0 ? at : throw Wrong($"{name} {CaseFileText.Quote(word)} is not known", $"use one of: {string.Join(", ", table.ToArray())}");
    }
}

/// <summary>A case file as lines: everything that can be said of it before any key has a meaning.</summary>
internal sealed class CaseFileText
{
    private readonly Dictionary<string, int> _firstLines = new(StringComparer.Ordinal);

    private CaseFileText(string file, int firstLine, string comment, List<CaseFileLine> lines)
    {
        File = file;
        FirstLine = firstLine;
        Comment = comment;
        Lines = lines;
        foreach (CaseFileLine line in lines)
        {
            _firstLines.TryAdd(line.Key, line.Number);
        }
    }

    /// <summary>File name for messages.</summary>
    public string File { get; }

    /// <summary>Line of the file at which this text starts, from 1.</summary>
    public int FirstLine { get; }

    /// <summary>The first comment without its number signs.</summary>
    public string Comment { get; }

    /// <summary>Lines with a key, the last one <c>end</c>.</summary>
    public List<CaseFileLine> Lines { get; }

    /// <summary>Line of the first use of a key; of the end of the file when there is none.</summary>
    /// <param name="key">A key, or <c>2.memory</c> for the key in the outcome with index 2, or <c>2.frame.0</c> for the key that belongs to its event with index 0.</param>
    public int LineOf(string key)
    {
        int dot = key.IndexOf('.', StringComparison.Ordinal);
        if (dot > 0)
        {
            string[] parts = key.Split('.');
            int start = Nth("outcome", int.Parse(parts[0], NumberStyles.None), 0);
            if (parts is [_, _, string number])
            {
                start = Nth("event", int.Parse(number, NumberStyles.None), start);
            }

            int at = Lines.FindIndex(start, line => line.Key == parts[1]);
            int next = Lines.FindIndex(start + 1, line => line.Key == "outcome" || line.Key == Lines[start].Key);
            return Lines[at < 0 || (next >= 0 && at > next) ? start : at].Number;
        }

        return key switch
        {
            "comment" => FirstLine,
            "cs" or "ss" => LineOf("sel"),
            "fsbase" or "gsbase" => LineOf("base"),
            "sys" or "pvm" or "start" or "inject" when !_firstLines.ContainsKey(key) => LineOf("abi"),
            "page" when !_firstLines.ContainsKey(key) => LineOf("map"),
            "user-page" when !_firstLines.ContainsKey(key) => LineOf("user-map"),
            _ => _firstLines.GetValueOrDefault(key, Lines[^1].Number),
        };
    }

    /// <summary>Index of the n-th line with a key, from 0, not before another line.</summary>
    private int Nth(string key, int n, int from) => Lines.FindIndex(from, line => line.Key == key && n-- == 0);

    /// <summary>The error for a file over the limit.</summary>
    public static CaseFileException TooLong(string file, int firstLine = 1) =>
        new(file, firstLine, $"the file is longer than {CaseFile.MaximumBytes} bytes; a case file is small text, so this is something else");

    /// <summary>Splits a text into its comment and its lines.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="file">File name for messages.</param>
    /// <param name="firstLine">Line of the file at which the text starts, from 1.</param>
    /// <exception cref="CaseFileException">It is not text, too long, cut off, or has no comment.</exception>
    public static CaseFileText Split(ReadOnlySpan<byte> text, string file, int firstLine = 1)
    {
        if (text.Length > CaseFile.MaximumBytes)
        {
            throw TooLong(file, firstLine);
        }

        List<string> comment = [];
        List<CaseFileLine> lines = [];
        int number = firstLine - 1;
        while (!text.IsEmpty)
        {
            number++;
            int length = text.IndexOf((byte)'\n');
            string line = Decode(length < 0 ? text : text[..length], file, number);
            if (length < 0)
            {
                throw new CaseFileException(file, number, "the last line has no line break, so the file is cut off; a case file ends with the line `end`");
            }

            text = text[(length + 1)..];
            if (line.StartsWith('#'))
            {
                if (lines.Count > 0)
                {
                    throw new CaseFileException(file, number, "a comment after the first key; say it in the comment at the top or after `;` on a code line");
                }

                comment.Add(line.StartsWith("# ", StringComparison.Ordinal) ? line[2..] : line[1..]);
            }
            else if (line.AsSpan().Trim(' ').Length > 0)
            {
                lines.Add(Keyed(line, file, number));
            }
        }

        if (comment.Count == 0)
        {
            throw new CaseFileException(file, firstLine, "the file does not start with a comment; its first line is `# ` and why this case exists");
        }

        if (lines.Count == 0 || lines[^1].Key != "end")
        {
            throw new CaseFileException(file, Math.Max(number, firstLine), "the file is cut off; a case file ends with the line `end`");
        }

        return new CaseFileText(file, firstLine, string.Join('\n', comment), lines);
    }

    /// <summary>Compares a text with its canonical form.</summary>
    /// <returns>The first line that differs and what it should be, or null when all bytes are equal.</returns>
    public static (int Line, string Right)? FirstDifference(ReadOnlySpan<byte> text, string canonical)
    {
        ReadOnlySpan<byte> right = Encoding.UTF8.GetBytes(canonical);
        if (text.SequenceEqual(right))
        {
            return null;
        }

        for (int number = 1; ; number++)
        {
            ReadOnlySpan<byte> given = TakeLine(ref text);
            ReadOnlySpan<byte> wanted = TakeLine(ref right);
            if (!given.SequenceEqual(wanted))
            {
                string line = Encoding.UTF8.GetString(wanted).TrimEnd('\n');
                return (number, line.Length == 0 ? "this line should be empty" : $"this line should read {Quote(line, 200)}");
            }
        }
    }

    /// <summary>A piece of input for a message: quoted and cut to a readable length.</summary>
    public static string Quote(string text, int maximum = 40)
    {
        StringBuilder quoted = new("`");
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (quoted.Length > maximum)
            {
                return quoted.Append("...`").ToString();
            }

            quoted.Append(IsPlain(rune) ? rune.ToString() : "?");
        }

        return quoted.Append('`').ToString();
    }

    /// <summary>True for a character that may stand in a case file: no control, no separator of lines, no byte order mark, no replacement for broken text.</summary>
    public static bool IsPlain(Rune rune) =>
        !Rune.IsControl(rune) && rune.Value is not (0x2028 or 0x2029 or 0xfeff or 0xfffd);

    /// <summary>True when every character of a text may stand in a case file; lone surrogates may not.</summary>
    public static bool IsPlain(string text)
    {
        // EnumerateRunes shows a lone surrogate as U+FFFD, which is not plain.
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (!IsPlain(rune))
            {
                return false;
            }
        }

        return true;
    }

    private static ReadOnlySpan<byte> TakeLine(ref ReadOnlySpan<byte> text)
    {
        int length = text.IndexOf((byte)'\n') + 1;
        ReadOnlySpan<byte> line = text[..(length == 0 ? text.Length : length)];
        text = text[line.Length..];
        return line;
    }

    private static CaseFileLine Keyed(string line, string file, int number)
    {
        int space = line.IndexOf(' ', StringComparison.Ordinal);
        return space switch
        {
            0 => throw new CaseFileException(file, number, "the line starts with a space; a key stands in the first column"),
            < 0 => new CaseFileLine(file, number, line, ""),
            _ => new CaseFileLine(file, number, line[..space], line[space..].Trim(' ')),
        };
    }

    private static string Decode(ReadOnlySpan<byte> line, string file, int number)
    {
        CaseFileException Wrong(string problem) => new(file, number, problem);

        if (line.Length > CaseFile.MaximumLine)
        {
            throw Wrong($"the line is longer than {CaseFile.MaximumLine} bytes; split it as docs/case-format.md says");
        }

        if (!Utf8.IsValid(line))
        {
            throw Wrong("the line is not UTF-8; a case file is plain text");
        }

        string text = Encoding.UTF8.GetString(line);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (!IsPlain(rune))
            {
                throw Wrong(rune.Value switch
                {
                    0 => "a NUL byte; a case file is plain text",
                    '\r' => "a carriage return; lines end with a line feed only",
                    '\t' => "a tab; use spaces",
                    0xfeff => "a byte order mark; a case file is UTF-8 without one",
                    _ => $"the character U+{rune.Value:X4}; use printable characters only",
                });
            }
        }

        return text;
    }
}
