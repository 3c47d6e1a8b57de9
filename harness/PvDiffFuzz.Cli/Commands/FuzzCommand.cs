using System.CommandLine;
using Microsoft.Extensions.Logging;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli.Commands;

/// <summary><c>pvdf fuzz</c>: the main job. Generates cases, runs them on every target, and saves what diverges.</summary>
internal static class FuzzCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Composition composition)
    {
        FuzzOptions options = new(composition);
        Command command = new("fuzz", "Generate cases, run them on every target, reproduce, minimise and save what diverges; exit 1 when something new was found.");
        options.AddTo(command);
        command.SetAction(parsed => CommandLine.Guard(() => Run(composition, options.Read(parsed))));
        return command;
    }

    /// <summary>Runs a campaign with a live status until it ends or Ctrl-C.</summary>
    private static ExitCode Run(Composition composition, FuzzSettings settings)
    {
        using ILoggerFactory logs = Log.Factory(settings.Verbose);
        ILogger log = logs.CreateLogger("fuzz");
        CampaignOptions options = settings.Journal?.Continue(settings.Campaign, settings.SkipSuspects) ?? settings.Campaign;
        KnownSet known = Session.Known(settings.Known);
        CpuProfile processor = composition.ProcessorOf(settings.Generator.Abi, settings.Targets, keep: true);
        if (settings.Sweep && options.Count is null)
        {
            ulong all = SweepOf(settings, processor, options.Seed).Count;
            options = options with { Count = all - Math.Min(all, options.Start) };
        }

        Directory.CreateDirectory(settings.Output);
        string name = Path.Combine(settings.Output, $"{options.Seed:x}-{options.Shard.Number}");
        CampaignEvidence before = Before(name + EvidenceFile.Extension, settings);
        CampaignParts parts = new()
        {
            Targets = [.. settings.Targets.Select<string, Func<ITarget>>(name => () => composition.Create(name, processor))],
            Source = () => settings.Sweep ? SweepOf(settings, processor, options.Seed) : new GeneratedCases(settings.Generator, processor, options.Seed),
            Analyst = () => Session.Analyst(processor, settings.Targets),
            Known = known,
            Store = new FolderStore(settings.Output, finding => FindingText.Of(finding, processor, settings.Sweep ? $"sweep {OpcodeSweep.Version} seed {finding.Seed:x}:{finding.Index}" : null)),
            JournalPath = settings.JournalPath ?? name + ".journal",
            Rules = ModelsByAbi.CanCount && ModelsByAbi.Of(settings.Generator.Abi) is ModelParts model ? () => model.Probed(processor, null) : null,
            SaveEvidence = evidence => EvidenceFile.Write(name + EvidenceFile.Extension, before.Add(evidence with { Forms = composition.FormsUsed })),
            Allowed = testCase => Session.MayRunLive(testCase, processor),
        };
        parts = parts with { Guide = Guide(composition, processor, settings, options, name, log) };
        Campaign campaign = new(options, parts);
        CampaignSummary summary;
        log.LogInformation("seed {Seed:x}, shard {Shard}, {Jobs} jobs, targets {Targets}", options.Seed, options.Shard, options.Jobs, string.Join(", ", settings.Targets));
        using (CtrlC interruption = new())
        using (StatusView status = new(campaign, composition, settings))
        {
            summary = campaign.Run(interruption.Token);
        }

        foreach (string trouble in summary.Troubles)
        {
            log.LogWarning("{Trouble}", trouble);
        }

        if (settings.Json)
        {
            Json.Print(SummaryView.Of(summary));
        }
        else
        {
            SummaryView.Print(summary, composition.Usage.Count);
        }

        if (summary is { Cases: > 0, Comparable: 0 })
        {
            log.LogWarning("nothing was compared: {Why}", settings.Targets.Count < 2 ? "one target alone shows no divergence; name two" : "no case ran on two targets");
        }

        if (summary.Failure is Exception failure)
        {
            log.LogError("the campaign stopped: {Failure}", settings.Verbose ? failure : failure.Message);
            return ExitCode.Failed;
        }

        bool unsaved = summary.Findings.Any(found => found.Path is null) || summary.Troubles.Length > 0;
        bool idle = settings.Targets.Count > 1 && summary is { Cases: > 0, Comparable: 0 };
        return unsaved || idle ? ExitCode.Failed
            : summary.Findings.Any() ? ExitCode.Diverged
            : ExitCode.Ok;
    }

    private static OpcodeSweep SweepOf(FuzzSettings settings, CpuProfile processor, ulong seed)
    {
        try
        {
            return new OpcodeSweep(settings.Generator, processor, seed);
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message);
        }
    }

    /// <summary>What steers the campaign, or null.</summary>
    private static GuideParts? Guide(Composition composition, CpuProfile processor, FuzzSettings settings, CampaignOptions options, string name, ILogger log)
    {
        if (settings.Guide == GuideBy.None)
        {
            return null;
        }

        if (!ModelsByAbi.CanCount || ModelsByAbi.Of(settings.Generator.Abi) is not ModelParts model)
        {
            log.LogWarning("not guided: {Why}", ModelsByAbi.CanCount ? $"there is no model of {settings.Generator.Abi.Text()}" : "there is no instrumented model beside this program");
            return null;
        }

        CorpusFolder kept = new(name + CorpusFolder.Extension);
        string? corpus = settings.Corpus ?? (settings.Journal is not null && Directory.Exists(kept.Path) ? kept.Path : null);
        int target = settings.Targets.ToList().IndexOf(model.Name);
        return new GuideParts
        {
            Options = new GuideOptions { By = settings.Guide },
            Model = () => model.Probed(processor, composition.Usage),
            Source = () => new Swarm(settings.Generator, processor, options.Seed),
            Target = target < 0 ? null : target,
            Corpus = corpus is null ? [] : CorpusFolder.Read(corpus, settings.Generator.Abi, testCase => Session.MayRunLive(testCase, processor)),
            Save = cases => kept.Save(cases, options.Seed),
        };
    }

    /// <summary>What a campaign showed before it was cut short; a new campaign starts from nothing.</summary>
    private static CampaignEvidence Before(string path, FuzzSettings settings) =>
        settings.Journal is not null && File.Exists(path) ? EvidenceFile.Read(path) : CampaignEvidence.None;
}
