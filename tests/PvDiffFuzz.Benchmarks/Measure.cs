using System.Diagnostics;
using System.Globalization;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Times a piece of work in several rounds and prints the best and the median rate.</summary>
/// <remarks>Work on one thread is also given per second of processor time, which others on the machine disturb less.</remarks>
internal static class Measure
{
    private const int Rounds = 7;
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(4);

    /// <summary>Prints a line and returns the best rate.</summary>
    /// <param name="what">What is measured.</param>
    /// <param name="count">Units of work in a round.</param>
    /// <param name="work">One round.</param>
    /// <returns>Units a second in the best round.</returns>
    public static double Rate(string what, long count, Action work)
    {
        // The runtime compiles hot code anew in the background, and there are some thousand operations to compile.
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < WarmUp;)
        {
            work();
        }

        double[] rates = new double[Rounds];
        double busiest = 0;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Rounds; i++)
        {
            TimeSpan used = Environment.CpuUsage.TotalTime;
            long start = Stopwatch.GetTimestamp();
            work();
            rates[i] = count / Stopwatch.GetElapsedTime(start).TotalSeconds;
            busiest = Math.Max(busiest, count / (Environment.CpuUsage.TotalTime - used).TotalSeconds);
        }

        long bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / (Rounds * count);
        Array.Sort(rates);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{what,-44} {rates[^1],10:N0}/s best {rates[Rounds / 2],10:N0}/s median {busiest,10:N0} a second of this process {bytes,6:N0} bytes each"));
        return rates[^1];
    }

    /// <summary>Prints how many times the one is of the other.</summary>
    public static void Ratio(string what, double numerator, double denominator) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-58} {numerator / denominator,12:F2}"));
}
