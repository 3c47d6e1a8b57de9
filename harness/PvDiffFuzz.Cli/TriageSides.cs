using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli;

/// <summary>The arguments of <c>triage</c> turned into sides: names of live targets, and recordings with one or more targets each.</summary>
internal sealed class TriageSides
{
    private readonly Composition _composition;
    private readonly List<(string Argument, Recording? Recording)> _arguments = [];

    /// <summary>Reads the recordings.</summary>
    /// <param name="composition">The live targets.</param>
    /// <param name="arguments">Names of live targets, and paths.</param>
    /// <exception cref="CaseFileException">A recording is bad.</exception>
    /// <exception cref="UsageException">An argument is neither, or stands twice, or there are fewer than two sides.</exception>
    public TriageSides(Composition composition, IReadOnlyList<string> arguments)
    {
        _composition = composition;
        foreach (string argument in arguments)
        {
            if (_arguments.Exists(a => a.Argument == argument))
            {
                throw new UsageException($"{argument} is named twice");
            }

            bool live = composition.Knows(argument);
            _arguments.Add(live || File.Exists(argument)
                ? (argument, live ? null : Recording.Read(argument))
                : throw new UsageException($"{argument}: there is no such recording, and no such target; the targets are {string.Join(", ", composition.Names)}"));
        }

        int sides = _arguments.Sum(a => a.Recording?.Targets.Length ?? 1);
        if (sides < 2)
        {
            throw new UsageException("one side cannot differ from itself; name two recordings or targets, or one recording of two targets");
        }
    }

    /// <summary>The recordings with their paths.</summary>
    public IEnumerable<(string Path, Recording Recording)> Recordings => _arguments.Where(a => a.Recording is not null).Select(a => (a.Argument, a.Recording!));

    /// <summary>The processor for cases that name none: that of the first recording that has one, else the one at hand.</summary>
    public CpuProfile Processor => Recordings.Select(r => r.Recording.Host).FirstOrDefault(host => host is not null) ?? _composition.Host;

    /// <summary>Makers of all processors at hand, that of <see cref="Processor"/> first.</summary>
    public ImmutableArray<CpuVendor> Vendors
    {
        get
        {
            IEnumerable<CpuVendor> recorded = Recordings.Select(r => r.Recording.Host?.Vendor).OfType<CpuVendor>();
            IEnumerable<CpuVendor> live = _arguments.Exists(a => a.Recording is null) ? [_composition.Host.Vendor] : [];
            return [.. recorded.Prepend(Processor.Vendor).Concat(live).Distinct()];
        }
    }

    /// <summary>Makes the sides; models follow <see cref="Processor"/>.</summary>
    /// <exception cref="TargetUnavailableException">A live target does not work on this host.</exception>
    public ImmutableArray<TriageSide> Make()
    {
        List<TriageSide> sides = [];
        try
        {
            Dictionary<string, int> uses = Recordings.SelectMany(r => r.Recording.Targets).GroupBy(t => t.Name, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.Count(), StringComparer.Ordinal);
            string[] labels = Labels();
            for (int i = 0; i < _arguments.Count; i++)
            {
                (string argument, Recording? recording) = _arguments[i];
                if (recording is null)
                {
                    sides.Add(new TriageSide(_composition.Create(argument, Processor), null));
                    continue;
                }

                for (int target = 0; target < recording.Targets.Length; target++)
                {
                    string name = recording.Targets[target].Name;
                    string full = uses[name] > 1 ? $"{RecordedTarget.Prefix}{name}:{labels[i]}" : RecordedTarget.Prefix + name;
                    sides.Add(new TriageSide(recording.TargetAt(target, full, TargetMasks.Of(name)), argument));
                }
            }

            return [.. sides];
        }
        catch
        {
            sides.ForEach(s => s.Target.Dispose());
            throw;
        }
    }

    /// <summary>A short name for each argument: its file's name without ending, with the argument's number where two are alike.</summary>
    private string[] Labels()
    {
        string[] stems = [.. _arguments.Select(a => Path.GetFileNameWithoutExtension(a.Argument).ToLowerInvariant())];
        string[] plain = [.. stems.Select(stem => string.Concat(stem.Take(40).Select(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '.' or '_' ? c : '-')))];
        return [.. plain.Select((label, i) => plain.Count(l => l == label) > 1 || label.Length == 0 ? $"{label}-{i + 1}" : label)];
    }
}
