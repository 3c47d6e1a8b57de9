using System.Collections.Immutable;
using System.Text;

namespace PvDiffFuzz.Core;

/// <summary>A target whose answers a recording holds.</summary>
/// <param name="Name">Name of the target, such as <c>native</c>; unique in its recording.</param>
/// <param name="Kind">What executed.</param>
/// <param name="Lineage">Targets of one lineage count as one vote.</param>
/// <param name="Fingerprint">Facts that identify what ran; no name occurs twice.</param>
public sealed record RecordedSource(string Name, TargetKind Kind, string Lineage, Fingerprint Fingerprint)
{
    /// <summary>Describes a target that is about to be recorded.</summary>
    public static RecordedSource Of(TargetInfo target)
    {
        ArgumentNullException.ThrowIfNull(target);
        return new RecordedSource(target.Name, target.Kind, target.Lineage, target.Fingerprint);
    }
}

/// <summary>What targets of one host answered to many cases: one text file, to be carried to another host. docs/recording-format.md is the reference.</summary>
/// <remarks>
/// Every recording has one canonical text, and nothing else is read, so that writing what was read gives the same bytes. Its last lines count the cases: a file
/// that was cut off anywhere is seen to be cut off.
/// </remarks>
public sealed record Recording
{
    /// <summary>Version of the format, in the first line after the comment.</summary>
    public const int FormatVersion = 1;

    /// <summary>Most targets in a recording.</summary>
    public const int MaximumTargets = 16;

    /// <summary>Most cases in a recording.</summary>
    public const int MaximumCases = 1_000_000;

    /// <summary>Ending of the files, with its dot.</summary>
    public const string Extension = ".rec";

    /// <summary>What the recording is of, for a reader: at least one line, lines separated by <c>\n</c>, without the leading <c>#</c>.</summary>
    public required string Comment { get; init; }

    /// <summary>The processor of the host, for cases that name none; null when nobody knows.</summary>
    public CpuProfile? Host { get; init; }

    /// <summary>Who answered, in the order of every case's outcomes; at least one.</summary>
    public required ImmutableArray<RecordedSource> Targets { get; init; }

    /// <summary>Different inputs, each with one outcome a target, in the order of <see cref="Targets"/>, and without a verdict.</summary>
    public ImmutableArray<CaseFile> Cases { get; init; } = [];

    /// <summary>How many cases were to be recorded; more than <see cref="Cases"/> has when somebody stopped it.</summary>
    public int Planned { get; init; }

    /// <summary>Reads a file in canonical form.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">The file cannot be read or is not a canonical recording.</exception>
    public static Recording Read(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        try
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
            return Read(stream, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new CaseFileException(path, 1, $"cannot be read: {e.Message}; name a readable recording", e);
        }
    }

    /// <summary>Reads a stream to its end, or to the first thing that is wrong. Holds no more than one case's text at a time.</summary>
    /// <param name="stream">Where to read.</param>
    /// <param name="fileName">Name for messages.</param>
    /// <exception cref="CaseFileException">The stream does not hold a canonical recording.</exception>
    /// <exception cref="IOException">The stream failed.</exception>
    public static Recording Read(Stream stream, string fileName)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(fileName);
        return new RecordingReader(stream, fileName).Read();
    }

    /// <summary>Finds what makes the description of the targets impossible to store.</summary>
    /// <returns>Null when there is nothing, else the first problem, with the key of the format that carries it.</returns>
    public CaseProblem? CheckHead()
    {
        if ((CaseFile.CheckComment(Comment) ?? CaseFile.CheckProfile(Host)) is CaseProblem problem)
        {
            return problem;
        }

        if (Targets.Length is 0 or > MaximumTargets)
        {
            return new CaseProblem("target", $"{Targets.Length} targets; a recording has 1 to {MaximumTargets}");
        }

        HashSet<string> names = new(StringComparer.Ordinal);
        foreach (RecordedSource target in Targets)
        {
            if ((CaseFile.CheckTarget("target", target.Name, target.Kind, target.Lineage) ?? CaseFile.CheckFacts(target.Fingerprint)) is CaseProblem found)
            {
                return found;
            }

            if (!names.Add(target.Name))
            {
                return new CaseProblem("target", $"{CaseFileText.Quote(target.Name)} is named twice; record each target once");
            }
        }

        return null;
    }

    /// <summary>One of the targets, answering as it did.</summary>
    /// <param name="index">Index into <see cref="Targets"/>.</param>
    /// <param name="name">Name to give it; it starts with <see cref="RecordedTarget.Prefix"/> or gets that.</param>
    /// <param name="masks">What the target could not show.</param>
    public RecordedTarget TargetAt(int index, string name, ImmutableArray<TargetMask> masks)
    {
        RecordedSource source = Targets[index];
        TargetInfo info = new(name, source.Kind, source.Lineage, RecordedTarget.AllCapabilities, source.Fingerprint) { Masks = masks };
        return new RecordedTarget(info, Cases.Select(file => KeyValuePair.Create(file.Case, file.Outcomes[index].Outcome)));
    }

    /// <summary>The canonical text. Reading it gives an equal recording, and reading and writing it again gives the same bytes.</summary>
    /// <exception cref="InvalidOperationException">The head or a case cannot be stored.</exception>
    public string Write()
    {
        using MemoryStream text = new();
        RecordingWriter writer = new(text, this);
        foreach (CaseFile file in Cases)
        {
            writer.Add(file);
        }

        writer.Finish(Planned);
        return Encoding.UTF8.GetString(text.GetBuffer(), 0, (int)text.Length);
    }

    /// <inheritdoc/>
    public bool Equals(Recording? other) =>
        ReferenceEquals(this, other)
        || (other is not null && string.Equals(Comment, other.Comment, StringComparison.Ordinal) && Equals(Host, other.Host)
            && Targets.AsSpan().SequenceEqual(other.Targets.AsSpan()) && Cases.AsSpan().SequenceEqual(other.Cases.AsSpan()) && Planned == other.Planned);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Comment, Targets.Length, Cases.Length, Planned);
}
