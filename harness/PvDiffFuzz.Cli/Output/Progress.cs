using System.Diagnostics;

namespace PvDiffFuzz.Cli.Output;

/// <summary>Tells on stderr, every few seconds, how far a long piece of work is. Short work prints nothing.</summary>
/// <param name="what">What happened to the cases, such as <c>recorded</c>.</param>
/// <param name="of">Number of all cases.</param>
internal sealed class Progress(string what, long of)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    private long _last = Stopwatch.GetTimestamp();

    /// <summary>Says how many are done, if it is time to.</summary>
    public void Show(long done)
    {
        if (Stopwatch.GetElapsedTime(_last) >= Interval)
        {
            _last = Stopwatch.GetTimestamp();
            Console.Error.WriteLine($"{done} of {of} cases {what}");
        }
    }
}
