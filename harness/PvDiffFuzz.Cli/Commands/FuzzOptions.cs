using System.Collections.Immutable;
using System.CommandLine;
using System.Globalization;
using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Backends.Xen;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Cli.Commands;

/// <summary>What <c>fuzz</c> was asked to do, checked.</summary>
internal sealed record FuzzSettings(
    IReadOnlyList<string> Targets,
    CampaignOptions Campaign,
    GeneratorOptions Generator,
    string Output,
    string? Known,
    JournalState? Journal,
    string? JournalPath,
    bool SkipSuspects,
    GuideBy Guide,
    bool Sweep,
    string? Corpus,
    bool Json,
    bool Verbose);

/// <summary>The options of <c>fuzz</c>.</summary>
internal sealed class FuzzOptions(Composition composition)
{
    private readonly Composition _composition = composition;
    private readonly Option<string> _targets = CommonOptions.Targets(composition);
    private readonly Option<string?> _seed = new("--seed") { Description = "Campaign seed in hexadecimal, 1 to 16 digits; default: from the clock, and printed." };
    private readonly Option<long> _seconds = CommonOptions.Number("--seconds", "Stop after so many seconds; 0 for no limit.", 60, 0, 31_536_000);
    private readonly Option<long> _count = CommonOptions.Number("--count", "Stop after so many cases instead; 0 for no limit.", 0, 0, long.MaxValue);
    private readonly Option<long> _start = CommonOptions.Number("--start", "Index of the first case.", 0, 0, long.MaxValue);
    private readonly Option<long> _jobs = CommonOptions.Number("--jobs", "Threads, each with its own targets.", Environment.ProcessorCount, 1, 256);
    private readonly Option<string> _shard = new("--shard") { Description = "n/m: run the n-th of m parts of the campaign, n from 0.", DefaultValueFactory = _ => "0/1" };
    private readonly Option<string> _abi = CommonOptions.GeneratedAbi();
    private readonly Option<string?> _families = new("--families")
    {
        Description = $"Comma-separated families, each with an optional weight as in stack=3; default: all. Families: {string.Join(", ", Enum.GetNames<Family>().Select(n => n.ToLowerInvariant()))}.",
    };

    private readonly Option<long> _minimum = CommonOptions.Number("--min-length", "Fewest instructions in a case.", 1, 1, GeneratorOptions.MaximumLength);
    private readonly Option<long> _maximum = CommonOptions.Number("--max-length", "Most instructions in a case; 14 for PVM and Xen unless given.", 24, 1, GeneratorOptions.MaximumLength);
    private readonly Option<long> _raw = CommonOptions.Number("--raw-percent", "Share of cases that are byte mutations; 2 for PVM and Xen unless given.", 5, 0, 100);
    private readonly Option<long> _compatibility = CommonOptions.Number("--compat-percent", "Share of cases in compatibility mode; for PVM and Xen of those that start in user mode, 15 unless given.", 0, 0, 100);
    private readonly Option<long> _debug = CommonOptions.Number("--breakpoint-permille", "Share of cases per mille that arm debug registers; each costs native an attach.", 2, 0, 1000);
    private readonly Option<string> _out = new("--out") { Description = "Folder for findings and the journal.", DefaultValueFactory = _ => "findings" };
    private readonly Option<string?> _known = CommonOptions.Known();
    private readonly Option<string?> _resume = new("--resume") { Description = "Journal of a campaign that was cut short: go on where it stopped, with its seed, shard, targets and folder. Options that shape the cases must be given again." };
    private readonly Option<bool> _skip = new("--skip-suspects") { Description = "With --resume: leave out the ranges that were running." };
    private readonly Option<string> _guide = new("--guide")
    {
        Description = "What steers the campaign towards what no case showed before: coverage (edges of the model, sequences of events), rules (executed, confirmed), both as coverage,rules, or none: then a seed names its cases byte for byte.",
        DefaultValueFactory = _ => "coverage,rules",
    };

    private readonly Option<bool> _sweep = new("--sweep")
    {
        Description = "In place of random cases: every opcode with every prefix that gives it another meaning, one instruction a case, in order. Ends after one pass unless --count or --seconds ends it before; --start begins elsewhere.",
    };

    private readonly Option<string?> _corpus = new("--corpus") { Description = "Files or a folder of cases that a guided campaign begins with; default: none, with --resume the corpus that it kept." };
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly Option<bool> _verbose = new("--verbose") { Description = "Log more on stderr." };

    /// <summary>Adds all options to a command.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_targets, _seed, _seconds, _count, _start, _jobs, _shard, _abi, _families, _minimum, _maximum, _raw, _compatibility, _debug, _out, _known, _resume, _skip, _guide, _sweep, _corpus, _json, _verbose])
        {
            command.Add(option);
        }
    }

    /// <summary>Reads and checks the options.</summary>
    /// <exception cref="UsageException">One is wrong; the message names the valid values.</exception>
    public FuzzSettings Read(ParseResult parsed)
    {
        string? resume = parsed.GetValue(_resume);
        JournalState? journal = resume is null ? null : JournalState.Read(resume);
        if (resume is null && parsed.GetValue(_skip))
        {
            throw new UsageException("--skip-suspects: there is nothing to leave out without --resume JOURNAL");
        }

        long count = parsed.GetValue(_count);
        long seconds = parsed.GetValue(_seconds);
        bool sweep = parsed.GetValue(_sweep);
        bool timed = parsed.GetResult(_seconds)?.Implicit == false || (count == 0 && !sweep);
        CampaignOptions campaign = new()
        {
            Seed = parsed.GetValue(_seed) is null && journal is not null ? journal.Seed : ParseSeed(parsed.GetValue(_seed)),
            Start = (ulong)parsed.GetValue(_start),
            Count = count == 0 ? null : (ulong)count,
            Duration = timed && seconds > 0 ? TimeSpan.FromSeconds(seconds) : null,
            Jobs = (int)parsed.GetValue(_jobs),
            Shard = journal is not null && IsDefault(parsed, _shard) ? journal.Shard : ParseShard(parsed.GetRequiredValue(_shard)),
        };
        GeneratorOptions generator = ReadGenerator(parsed);
        string targets = journal is not null && IsDefault(parsed, _targets) ? string.Join(',', journal.Targets) : parsed.GetRequiredValue(_targets);
        IReadOnlyList<string> names = _composition.Parse(targets);
        GuideBy guide = GuideOf(parsed, names);
        if (sweep && guide != GuideBy.None)
        {
            guide = IsDefault(parsed, _guide) ? GuideBy.None : throw new UsageException($"--guide {parsed.GetValue(_guide)}: a sweep goes through its cases in order; leave one of the two out");
        }

        if (guide == GuideBy.None && parsed.GetValue(_corpus) is string unused)
        {
            throw new UsageException($"--corpus {unused}: only a guided campaign begins with cases; leave out --guide none");
        }

        string? wrong = campaign.Check() ?? generator.Check();
        string folder = resume is not null && IsDefault(parsed, _out) ? Path.GetDirectoryName(Path.GetFullPath(resume))! : parsed.GetRequiredValue(_out);
        return wrong is null
            ? new FuzzSettings(
                names,
                campaign with { Source = sweep ? $"sweep {OpcodeSweep.Version} {generator}" : guide == GuideBy.None ? generator.ToString() : $"{generator} {new GuideOptions { By = guide }}" },
                generator,
                folder,
                parsed.GetValue(_known),
                journal,
                resume,
                parsed.GetValue(_skip),
                guide,
                sweep,
                parsed.GetValue(_corpus),
                parsed.GetValue(_json),
                parsed.GetValue(_verbose))
            : throw new UsageException(wrong);
    }

    /// <summary>What steers. Live hypervisors take no guided cases: a mutant keeps to the generator's bytes, but not to all values that the generator keeps away from a host.</summary>
    private GuideBy GuideOf(ParseResult parsed, IReadOnlyList<string> targets)
    {
        string text = parsed.GetRequiredValue(_guide);
        GuideBy asked = ParseGuide(text);
        bool hypervisor = targets.Any(target => PvmTarget.IsName(target) || XenInstallations.IsName(target));
        return asked == GuideBy.None || !hypervisor ? asked
            : IsDefault(parsed, _guide) ? GuideBy.None
            : throw new UsageException($"--guide {text}: guided cases may hold values that a PVM or Xen host does not survive; leave it out, or use none, with these targets");
    }

    /// <summary>What was asked for; what was not is the default of the ABI.</summary>
    private GeneratorOptions ReadGenerator(ParseResult parsed)
    {
        GeneratorOptions usual = GeneratorOptions.DefaultsFor(CommonOptions.ParseAbi(parsed.GetRequiredValue(_abi)));
        return usual with
        {
            Weights = ParseFamilies(parsed.GetValue(_families)),
            MinimumInstructions = Value(_minimum, usual.MinimumInstructions),
            MaximumInstructions = Value(_maximum, usual.MaximumInstructions),
            RawPercent = Value(_raw, usual.RawPercent),
            CompatibilityPercent = Value(_compatibility, usual.CompatibilityPercent),
            DebugPermille = Value(_debug, usual.DebugPermille),
        };

        int Value(Option<long> option, int otherwise) => IsDefault(parsed, option) ? otherwise : (int)parsed.GetValue(option);
    }

    /// <summary>Reads a seed; null stands for one from the clock.</summary>
    /// <exception cref="UsageException">It is no seed.</exception>
    internal static ulong ParseSeed(string? text)
    {
        if (text is null)
        {
            return (ulong)DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        }

        return ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong seed)
            ? seed
            : throw new UsageException($"--seed {text}: a seed is 1 to 16 hexadecimal digits without 0x");
    }

    private static GuideBy ParseGuide(string text)
    {
        GuideBy guide = GuideBy.None;
        string[] words = text.Split(',', StringSplitOptions.TrimEntries);
        foreach (string word in words)
        {
            guide |= word switch
            {
                "coverage" => GuideBy.Coverage,
                "rules" => GuideBy.Rules,
                "none" when words.Length == 1 => GuideBy.None,
                _ => throw new UsageException($"--guide {text}: valid values are coverage, rules, coverage,rules and none"),
            };
        }

        return guide;
    }

    private static Shard ParseShard(string text)
    {
        string[] parts = text.Split('/');
        return parts.Length == 2 && int.TryParse(parts[0], out int number) && int.TryParse(parts[1], out int of) && of >= 1 && number >= 0 && number < of
            ? new Shard(number, of)
            : throw new UsageException($"--shard {text}: a shard is n/m with n from 0 to m - 1");
    }

    private static ImmutableSortedDictionary<Family, int> ParseFamilies(string? text)
    {
        if (text is null)
        {
            return GeneratorOptions.DefaultWeights;
        }

        ImmutableSortedDictionary<Family, int>.Builder weights = ImmutableSortedDictionary.CreateBuilder<Family, int>();
        foreach (string part in text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            string[] pair = part.Split('=');
            bool named = Enum.TryParse(pair[0], ignoreCase: true, out Family family) && Enum.IsDefined(family) && !char.IsAsciiDigit(pair[0][0]);
            int weight = 100;
            if (!named || pair.Length > 2 || (pair.Length == 2 && (!int.TryParse(pair[1], out weight) || weight is < 0 or > 10_000)))
            {
                throw new UsageException($"--families {part}: a family is one of {string.Join(", ", Enum.GetNames<Family>().Select(n => n.ToLowerInvariant()))}, with an optional weight of 0 to 10000 as in stack=3");
            }

            weights[family] = weight;
        }

        return weights.ToImmutable();
    }

    private static bool IsDefault(ParseResult parsed, Option option) => parsed.GetResult(option) is not { Implicit: false };
}
