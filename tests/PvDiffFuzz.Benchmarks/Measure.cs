using System.Diagnostics;
using System.Globalization;

namespace PvDiffFuzz.Benchmarks;

/// <summary>A piece of work that is timed.</summary>
/// <param name="What">What is measured.</param>
/// <param name="Count">Units of work in a round.</param>
/// <param name="Work">One round.</param>
internal sealed record Row(string What, long Count, Action Work);

/// <summary>Times pieces of work in several rounds and prints the best and the median rate of each.</summary>
/// <remarks>
/// Rows that are compared with each other take turns, round by round: a disturbance by others on the machine then hits all of them, and all run the code that the
/// runtime has compiled for all of them, whatever their order. Work on one thread is also given per second of processor time, which others disturb less.
/// </remarks>
internal static class Measure
{
    private const int Rounds = 9;

    /// <summary>Processor time for each row before it is timed. Not time by the clock: on a busy machine that would warm up less.</summary>
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(4);

    /// <summary>Prints a line and returns the best rate.</summary>
    /// <param name="what">What is measured.</param>
    /// <param name="count">Units of work in a round.</param>
    /// <param name="work">One round.</param>
    /// <returns>Units a second in the best round.</returns>
    public static double Rate(string what, long count, Action work) => Rates(new Row(what, count, work))[0];

    /// <summary>Prints a line for each row.</summary>
    /// <param name="rows">What takes turns.</param>
    /// <returns>Units a second in the best round, for each row.</returns>
    public static double[] Rates(params ReadOnlySpan<Row> rows)
    {
        // The runtime compiles hot code anew in the background, and there are some thousand operations to compile. Work that waits for a child uses little time of ours.
        TimeSpan before = Environment.CpuUsage.TotalTime;
        for (long start = Stopwatch.GetTimestamp(); Environment.CpuUsage.TotalTime - before < rows.Length * WarmUp && Stopwatch.GetElapsedTime(start) < rows.Length * WarmUp * 4;)
        {
            foreach (Row row in rows)
            {
                row.Work();
            }
        }

        double[,] rates = new double[rows.Length, Rounds];
        double[] busiest = new double[rows.Length];
        long[] bytes = new long[rows.Length];
        for (int round = 0; round < Rounds; round++)
        {
            for (int i = 0; i < rows.Length; i++)
            {
                long allocated = GC.GetAllocatedBytesForCurrentThread();
                TimeSpan used = Environment.CpuUsage.TotalTime;
                long start = Stopwatch.GetTimestamp();
                rows[i].Work();
                rates[i, round] = rows[i].Count / Stopwatch.GetElapsedTime(start).TotalSeconds;
                busiest[i] = Math.Max(busiest[i], rows[i].Count / (Environment.CpuUsage.TotalTime - used).TotalSeconds);
                bytes[i] += GC.GetAllocatedBytesForCurrentThread() - allocated;
            }
        }

        double[] best = new double[rows.Length];
        for (int i = 0; i < rows.Length; i++)
        {
            double[] sorted = [.. Enumerable.Range(0, Rounds).Select(round => rates[i, round]).Order()];
            best[i] = sorted[^1];
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{rows[i].What,-44} {best[i],10:N0}/s best {sorted[Rounds / 2],10:N0}/s median {busiest[i],10:N0} a second of this process {bytes[i] / (Rounds * rows[i].Count),6:N0} bytes each"));
        }

        return best;
    }

    /// <summary>Prints how many times the one is of the other.</summary>
    public static void Ratio(string what, double numerator, double denominator) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-58} {numerator / denominator,12:F2}"));
}
