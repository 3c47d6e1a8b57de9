using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A known entry that cannot be read. The message starts with file and line and says what would be right.</summary>
public sealed class KnownFileException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="file">Path of the file.</param>
    /// <param name="line">Line number from 1.</param>
    /// <param name="problem">What is wrong and what would be right.</param>
    /// <param name="inner">What the system said, when the file could not be read.</param>
    public KnownFileException(string file, int line, string problem, Exception? inner = null)
        : base($"{file}:{line}: {problem}", inner) => (File, Line) = (file, line);

    /// <summary>Path of the file.</summary>
    public string File { get; }

    /// <summary>Line number from 1.</summary>
    public int Line { get; }
}

/// <summary>Reads known entries. Any input gives entries or a <see cref="KnownFileException"/>.</summary>
public static class KnownReader
{
    /// <summary>Ending of the files.</summary>
    public const string Extension = ".known";

    /// <summary>Most bytes in a file.</summary>
    public const int MaximumBytes = 65_536;

    private static readonly string[] Once = ["id", "kind", "clause", "reason", "forms", "vectors", "fields"];
    private static readonly string[] Optional = ["abi", "path", "start", "entries", "scope", "after", "executed", "ever", "raised", "encoding"];

    /// <summary>The words for prefixes.</summary>
    internal static readonly SortedDictionary<string, Encodings> EncodingWords = new(StringComparer.Ordinal)
    {
        ["compatibility"] = Encodings.Compatibility,
        ["fs"] = Encodings.Fs,
        ["gs"] = Encodings.Gs,
        ["lock"] = Encodings.Lock,
        ["memory"] = Encodings.Memory,
        ["negative"] = Encodings.Negative,
        ["operand-size"] = Encodings.OperandSize,
        ["repe"] = Encodings.Repe,
        ["repne"] = Encodings.Repne,
        ["rex-r"] = Encodings.RexR,
        ["rex-w"] = Encodings.RexW,
        ["shifted-carry"] = Encodings.ShiftedCarry,
        ["syscall-rcx"] = Encodings.SyscallRcx,
        ["vm-image"] = Encodings.VmImage,
        ["void-rex"] = Encodings.VoidRex,
        ["void-segment"] = Encodings.VoidSegment,
        ["whole-turn"] = Encodings.WholeTurn,
    };

    /// <summary>The word for an instruction that raised nothing.</summary>
    private const string Nothing = "none";

    private static readonly HashSet<string> FormNames = [.. Enum.GetNames<Code>(), .. Enum.GetNames<Mnemonic>()];

    /// <summary>Reads what an instruction raised: a decimal vector, or the word for nothing, which is null.</summary>
    internal static bool TryVector(string word, out byte? vector)
    {
        bool number = byte.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out byte value);
        vector = number ? value : null;
        return number || word == Nothing;
    }

    /// <summary>Reads all <c>*.known</c> files of a folder, in the order of their ids. A folder that does not exist has none.</summary>
    /// <exception cref="KnownFileException">A file is wrong, or two have the same id.</exception>
    public static KnownSet ReadFolder(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return KnownSet.Empty;
        }

        KnownEntry[] entries = [.. Directory.GetFiles(folder, "*" + Extension).Order(StringComparer.Ordinal).Select(Read).OrderBy(e => e.Id, StringComparer.Ordinal)];
        for (int i = 1; i < entries.Length; i++)
        {
            if (entries[i].Id == entries[i - 1].Id)
            {
                throw new KnownFileException(entries[i].File, 1, $"id '{entries[i].Id}' is also that of {entries[i - 1].File}; ids are unique");
            }
        }

        return new KnownSet([.. entries]);
    }

    /// <summary>Reads one file.</summary>
    /// <exception cref="KnownFileException">The file cannot be read or is wrong.</exception>
    public static KnownEntry Read(string path)
    {
        try
        {
            using FileStream stream = File.OpenRead(path);
            byte[] bytes = new byte[MaximumBytes + 1];
            int length = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return length <= MaximumBytes
                ? Parse(bytes.AsSpan(0, length), path)
                : throw new KnownFileException(path, 1, $"longer than {MaximumBytes} bytes; a known entry is a short text");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KnownFileException(path, 1, $"cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads a text.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="file">Name for messages.</param>
    /// <exception cref="KnownFileException">The text is wrong.</exception>
    public static KnownEntry Parse(ReadOnlySpan<byte> text, string file)
    {
        string characters;
        try
        {
            characters = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(text);
        }
        catch (DecoderFallbackException)
        {
            throw new KnownFileException(file, 1, "not UTF-8 text");
        }

        string[] lines = characters.Split('\n');
        if (lines[0].Length < 3 || !lines[0].StartsWith("# ", StringComparison.Ordinal))
        {
            throw new KnownFileException(file, 1, "the first line is a comment that says why the entry exists: '# ...'");
        }

        Fields fields = new(file, lines);
        for (int i = 0; i < lines.Length; i++)
        {
            fields.Take(i + 1, lines[i]);
        }

        return fields.Finish();
    }

    private sealed class Fields(string file, string[] lines)
    {
        private readonly Dictionary<string, (int Line, string Value)> _once = new(StringComparer.Ordinal);
        private readonly ImmutableArray<TargetPattern>.Builder _targets = ImmutableArray.CreateBuilder<TargetPattern>();
        private readonly ImmutableArray<KnownCondition>.Builder _conditions = ImmutableArray.CreateBuilder<KnownCondition>();
        private readonly List<int> _conditionLines = [];

        public void Take(int line, string text)
        {
            if (text.Any(c => char.IsControl(c)))
            {
                throw Wrong(line, "a control character; lines end with a line feed alone and use spaces");
            }

            if (text.Length == 0 || text[0] == '#')
            {
                return;
            }

            string[] parts = text.Split(' ', 2, StringSplitOptions.TrimEntries);
            string key = parts[0];
            string value = parts.Length == 2 ? parts[1] : "";
            bool once = Array.IndexOf(Once, key) >= 0 || Array.IndexOf(Optional, key) >= 0;
            if (!once && key is not ("targets" or "where"))
            {
                throw Wrong(line, $"unknown key '{key}'; there are {string.Join(", ", Once)}, targets and where, and perhaps {string.Join(", ", Optional)}");
            }

            if (value.Length == 0)
            {
                throw Wrong(line, $"'{key}' has no value");
            }

            if (key == "targets")
            {
                _targets.Add(Pattern(line, value));
            }
            else if (key == "where")
            {
                _conditions.Add(KnownCondition.Parse(value, out string problem) ?? throw Wrong(line, problem));
                _conditionLines.Add(line);
            }
            else if (!_once.TryAdd(key, (line, value)))
            {
                throw Wrong(line, $"'{key}' was given in line {_once[key].Line} already");
            }
        }

        public KnownEntry Finish()
        {
            foreach (string key in Once)
            {
                if (!_once.ContainsKey(key))
                {
                    throw Wrong(lines.Length, $"no '{key}'");
                }
            }

            KnownEntry entry = Whole();
            CheckAbis(entry);
            return entry;
        }

        private KnownEntry Whole()
        {
            return new KnownEntry
            {
                Comment = string.Join('\n', lines.TakeWhile(l => l.StartsWith('#')).Select(l => l.Length > 1 ? l[2..] : "")),
                Id = Valid("id", id => id.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-'), "an id is lower-case letters, digits and hyphens"),
                Kind = Valid("kind", k => k is "implementation" or "specification" or "host", "a kind is implementation, specification or host") switch
                {
                    "implementation" => KnownKind.Implementation,
                    "specification" => KnownKind.Specification,
                    _ => KnownKind.Host,
                },
                Clause = _once["clause"].Value,
                Reason = _once["reason"].Value,
                Targets = _targets.Count > 0 ? _targets.ToImmutable() : throw Wrong(lines.Length, "no 'targets'"),
                Forms = [.. List("forms", IsForm, "is neither a code name nor a mnemonic of Iced, such as Int1 or Adc_rm64_r64, nor an encoding without a form, such as INVALID.0fff or INVALID.c4?37d")],
                Vectors = [.. List("vectors", v => byte.TryParse(v, out _), "is no vector; vectors are decimal, 0 to 255").Select(v => byte.Parse(v))],
                Fields = [.. List("fields", KnownFields.Names.Contains, "is no field; fields are such as event.rip, event.rflags.CF, gpr.rax, gpr, fsbase, memory, event.frame.rip, sys.cr3")],
                Abis = _once.ContainsKey("abi") ? Words<Abi>("abi", abi => abi.Text()) : [Abi.X86],
                Path = _once.ContainsKey("path") ? Words<HostPath>("path", path => path.Text())[0] : null,
                Start = _once.ContainsKey("start") ? Words<GuestMode>("start", mode => mode.Text())[0] : null,
                Entries = _once.ContainsKey("entries") ? Words<EntryPoint>("entries", door => door.Text()) : [],
                Part = _once.ContainsKey("scope") && Valid("scope", s => s is "whole" or "part", "a scope is whole or part") == "part",
                After = [.. Instructions("after")],
                Executed = [.. Instructions("executed")],
                Ever = [.. Instructions("ever")],
                Raised = _once.ContainsKey("raised")
                    ? [.. List("raised", word => TryVector(word, out _), $"is no vector; vectors are decimal, 0 to 255, and '{Nothing}' stands for nothing").Select(word => TryVector(word, out byte? vector) ? vector : null)]
                    : [],
                Encoding = _once.ContainsKey("encoding") ? List("encoding", EncodingWords.ContainsKey, $"is none of {string.Join(", ", EncodingWords.Keys)}").Aggregate(Encodings.None, (all, word) => all | EncodingWords[word]) : Encodings.None,
                Conditions = _conditions.ToImmutable(),
                File = file,
            };
        }

        private ImmutableArray<string> Instructions(string key) => _once.ContainsKey(key)
            ? List(
                key,
                word => EncodingWords.ContainsKey(word) || IsForm(word) || IsPrefixed(word),
                $"is neither a code name of Iced, such as Jb_rel16, Call_m1632+rex-w or Hlt+13, nor one of {string.Join(", ", EncodingWords.Keys)}")
            : [];

        private static bool IsPrefixed(string word) => word.Split('+') is [string form, string with] && IsForm(form) && (EncodingWords.ContainsKey(with) || TryVector(with, out _));

        // A path is one word and so is a start; an entry that means both leaves the key out.
        private ImmutableArray<T> Words<T>(string key, Func<T, string> text)
            where T : struct, Enum
        {
            (int line, string value) = _once[key];
            string valid = string.Join(", ", Enum.GetValues<T>().Select(text));
            ImmutableArray<T> members =
                [.. value.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => Core.Words.Find(text, word) ?? throw Wrong(line, $"'{word}' is no word for '{key}'; there are {valid}"))];
            return members.Length == 1 || key is "abi" or "entries" ? members : throw Wrong(line, $"'{key}' has one word: {valid}");
        }

        // Frames and the system side belong to an ABI, and PVM's revisions differ in them: an entry without an ABI would say something of all.
        private void CheckAbis(KnownEntry entry)
        {
            if (entry.Path is not null && !entry.Abis.All(abi => abi.IsPvm()))
            {
                throw Wrong(_once["path"].Line, "only PVM cases have a path; name their revisions with 'abi'");
            }

            foreach (string name in entry.Fields)
            {
                CheckAbis(entry, name, _once["fields"].Line);
            }

            for (int i = 0; i < entry.Conditions.Length; i++)
            {
                foreach (KnownTerm term in entry.Conditions[i].Left.Concat(entry.Conditions[i].Right).Where(term => term.Source is TermSource.This or TermSource.Other or TermSource.Start))
                {
                    CheckAbis(entry, term.Field.Unindexed, _conditionLines[i]);
                }
            }
        }

        private void CheckAbis(KnownEntry entry, string name, int line)
        {
            if (!entry.Abis.Any(abi => KnownFields.Has(abi, name)))
            {
                string which = string.Join(", ", entry.Abis.Select(abi => abi.Text()));
                throw Wrong(line, $"'{name}' is nothing that {which} has; frames and the system side belong to an ABI, which 'abi' names, such as pvm-rfc1");
            }
        }

        private static bool IsForm(string form) => form.StartsWith(InstructionAt.Invalid, StringComparison.Ordinal)
            ? form[InstructionAt.Invalid.Length..].All(c => char.IsAsciiHexDigitLower(c) || c == '?')
            : FormNames.Contains(form.StartsWith(InstructionAt.Lock, StringComparison.Ordinal) ? form[InstructionAt.Lock.Length..] : form);

        private string Valid(string key, Func<string, bool> good, string rule)
        {
            (int line, string value) = _once[key];
            return good(value) ? value : throw Wrong(line, $"'{value}': {rule}");
        }

        private ImmutableArray<string> List(string key, Func<string, bool> good, string rule)
        {
            (int line, string value) = _once[key];
            if (value == "any" && key != "fields")
            {
                return [];
            }

            string[] words = value.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return Array.Find(words, w => !good(w)) is string bad ? throw Wrong(line, $"'{bad}' {rule}") : [.. words];
        }

        private TargetPattern Pattern(int line, string value)
        {
            const string rule = "a target pattern is a name, 'lineage:' and a lineage, or either with a '*' at its end, perhaps followed by facts: native [cpu.hypervisor=yes; cpu.vendor=amd]";
            int bracket = value.IndexOf('[');
            string name = (bracket < 0 ? value : value[..bracket]).Trim();
            if (name.Length == 0 || name.Contains(' ') || name.IndexOf('*') is int star && star >= 0 && star != name.Length - 1)
            {
                throw Wrong(line, rule);
            }

            if (bracket < 0)
            {
                return new TargetPattern(name, []);
            }

            if (!value.EndsWith(']'))
            {
                throw Wrong(line, rule);
            }

            ImmutableArray<KeyValuePair<string, string>>.Builder facts = ImmutableArray.CreateBuilder<KeyValuePair<string, string>>();
            foreach (string fact in value[(bracket + 1)..^1].Split(';', StringSplitOptions.TrimEntries))
            {
                string[] parts = fact.Split('=', 2);
                facts.Add(parts.Length == 2 && parts[0].Length > 0 ? new(parts[0], parts[1]) : throw Wrong(line, rule));
            }

            return new TargetPattern(name, facts.ToImmutable());
        }

        private KnownFileException Wrong(int line, string problem) => new(file, line, problem);
    }
}
