using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace PvDiffFuzz.Core;

/// <content>The outcomes that follow the case.</content>
internal sealed partial class CaseFileReader
{
    private readonly List<RecordedBuilder> _outcomes = [];

    private void StartOutcome(CaseFileLine line)
    {
        string[] words = line.Words;
        if (words.Length == 0 || _outcomes.Count == CaseFile.MaximumOutcomes)
        {
            throw line.Wrong("no target, or one outcome too many", $"write target kind=... lineage=... end=...; a case has at most {CaseFile.MaximumOutcomes} outcomes");
        }

        string[] values = line.Named(words.AsSpan(1), ["kind", "lineage", "end"]);
        _outcomes.Add(new RecordedBuilder(_case!.Registers with { Debug = null })
        {
            Target = words[0],
            Kind = (TargetKind)line.OneOf(values[0], "kind", CaseFileWords.Kinds),
            Lineage = values[1],
            End = (EndKind)line.OneOf(values[2], "end", CaseFileWords.Ends),
        });
    }

    private void TakeOutcome(CaseFileLine line)
    {
        if (_outcomes.Count == 0)
        {
            throw line.Wrong($"`{line.Key}` before any outcome", "start one with `outcome`");
        }

        RecordedBuilder outcome = _outcomes[^1];
        switch (line.Key)
        {
            case "fact":
                (string name, string fact) = line.Pair(line.Value);
                if (!outcome.FactNames.Add(name))
                {
                    throw line.Wrong($"{CaseFileText.Quote(name)} is stated twice", "state each fact once");
                }

                outcome.Facts.Add(new(name, fact));
                break;
            case "detail":
                outcome.Detail = (outcome.Detail ?? "") + Unescape(line);
                break;
            case "event":
                TakeEvent(line, outcome);
                break;
            case "regs":
                outcome.Last = CaseFileWords.Apply(line, outcome.Last, ref outcome.Seen);
                if (outcome.Events.Count == 0 || outcome.FinalKnown)
                {
                    throw line.Wrong("`regs` without an event before it", "`regs` says how the registers changed at the `event` above it");
                }

                outcome.Events[^1] = outcome.Events[^1] with { Registers = outcome.Last };
                break;
            case "frame":
                TakeFrame(line, outcome);
                break;
            case "state":
                SystemState state = outcome.System;
                TakeSystemValues(line, ref state);
                outcome.System = state;
                break;
            case "final":
                TakeFinal(line, outcome);
                break;
            case "seen":
                TakeSeen(line, outcome);
                break;
            default:
                TakeMemory(line, outcome);
                break;
        }
    }

    private static void TakeEvent(CaseFileLine line, RecordedBuilder outcome)
    {
        string[] words = line.Words;
        if (words.Length < 3 || outcome.FinalKnown)
        {
            throw line.Wrong("an event without its three first words, or after `final`", "write kind, vector and entry, as in `event fault 0e idt error=4 cr2=0`");
        }

        ReadOnlySpan<string> rest = words.AsSpan(3);
        uint? error = null;
        ulong? cr2 = null;
        if (rest.Length > 0 && line.Pair(rest[0]) is ("error", string code))
        {
            error = (uint)line.Hex(code, "error", uint.MaxValue);
            rest = rest[1..];
        }

        if (rest.Length > 0 && line.Pair(rest[0]) is ("cr2", string address))
        {
            cr2 = line.Hex(address, "cr2");
            rest = rest[1..];
        }

        if (rest.Length > 0)
        {
            throw line.Wrong($"{CaseFileText.Quote(rest[0])} is not expected here", "after the entry come error=... and cr2=... where the event has them");
        }

        outcome.Seen = 0;
        outcome.Events.Add(new Event(
            (EventKind)line.OneOf(words[0], "event", CaseFileWords.EventKinds),
            line.Byte(words[1], "vector"),
            error,
            cr2,
            (EntryPoint)line.OneOf(words[2], "entry", CaseFileWords.Entries),
            outcome.Last));
    }

    private static void TakeFrame(CaseFileLine line, RecordedBuilder outcome)
    {
        if (outcome.Events.Count == 0 || outcome.FinalKnown || outcome.Events[^1].Entry == EntryPoint.Idt)
        {
            throw line.Wrong("`frame` without an event of a paravirtual ABI before it", "`frame` has the bytes that the `event` above it stored; an IDT's are its registers");
        }

        ImmutableArray<byte>.Builder frame = ImmutableArray.CreateBuilder<byte>();
        frame.AddRange(outcome.Events[^1].Frame);
        foreach (string word in line.Words)
        {
            if (word.Length % 2 != 0 || !word.All(char.IsAsciiHexDigit) || frame.Count + (word.Length / 2) > FrameLayout.MaximumLength)
            {
                throw line.Wrong($"frame {CaseFileText.Quote(word)} is not bytes, or too many", $"use two hexadecimal digits a byte, in the order of memory, at most {FrameLayout.MaximumLength} bytes");
            }

            frame.AddRange(Convert.FromHexString(word));
        }

        if (line.Words.Length == 0)
        {
            throw line.Wrong("a frame without bytes", "write them, or leave the line out");
        }

        outcome.Events[^1] = outcome.Events[^1] with { Frame = frame.ToImmutable() };
    }

    private static void TakeFinal(CaseFileLine line, RecordedBuilder outcome)
    {
        bool word = line.Value is "none" or "same";
        if (line.Value.Length == 0 || outcome.FinalWord || (word && outcome.FinalKnown))
        {
            throw line.Wrong("`final` says nothing, or something beside `none` or `same`", "write `none`, `same`, or the registers that differ from the last event's");
        }

        outcome.Seen = outcome.FinalKnown ? outcome.Seen : 0;
        outcome.FinalKnown = true;
        outcome.FinalWord = word;
        outcome.Last = word ? outcome.Last : CaseFileWords.Apply(line, outcome.Last, ref outcome.Seen);
        outcome.Final = line.Value == "none" ? null : outcome.Last;
    }

    private static void TakeMemory(CaseFileLine line, RecordedBuilder outcome)
    {
        foreach (string word in line.Words)
        {
            (string addressText, string value) = line.Pair(word);
            ulong address = line.Hex(addressText, "address");
            if (address % 8 != 0 || (outcome.Memory.Count > 0 && address <= outcome.Memory[^1].Address))
            {
                throw line.Wrong($"{address:x} is not a multiple of 8 above the word before it", "list each aligned word once, in address order");
            }

            outcome.Memory.Add(new MemoryWord(address, line.Hex(value, "value")));
        }
    }

    /// <summary>Text with <c>\\</c> for a backslash and <c>\uXXXX</c> for a UTF-16 unit that cannot be shown.</summary>
    private static string Unescape(CaseFileLine line)
    {
        string text = line.Value;
        StringBuilder plain = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                plain.Append(text[i]);
            }
            else if (i + 1 < text.Length && text[i + 1] == '\\')
            {
                plain.Append('\\');
                i++;
            }
            else if (i + 5 < text.Length && text[i + 1] == 'u' && text.AsSpan(i + 2, 4).ContainsAnyExcept(HexDigits) == false)
            {
                plain.Append((char)ushort.Parse(text.AsSpan(i + 2, 4), NumberStyles.AllowHexSpecifier));
                i += 5;
            }
            else
            {
                throw line.Wrong("a lone backslash", "write \\\\ for a backslash and \\u with four hexadecimal digits for a character");
            }
        }

        return plain.ToString();
    }

    private static readonly System.Buffers.SearchValues<char> HexDigits = System.Buffers.SearchValues.Create("0123456789abcdefABCDEF");

    /// <summary>An outcome as far as it was read.</summary>
    private sealed class RecordedBuilder(RegisterState before)
    {
        /// <summary>Registers set by words since the last event or since <c>final</c> began, as bits.</summary>
        public ulong Seen;

        public required string Target { get; init; }

        public required TargetKind Kind { get; init; }

        public required string Lineage { get; init; }

        public required EndKind End { get; init; }

        public List<KeyValuePair<string, string>> Facts { get; } = [];

        public HashSet<string> FactNames { get; } = new(StringComparer.Ordinal);

        public string? Detail { get; set; }

        public List<Event> Events { get; } = [];

        /// <summary>Registers so far: those of the case, of the last event, then the final ones.</summary>
        public RegisterState Last { get; set; } = before;

        public RegisterState? Final { get; set; }

        public bool FinalKnown { get; set; }

        public bool FinalWord { get; set; }

        public SystemState System { get; set; } = SystemState.Empty;

        public List<MemoryWord> Memory { get; } = [];

        public List<MemoryRange> Ranges { get; } = [];

        public RecordedOutcome ToOutcome() => new(Target, Kind, Lineage, new Fingerprint([.. Facts]), new Outcome
        {
            End = End,
            Events = [.. Events],
            Registers = FinalKnown ? Final : Events.Count > 0 ? Last : null,
            System = System,
            Memory = [.. Memory],
            Seen = [.. Ranges],
            Detail = Detail,
        });
    }
}
