using System.Buffers;
using System.Collections.Immutable;
using System.Text;

namespace PvDiffFuzz.Core;

/// <summary>Writes the canonical text of a case file: one spelling, one order, one way to break lines.</summary>
internal sealed partial class CaseFileWriter
{
    /// <summary>Column where values begin.</summary>
    private const int ValueColumn = 9;

    /// <summary>Columns that machine code gets before its comment.</summary>
    private const int CodeColumns = 35;

    /// <summary>Values that are lists break before this column.</summary>
    private const int WrapColumn = 112;

    /// <summary>This many equal bytes and more are written as a count.</summary>
    private const int ShortestFill = 8;

    /// <summary>Bytes or fills on a line of contents.</summary>
    private const int BytesOnLine = 16;

    /// <summary>Characters of a detail on a line.</summary>
    private const int DetailColumns = 160;

    private readonly StringBuilder _text = new();

    /// <summary>Writes a case file for which <see cref="CaseFile.Check"/> finds nothing.</summary>
    public static string Write(CaseFile file)
    {
        CaseFileWriter writer = new();
        writer.Head(file);
        writer.Start(file.Case);
        writer.Profile(file.Case.Profile);
        writer.Pages(file.Case);
        writer.Code(file.Case.Code, file.CodeComments);
        writer.Registers(file.Case.Registers);
        writer.SystemSide(file.Case);
        writer.Rest(file.Case);
        foreach (RecordedOutcome outcome in file.Outcomes)
        {
            writer.Blank();
            writer.Outcome(outcome, file.Case.Registers with { Debug = null });
        }

        writer.Blank();
        if (file.Verdict is string verdict)
        {
            writer.Line("verdict", verdict);
        }

        writer.Line("end", "");
        return writer._text.ToString();
    }

    private void Head(CaseFile file)
    {
        Comment(file.Comment);
        Line("pvdf", $"case {CaseFile.FormatVersion}");
        Line("id", file.Id);
        foreach (string spec in file.Spec)
        {
            Line("spec", spec);
        }

        if (file.Found is string found)
        {
            Line("found", found);
        }

        Blank();
        Line("abi", CaseFileWords.Abis[(int)file.Case.Abi]);
    }

    private void Comment(string comment)
    {
        foreach (string line in comment.Split('\n'))
        {
            _text.Append(line.Length == 0 ? "#" : "# ").Append(line).Append('\n');
        }
    }

    private void Profile(CpuProfile? profile)
    {
        if (profile is null)
        {
            return;
        }

        Line("cpu", $"{CaseFileWords.Vendors[(int)profile.Vendor]} family={profile.Family} linear={profile.LinearBits} gdt={profile.GdtLimit:x}");
        List("feature", profile.Features.Order(StringComparer.Ordinal));
        Line("gate", profile.UserGates.Count == 0 ? "none" : string.Join(' ', profile.UserGates.Order().Select(g => g.ToString("x2"))));
        if (profile.Descriptors.AsSpan().SequenceEqual(CpuProfile.DefaultDescriptors.AsSpan()))
        {
            Line("segment", "standard");
        }
        else if (profile.Descriptors.IsEmpty)
        {
            Line("segment", "none");
        }
        else
        {
            Segments(profile.Descriptors);
        }

        List("reading", profile.Readings.Select(r => $"{CaseFileWords.Readings[(int)r.Key]}={r.Value:x}"));
        foreach (CpuidLeaf l in profile.Cpuid)
        {
            string subleaf = l.Subleaf is uint number ? $"{number:x}" : "-";
            Line("cpuid", $"{l.Leaf:x} {subleaf} eax={l.Eax:x} ebx={l.Ebx:x} ecx={l.Ecx:x} edx={l.Edx:x}");
        }
    }

    private void Segments(ImmutableArray<SegmentDescriptor> descriptors)
    {
        foreach (SegmentDescriptor d in descriptors)
        {
            ReadOnlySpan<bool> flags = [d.System, d.Present, d.Long, d.Big, d.Granular, d.Available];
            StringBuilder value = new($"{d.Index} type={d.Type:x} dpl={d.Dpl} base={d.Base:x} limit={d.Limit:x}");
            for (int i = 0; i < flags.Length; i++)
            {
                value.Append(flags[i] ? " " + CaseFileWords.SegmentFlags[i] : "");
            }

            Line("segment", value.ToString());
        }
    }

    private void Code(CodeBlock code, ImmutableArray<string> comments)
    {
        Line("at", $"{code.Address:x}");
        int at = 0;
        for (int i = 0; i < code.Lengths.Length; i++)
        {
            string bytes = string.Join(' ', code.Bytes.Slice(at, code.Lengths[i]).Select(b => b.ToString("x2")));
            at += code.Lengths[i];
            Line("code", comments[i].Length == 0 ? bytes : $"{bytes.PadRight(CodeColumns)} ; {comments[i]}");
        }
    }

    private void Registers(RegisterState r)
    {
        RegisterState zero = r with { Gpr = default };
        List("gpr", CaseFileWords.Differences(zero, r));
        Line("rip", $"{r.Rip:x}");
        Line("rflags", $"{r.Rflags:x}");
        Line("sel", $"cs={r.Cs:x} ss={r.Ss:x} ds={r.Ds:x} es={r.Es:x} fs={r.Fs:x} gs={r.Gs:x}");
        if (r.FsBase != 0 || r.GsBase != 0)
        {
            Line("base", $"fs={r.FsBase:x} gs={r.GsBase:x}");
        }

        if (r.Pkru is uint pkru)
        {
            Line("pkru", $"{pkru:x}");
        }

        if (r.Debug is DebugRegisters d)
        {
            Line("dr", $"dr0={d.Dr0:x} dr1={d.Dr1:x} dr2={d.Dr2:x} dr3={d.Dr3:x} dr7={d.Dr7:x}");
        }
    }

    private void Rest(TestCase testCase)
    {
        foreach (MemoryContents run in testCase.Contents)
        {
            Contents(run);
        }

        foreach (Response response in testCase.Responses)
        {
            Response(response, testCase.Abi);
        }

        Line("limit", $"instructions={testCase.Limits.Instructions}");
    }

    private void Contents(MemoryContents run)
    {
        List<string> words = [];
        ReadOnlySpan<byte> rest = run.Bytes.AsSpan();
        while (!rest.IsEmpty)
        {
            int different = rest.IndexOfAnyExcept(rest[0]);
            int equal = different < 0 ? rest.Length : different;
            if (equal >= ShortestFill)
            {
                words.Add($"{rest[0]:x2}*{equal}");
            }
            else
            {
                words.AddRange(Enumerable.Repeat(rest[0].ToString("x2"), equal));
            }

            rest = rest[equal..];
        }

        string key = "bytes";
        string prefix = $"{run.Address:x} ";
        foreach (string[] line in words.Chunk(BytesOnLine))
        {
            Line(key, prefix + string.Join(' ', line));
            key = "+";
            prefix = "";
        }
    }

    private void Outcome(RecordedOutcome recorded, RegisterState before)
    {
        Outcome outcome = recorded.Outcome;
        Line("outcome", $"{recorded.Target} kind={CaseFileWords.Kinds[(int)recorded.Kind]} lineage={recorded.Lineage} end={CaseFileWords.Ends[(int)outcome.End]}");
        Facts(recorded.Fingerprint);
        if (outcome.Detail is string detail)
        {
            Detail(detail);
        }

        foreach (Event e in outcome.Events)
        {
            string error = e.ErrorCode is uint code ? $" error={code:x}" : "";
            string cr2 = e.Cr2 is ulong address ? $" cr2={address:x}" : "";
            Line("event", $"{CaseFileWords.EventKinds[(int)e.Kind]} {e.Vector:x2} {CaseFileWords.Entries[(int)e.Entry]}{error}{cr2}");
            List("regs", CaseFileWords.Differences(before, e.Registers));
            Frame(e);
            before = e.Registers;
        }

        Final(outcome, before);
        SystemValues("state", outcome.System);
        List("memory", outcome.Memory.Select(w => $"{w.Address:x}={w.Value:x}"));
        List("seen", outcome.Seen.Select(r => $"{r.Address:x}*{r.Length}"));
    }

    private void Facts(Fingerprint fingerprint)
    {
        foreach ((string name, string value) in fingerprint.Facts)
        {
            Line("fact", $"{name}={value}");
        }
    }

    /// <summary>Final registers: nothing to say when they are the last event's, or when there is neither an event nor a final state.</summary>
    private void Final(Outcome outcome, RegisterState last)
    {
        bool events = !outcome.Events.IsEmpty;
        if (outcome.Registers is not RegisterState final)
        {
            if (events)
            {
                Line("final", "none");
            }
        }
        else if (!final.Equals(last))
        {
            List("final", CaseFileWords.Differences(last, final));
        }
        else if (!events)
        {
            Line("final", "same");
        }
    }

    private void Detail(string detail)
    {
        List<string> pieces = [];
        for (ReadOnlySpan<char> rest = detail; !rest.IsEmpty;)
        {
            // A lone surrogate has no UTF-8, so it is written as its number, as is anything that a reader could not see.
            bool whole = Rune.DecodeFromUtf16(rest, out Rune rune, out int length) == OperationStatus.Done;
            bool plain = whole && CaseFileText.IsPlain(rune);
            pieces.Add(rest[0] == '\\' ? "\\\\" : plain ? rune.ToString() : $"\\u{(int)rest[0]:x4}");
            rest = rest[length..];
        }

        // A space at either end of a line would be lost, so it is written as an escape there.
        string[][] lines = pieces.Count == 0 ? [[]] : [.. pieces.Chunk(DetailColumns)];
        foreach (string[] line in lines)
        {
            for (int end = 0; line.Length > 0 && end < 2; end++)
            {
                int at = end * (line.Length - 1);
                line[at] = line[at] == " " ? "\\u0020" : line[at];
            }

            Line("detail", string.Concat(line));
        }
    }

    private void List(string key, IEnumerable<string> words)
    {
        StringBuilder value = new();
        foreach (string word in words)
        {
            if (value.Length > 0 && ValueColumn + value.Length + 1 + word.Length > WrapColumn)
            {
                Line(key, value.ToString());
                value.Clear();
            }

            value.Append(value.Length == 0 ? "" : " ").Append(word);
        }

        if (value.Length > 0)
        {
            Line(key, value.ToString());
        }
    }

    private void Line(string key, string value)
    {
        _text.Append(key);
        if (value.Length > 0)
        {
            _text.Append(' ', Math.Max(1, ValueColumn - key.Length)).Append(value);
        }

        _text.Append('\n');
    }

    private void Blank() => _text.Append('\n');
}
