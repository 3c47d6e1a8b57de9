using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace PvDiffFuzz.Harness;

/// <summary>Names what was running, on disk before it runs, so that a crash of the host names its culprit.</summary>
/// <remarks>
/// A text of a few lines: a header, then <c>run JOB FIRST COUNT</c> before a range starts (flushed to the disk) and <c>done NEXT</c> when everything below NEXT is run and its
/// findings are saved. It is rewritten when it reaches <see cref="CompactAt"/> bytes. Numbers are hexadecimal.
/// </remarks>
internal sealed class Journal : IDisposable
{
    private const long CompactAt = 32_768;
    private readonly string _path;
    private readonly string _header;
    private readonly SortedDictionary<int, CaseRange> _running = [];
    private ulong _next;
    private FileStream _stream;

    /// <summary>Starts a journal, replacing an older one.</summary>
    /// <exception cref="IOException">The file cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written.</exception>
    public Journal(string path, CampaignOptions options, IEnumerable<string> targets)
    {
        _path = path;
        _next = options.Start;
        _header = string.Create(
            CultureInfo.InvariantCulture,
            $"{JournalState.FirstLine}\njournal {JournalState.Version}\nseed {options.Seed:x}\nshard {options.Shard}\nrange {options.RangeSize:x}\ntargets {string.Join(' ', targets)}\nsource {options.Source}\n");
        _stream = Rewrite();
    }

    /// <summary>Tells that a job is about to run a range. On disk when this returns.</summary>
    public void Running(int job, CaseRange range)
    {
        _running[job] = range;
        if (_stream.Length > CompactAt)
        {
            _stream.Dispose();
            _stream = Rewrite();
        }
        else
        {
            Append(RunLine(job, range), toDisk: true);
        }
    }

    /// <summary>Tells that all cases below an index are run and what they gave is saved.</summary>
    public void Done(ulong next)
    {
        _next = next;
        Append(DoneLine(next), toDisk: false);
    }

    /// <summary>Tells that the campaign ended by itself, so that nothing is suspect.</summary>
    public void End()
    {
        Append("end\n", toDisk: true);
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private static string RunLine(int job, CaseRange range) => string.Create(CultureInfo.InvariantCulture, $"run {job:x} {range.First:x} {range.Count:x}\n");

    private static string DoneLine(ulong next) => string.Create(CultureInfo.InvariantCulture, $"done {next:x}\n");

    private FileStream Rewrite()
    {
        AtomicFile.Write(_path, _header + DoneLine(_next) + string.Concat(_running.Select(r => RunLine(r.Key, r.Value))));
        return new FileStream(_path, FileMode.Append, FileAccess.Write, FileShare.Read, bufferSize: 0);
    }

    private void Append(string line, bool toDisk)
    {
        _stream.Write(Encoding.ASCII.GetBytes(line));
        if (toDisk)
        {
            _stream.Flush(flushToDisk: true);
        }
    }
}

/// <summary>What a journal says.</summary>
public sealed record JournalState
{
    /// <summary>Version of the format.</summary>
    public const int Version = 1;

    /// <summary>Comment at the top of every journal.</summary>
    public const string FirstLine = "# Cases that a campaign was running; what has run and is not done when the host crashed holds the culprit.";

    /// <summary>Seed of the campaign.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Its shard.</summary>
    public required Shard Shard { get; init; }

    /// <summary>Its range size.</summary>
    public required int RangeSize { get; init; }

    /// <summary>Names of its targets.</summary>
    public required ImmutableArray<string> Targets { get; init; }

    /// <summary>What made its cases; empty when nobody said.</summary>
    public string Source { get; init; } = "";

    /// <summary>All cases below this index were run and their findings saved.</summary>
    public required ulong Next { get; init; }

    /// <summary>True when the campaign ended by itself.</summary>
    public required bool Ended { get; init; }

    /// <summary>What each job was running when the journal stopped; empty when the campaign ended by itself.</summary>
    public required ImmutableArray<CaseRange> Suspects { get; init; }

    /// <summary>Options that go on where the journal stopped.</summary>
    /// <param name="options">The options of the stopped campaign.</param>
    /// <param name="skipSuspects">Leave out what was running when it stopped.</param>
    /// <exception cref="JournalException">The options name another campaign.</exception>
    public CampaignOptions Continue(CampaignOptions options, bool skipSuspects)
    {
        if (options.Seed != Seed || options.Shard != Shard || options.RangeSize != RangeSize || options.Start > Next)
        {
            throw new JournalException($"the journal is of seed {Seed:x}, shard {Shard}, ranges of {RangeSize}, up to case {Next:x}; give the same options, or another journal");
        }

        if (Source.Length > 0 && options.Source.Length > 0 && options.Source != Source)
        {
            throw new JournalException($"the journal is of cases made by '{Source}', not by '{options.Source}'; give the same options, or another journal");
        }

        ulong done = Next - options.Start;
        return options with
        {
            Start = Next,
            Count = options.Count is ulong count ? count - Math.Min(count, done) : null,
            Skip = skipSuspects ? options.Skip.AddRange(Suspects) : options.Skip,
        };
    }

    /// <summary>Reads a journal. A last line without its line feed was being written when the host stopped and is ignored.</summary>
    /// <exception cref="JournalException">The file cannot be read or is no journal.</exception>
    public static JournalState Read(string path)
    {
        string[] lines;
        try
        {
            using FileStream stream = File.OpenRead(path);
            byte[] bytes = new byte[1 << 20];
            lines = Encoding.ASCII.GetString(bytes, 0, stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false)).Split('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new JournalException($"{path}:1: cannot be read: {e.Message}", e);
        }

        return new Parser(path).Parse(lines.AsSpan(0, lines.Length - 1));
    }

    private sealed class Parser(string path)
    {
        private readonly Dictionary<string, string> _header = new(StringComparer.Ordinal);
        private readonly SortedDictionary<ulong, CaseRange> _running = [];
        private ulong _next;
        private bool _ended;

        public JournalState Parse(ReadOnlySpan<string> lines)
        {
            for (int i = 0; i < lines.Length; i++)
            {
                if (lines[i].Length > 0 && lines[i][0] != '#')
                {
                    Take(i + 1, lines[i].Split(' ', 2));
                }
            }

            foreach (string key in (string[])["journal", "seed", "shard", "range", "targets"])
            {
                if (!_header.ContainsKey(key))
                {
                    throw Wrong(lines.Length + 1, $"no '{key}'; this is no journal, or it was cut short");
                }
            }

            string[] shard = _header["shard"].Split('/');
            return new JournalState
            {
                Seed = Number(1, _header["seed"]),
                Shard = shard.Length == 2 ? new Shard((int)Number(1, shard[0]), (int)Number(1, shard[1])) : throw Wrong(1, "a shard is two numbers and a slash"),
                RangeSize = (int)Number(1, _header["range"]),
                Targets = [.. _header["targets"].Split(' ')],
                Source = _header.GetValueOrDefault("source", ""),
                Next = _next,
                Ended = _ended,
                Suspects = _ended ? [] : [.. _running.Values.Where(r => r.First + r.Count > _next).OrderBy(r => r.First)],
            };
        }

        private void Take(int line, string[] words)
        {
            string value = words.Length == 2 ? words[1] : "";
            switch (words[0])
            {
                case "journal" when value != Version.ToString(CultureInfo.InvariantCulture):
                    throw Wrong(line, $"version '{value}'; this program reads version {Version}");
                case "journal" or "seed" or "shard" or "range" or "targets" or "source":
                    _header[words[0]] = value;
                    break;
                case "run" when value.Split(' ') is [string job, string first, string count]:
                    _running[Number(line, job)] = new CaseRange(Number(line, first), Number(line, count));
                    break;
                case "done":
                    _next = Number(line, value);
                    break;
                case "end":
                    _ended = true;
                    break;
                default:
                    throw Wrong(line, $"'{words[0]}' is no journal line; there are journal, seed, shard, range, targets, source, run JOB FIRST COUNT, done NEXT and end");
            }
        }

        private ulong Number(int line, string text) =>
            ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong number) ? number : throw Wrong(line, $"'{text}' is no hexadecimal number");

        private JournalException Wrong(int line, string problem) => new($"{path}:{line}: {problem}");
    }
}

/// <summary>A journal that cannot be used.</summary>
/// <param name="message">What is wrong and what would be right.</param>
/// <param name="inner">What the system said.</param>
public sealed class JournalException(string message, Exception? inner = null) : Exception(message, inner);
