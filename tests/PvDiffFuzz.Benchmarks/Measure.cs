using System.Diagnostics;
using System.Globalization;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Times a piece of work in several rounds and prints the best and the median rate.</summary>
internal static class Measure
{
    private const int Rounds = 7;

    /// <summary>Prints a line and returns the best rate.</summary>
    /// <param name="what">What is measured.</param>
    /// <param name="count">Units of work in a round.</param>
    /// <param name="work">One round.</param>
    /// <returns>Units a second in the best round.</returns>
    public static double Rate(string what, long count, Action work)
    {
        // Two rounds bring the code to its last tier of compilation.
        work();
        work();
        double[] rates = new double[Rounds];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Rounds; i++)
        {
            long start = Stopwatch.GetTimestamp();
            work();
            rates[i] = count / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        long bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / (Rounds * count);
        Array.Sort(rates);
        Print(what, rates[^1], rates[Rounds / 2], bytes);
        return rates[^1];
    }

    /// <summary>Prints how many times the one is of the other.</summary>
    public static void Ratio(string what, double numerator, double denominator) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-58} {numerator / denominator,12:F2}"));

    private static void Print(string what, double best, double median, long bytes) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-58} {best,12:N0}/s best {median,12:N0}/s median {bytes,7:N0} bytes each"));
}
