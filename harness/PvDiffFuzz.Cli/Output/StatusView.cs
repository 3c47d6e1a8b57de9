using PvDiffFuzz.Cli.Commands;
using PvDiffFuzz.Harness;
using Spectre.Console;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Shows a running campaign on stderr: a live line on a terminal, a plain line every few seconds elsewhere.</summary>
internal sealed class StatusView : IDisposable
{
    private static readonly TimeSpan LiveInterval = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan PlainInterval = TimeSpan.FromSeconds(5);

    private readonly Campaign _campaign;
    private readonly Composition _composition;
    private readonly IReadOnlyList<string> _targets;
    private readonly ManualResetEventSlim _done = new();
    private readonly Thread _thread;

    /// <summary>Starts to show.</summary>
    public StatusView(Campaign campaign, Composition composition, FuzzSettings settings)
    {
        _campaign = campaign;
        _composition = composition;
        _targets = settings.Targets;
        bool live = !Console.IsErrorRedirected && !settings.Json;
        _thread = new Thread(live ? ShowLive : ShowPlain) { IsBackground = true, Name = "status" };
        _thread.Start();
    }

    /// <summary>Stops and leaves the last state on the screen.</summary>
    public void Dispose()
    {
        _done.Set();
        _thread.Join();
        _done.Dispose();
    }

    private void ShowLive()
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        console.Live(new Text(Line())).AutoClear(false).Start(context =>
        {
            while (!_done.Wait(LiveInterval))
            {
                context.UpdateTarget(new Text(Line()));
            }

            context.UpdateTarget(new Text(Line()));
        });
    }

    private void ShowPlain()
    {
        while (!_done.Wait(PlainInterval))
        {
            Console.Error.WriteLine(Line());
        }
    }

    private string Line()
    {
        CampaignProgress progress = _campaign.Progress;
        double seconds = Math.Max(progress.Elapsed.TotalSeconds, 0.001);
        string rates = string.Join(", ", _targets.Zip(progress.TargetRates, (name, rate) => $"{name} {rate:f0}/s"));
        return $"{progress.Elapsed:hh\\:mm\\:ss}  {progress.Cases} cases  {progress.Cases / seconds:f0}/s  ({rates})  new {progress.New} in {progress.Findings} findings, known {progress.Known}, "
            + $"explained {progress.Explained}  unsupported {progress.Unsupported}  harness errors {progress.HarnessErrors}  forms {_composition.Usage.Count}";
    }
}
