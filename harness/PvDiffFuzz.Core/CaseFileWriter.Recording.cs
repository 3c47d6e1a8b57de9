namespace PvDiffFuzz.Core;

/// <content>What a recording has around its cases.</content>
internal sealed partial class CaseFileWriter
{
    /// <summary>Writes the head of a recording for which <see cref="Recording.CheckHead"/> finds nothing.</summary>
    public static string WriteHead(Recording recording)
    {
        CaseFileWriter writer = new();
        writer.Comment(recording.Comment);
        writer.Line("pvdf", $"recording {Recording.FormatVersion}");
        writer.Profile(recording.Host);
        foreach (RecordedSource target in recording.Targets)
        {
            writer.Line("target", $"{target.Name} kind={CaseFileWords.Kinds[(int)target.Kind]} lineage={target.Lineage}");
            writer.Facts(target.Fingerprint);
        }

        writer.Line("end", "");
        return writer._text.ToString();
    }

    /// <summary>Writes the end of a recording.</summary>
    /// <param name="count">Cases in the recording.</param>
    /// <param name="planned">Cases that were to be recorded.</param>
    public static string WriteFoot(int count, int planned)
    {
        CaseFileWriter writer = new();
        writer.Blank();
        writer.Line("cases", $"{count} of {planned}");
        writer.Line("end", "");
        return writer._text.ToString();
    }
}
