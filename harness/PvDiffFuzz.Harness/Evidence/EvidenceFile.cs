using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace PvDiffFuzz.Harness;

/// <summary>Evidence that cannot be read. The message names the file and the cure.</summary>
/// <param name="message">File, problem and cure.</param>
/// <param name="inner">What the reader said.</param>
public sealed class EvidenceFileException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>The stored form of <see cref="CampaignEvidence"/>: JSON, one file a campaign, in the campaign's folder.</summary>
public static class EvidenceFile
{
    /// <summary>Ending of the files.</summary>
    public const string Extension = ".evidence.json";

    private const int FormatVersion = 1;

    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        IndentSize = 1,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Replaces a file.</summary>
    /// <exception cref="IOException">It could not be written; an existing one is as before.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written.</exception>
    public static void Write(string path, CampaignEvidence evidence) =>
        AtomicFile.Write(path, JsonSerializer.Serialize(new Stored(FormatVersion, evidence), Options) + "\n");

    /// <summary>Reads a file.</summary>
    /// <exception cref="EvidenceFileException">It holds no evidence, or that of another version.</exception>
    /// <exception cref="IOException">It could not be read.</exception>
    public static CampaignEvidence Read(string path)
    {
        try
        {
            Stored? stored = JsonSerializer.Deserialize<Stored>(File.ReadAllText(path), Options);
            return stored is { Format: FormatVersion, Evidence: CampaignEvidence evidence } && !evidence.Rules.IsDefault && !evidence.Masks.IsDefault
                ? evidence
                : throw new EvidenceFileException($"{path}: evidence of format {stored?.Format}, not {FormatVersion}; run the campaign again with this version");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new EvidenceFileException($"{path}: no evidence of a campaign: {e.Message} Remove the file, or run the campaign again", e);
        }
    }

    /// <summary>The sum of all files in a folder and the folders below it.</summary>
    /// <param name="folder">A campaign's folder, or one of several such folders.</param>
    /// <exception cref="EvidenceFileException">A file cannot be read, or there is none.</exception>
    public static CampaignEvidence ReadFolder(string folder)
    {
        ImmutableArray<string> files = [.. Directory.EnumerateFiles(folder, "*" + Extension, SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        return files.IsEmpty
            ? throw new EvidenceFileException($"{folder}: there is no *{Extension}; give the --out folder of a campaign")
            : files.Select(Read).Aggregate(CampaignEvidence.None, (sum, evidence) => sum.Add(evidence));
    }

    private sealed record Stored(int Format, CampaignEvidence? Evidence);
}
