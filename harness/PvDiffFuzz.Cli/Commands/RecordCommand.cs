using System.Collections.Immutable;
using System.CommandLine;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf record CORPUS... --out FILE</c>: stores what targets of this host answer, to be compared on another one.</summary>
internal static class RecordCommand
{
    private const int BatchSize = 256;
    private const string HostCpu = "host";

    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        Argument<string[]> corpus = new("corpus") { Description = "Case files, recordings (*.rec) for their cases, or folders that are searched for *.case.", Arity = ArgumentArity.ZeroOrMore };
        Option<string> save = new("--out") { Description = "The recording. An existing file is replaced when the new one is whole.", Required = true };
        Option<string> targets = new("--targets") { Description = $"Comma-separated targets: {string.Join(", ", composition.Names)}.", DefaultValueFactory = _ => "native" };
        Option<string> cpu = new("--cpu") { Description = "What models take for the processor of cases that name none: host, amd or intel.", DefaultValueFactory = _ => HostCpu };
        Option<string?> seed = new("--seed") { Description = "Seed of generated cases in hexadecimal, 1 to 16 digits." };
        Option<long> count = CommonOptions.Number("--count", "Also record so many generated cases.", 0, 0, Recording.MaximumCases);
        Option<string> abi = CommonOptions.GeneratedAbi();
        Option<long> length = CommonOptions.Number("--max-length", "Most instructions in a generated case; short ones have clear signatures.", 4, 1, GeneratorOptions.MaximumLength);
        Option<string?> comment = new("--comment") { Description = "What the recording is of, in one line." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("record", "Run cases and store every outcome with the fingerprint of this host; exit 2 when not all could be recorded.")
        {
            corpus, save, targets, cpu, seed, count, abi, length, comment, json,
        };
        command.SetAction(parsed => CommandLine.Guard(() =>
        {
            IReadOnlyList<string> names = composition.Parse(parsed.GetRequiredValue(targets));
            Abi generated = CommonOptions.ParseAbi(parsed.GetRequiredValue(abi));
            CpuProfile profile = Processor(parsed.GetRequiredValue(cpu), () => composition.ProcessorOf(generated, names));
            bool ofHost = parsed.GetRequiredValue(cpu) == HostCpu;
            GeneratorOptions options = GeneratorOptions.DefaultsFor(generated) with { MaximumInstructions = (int)parsed.GetValue(length) };
            RecordedCases cases = Cases(parsed.GetValue(corpus) ?? [], parsed.GetValue(seed), (int)parsed.GetValue(count), options, profile);
            string what = parsed.GetValue(comment) ?? $"What {string.Join(", ", names)} answered to {cases.Count} cases.";
            return Run(composition, cases, names, profile, ofHost, what, parsed.GetRequiredValue(save), parsed.GetValue(json));
        }));
        return command;
    }

    private static ExitCode Run(Composition composition, RecordedCases cases, IReadOnlyList<string> names, CpuProfile profile, bool ofHost, string comment, string path, bool json)
    {
        using CaseRunner runner = CaseRunner.Create([.. names.Select<string, Func<ITarget>>(name => () => composition.Create(name, profile))], CaseAnalyst.Blind);
        if (!ofHost && runner.Infos.FirstOrDefault(info => info.Kind != TargetKind.Model) is TargetInfo real)
        {
            throw new UsageException($"--cpu is for models only, and {real.Name} is none; leave --cpu out, or record the model alone");
        }

        Recording head = new() { Comment = comment, Host = profile, Targets = [.. runner.Infos.Select(RecordedSource.Of)] };
        if (head.CheckHead() is CaseProblem problem)
        {
            throw new UsageException($"--comment: {problem.Message}");
        }

        Tally tally = new(runner.Infos);
        using CtrlC interruption = new();
        AtomicFile.Write(path, stream => Record(runner, cases, new RecordingWriter(stream, head), tally, interruption.Token));
        Report(path, tally, json);
        if (tally.Count < tally.Planned)
        {
            Console.Error.WriteLine($"pvdf: stopped by request: {path} holds {tally.Count} of {tally.Planned} cases and says so");
        }

        return tally.Count < tally.Planned || tally.HarnessErrors > 0 ? ExitCode.Failed : ExitCode.Ok;
    }

    private static void Record(CaseRunner runner, RecordedCases cases, RecordingWriter writer, Tally tally, CancellationToken cancel)
    {
        Outcome[][] outcomes = [.. runner.Infos.Select(_ => new Outcome[BatchSize])];
        Progress progress = new("recorded", cases.Count);
        int twice = 0;
        foreach (CaseFile[] batch in cases.All().Chunk(BatchSize))
        {
            if (cancel.IsCancellationRequested)
            {
                break;
            }

            runner.Run([.. batch.Select(file => file.Case)], outcomes);
            for (int i = 0; i < batch.Length; i++)
            {
                RecordedOutcome[] answers = [.. runner.Infos.Select((info, target) => new RecordedOutcome(info.Name, info.Kind, info.Lineage, info.Fingerprint, outcomes[target][i]))];
                twice += Add(writer, batch[i] with { Outcomes = [.. answers] }, tally) ? 0 : 1;
            }

            progress.Show(writer.Count);
        }

        // A generated case that came twice is stored once.
        tally.Planned = cases.Count - twice;
        writer.Finish(tally.Planned);
    }

    private static bool Add(RecordingWriter writer, CaseFile file, Tally tally)
    {
        try
        {
            return tally.Add(writer.Add(file), file);
        }
        catch (InvalidOperationException trouble)
        {
            // One answer that is too long to store must not cost all others.
            CaseFile without = file with { Outcomes = [.. file.Outcomes.Select(o => o with { Outcome = Outcome.HarnessError(trouble.Message) })] };
            return tally.Add(writer.Add(without), without);
        }
    }

    private static void Report(string path, Tally tally, bool json)
    {
        if (json)
        {
            Json.Print(new
            {
                file = path,
                cases = tally.Count,
                planned = tally.Planned,
                targets = tally.Targets.Select((info, i) => new
                {
                    name = info.Name,
                    kind = info.Kind,
                    lineage = info.Lineage,
                    fingerprint = info.Fingerprint.ToString(),
                    ends = tally.Ends[i].OrderBy(end => end.Key).ToDictionary(end => end.Key.ToString(), end => end.Value, StringComparer.Ordinal),
                }),
            });
            return;
        }

        for (int i = 0; i < tally.Targets.Length; i++)
        {
            string ends = string.Join(", ", tally.Ends[i].OrderBy(end => end.Key).Select(end => $"{end.Value} {end.Key}"));
            Console.WriteLine($"target {tally.Targets[i].Name}: {ends}  [{tally.Targets[i].Fingerprint}]");
        }

        Console.WriteLine($"{tally.Count} of {tally.Planned} cases recorded in {path}");
    }

    private static RecordedCases Cases(string[] paths, string? seed, int count, GeneratorOptions options, CpuProfile profile)
    {
        if (count > 0 && seed is null)
        {
            throw new UsageException("--count without --seed: generated cases must be the same on every host, so give a seed in hexadecimal");
        }

        ulong number = seed is null ? 0 : FuzzOptions.ParseSeed(seed);
        RecordedCases cases = new(RecordedCases.Read(paths), count, new GeneratedCases(options, profile, number), number);
        return cases.Count > Recording.MaximumCases ? throw new UsageException($"{cases.Count} cases; a recording has at most {Recording.MaximumCases}")
            : cases.Count == 0 ? throw new UsageException("there is nothing to record; name case files or folders that hold some, or give --seed and --count")
            : cases;
    }

    private static CpuProfile Processor(string name, Func<CpuProfile> host) => name switch
    {
        HostCpu => host(),
        "amd" => CpuProfile.DefaultAmd,
        "intel" => CpuProfile.DefaultIntel,
        _ => throw new UsageException($"--cpu {name}: valid values are host, amd and intel"),
    };

    /// <summary>What was recorded so far.</summary>
    private sealed class Tally(ImmutableArray<TargetInfo> targets)
    {
        public ImmutableArray<TargetInfo> Targets { get; } = targets;

        public Dictionary<EndKind, int>[] Ends { get; } = [.. targets.Select(_ => new Dictionary<EndKind, int>())];

        public int Count { get; private set; }

        public int Planned { get; set; }

        public int HarnessErrors => Ends.Sum(ends => ends.GetValueOrDefault(EndKind.HarnessError));

        /// <summary>Counts a case if it was stored.</summary>
        /// <returns>True if it was.</returns>
        public bool Add(bool stored, CaseFile file)
        {
            Count += stored ? 1 : 0;
            for (int i = 0; stored && i < file.Outcomes.Length; i++)
            {
                EndKind end = file.Outcomes[i].Outcome.End;
                Ends[i][end] = Ends[i].GetValueOrDefault(end) + 1;
            }

            return stored;
        }
    }
}
