namespace PvDiffFuzz.Core;

/// <content>The head of a recording, which speaks of a processor and of fingerprints in the words of a case file.</content>
internal sealed partial class CaseFileReader
{
    private readonly List<SourceBuilder> _sources = [];

    /// <summary>Reads all lines as the head of a recording.</summary>
    /// <returns>A recording without cases.</returns>
    public Recording ReadHead()
    {
        CaseFileLine first = text.Lines[0];
        if (first.Key != "pvdf" || first.Words is not ["recording", _])
        {
            throw first.Wrong($"{CaseFileText.Quote($"{first.Key} {first.Value}")} is not the format line of a recording", $"after the comment comes `pvdf     recording {Recording.FormatVersion}`");
        }

        first.Count(first.Words[1], "format version", Recording.FormatVersion, Recording.FormatVersion);
        foreach (CaseFileLine line in text.Lines)
        {
            TakeHead(line);
        }

        CaseFileLine last = text.Lines[^1];
        Recording head = new() { Comment = text.Comment, Host = FinishProfile(last), Targets = [.. _sources.Select(s => s.ToSource())] };
        return head.CheckHead() is not CaseProblem problem ? head : throw new CaseFileException(text.File, text.LineOf(problem.Field), problem.Message);
    }

    private void TakeHead(CaseFileLine line)
    {
        if (line.Key is "pvdf" or "cpu" or "gate" or "end")
        {
            Once(line);
        }

        switch (line.Key)
        {
            case "pvdf" or "end":
                break;
            case "cpu" or "feature" or "gate" or "segment" or "reading" or "cpuid":
                TakeProfile(line);
                break;
            case "target":
                TakeSource(line);
                break;
            case "fact":
                TakeSourceFact(line);
                break;
            default:
                throw line.Wrong($"unknown key {CaseFileText.Quote(line.Key)}", "docs/recording-format.md lists the keys");
        }
    }

    private void TakeSource(CaseFileLine line)
    {
        string[] words = line.Words;
        if (words.Length == 0)
        {
            throw line.Wrong("no target", "write target kind=... lineage=...");
        }

        string[] values = line.Named(words.AsSpan(1), ["kind", "lineage"]);
        SourceBuilder source = new(words[0], (TargetKind)line.OneOf(values[0], "kind", CaseFileWords.Kinds), values[1]);
        if (CaseFile.CheckTarget("target", source.Name, source.Kind, source.Lineage) is CaseProblem problem)
        {
            throw new CaseFileException(line.File, line.Number, problem.Message);
        }

        if (_sources.Exists(s => s.Name == source.Name))
        {
            throw line.Wrong($"{CaseFileText.Quote(source.Name)} is named twice", "name each target once");
        }

        _sources.Add(source);
    }

    private void TakeSourceFact(CaseFileLine line)
    {
        if (_sources.Count == 0)
        {
            throw line.Wrong("`fact` before any target", "start one with `target`");
        }

        (string name, string value) = line.Pair(line.Value);
        _sources[^1].Facts.Add(new(name, value));
        if (CaseFile.CheckFacts(new Fingerprint([.. _sources[^1].Facts])) is CaseProblem problem)
        {
            throw new CaseFileException(line.File, line.Number, problem.Message);
        }
    }

    /// <summary>A target as far as it was read.</summary>
    private sealed class SourceBuilder(string name, TargetKind kind, string lineage)
    {
        public string Name { get; } = name;

        public TargetKind Kind { get; } = kind;

        public string Lineage { get; } = lineage;

        public List<KeyValuePair<string, string>> Facts { get; } = [];

        public RecordedSource ToSource() => new(Name, Kind, Lineage, new Fingerprint([.. Facts]));
    }
}
