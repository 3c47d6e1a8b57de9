using System.Diagnostics;
using PvDiffFuzz.Core;
using Xunit.Abstractions;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>Prints how fast the target is here. Nothing about time is asserted.</summary>
public sealed class ThroughputTests(ITestOutputHelper output) : NativeTests
{
    private const string FifteenIncrements =
        "48ffc0 48ffc1 48ffc2 48ffc3 48ffc5 48ffc6 48ffc7 49ffc0 49ffc1 49ffc2 49ffc3 49ffc4 49ffc5 49ffc6 49ffc7";

    /// <summary>Batches of 16 instructions that end in each of the usual ways; each case must end in that way.</summary>
    [NativeTheory]
    [InlineData("90", 14, false, 20_000)]
    [InlineData("f4", 13, false, 20_000)]
    [InlineData("0f0b", 6, false, 20_000)]
    [InlineData("90", 1, true, 2_000)]
    public void CasesPerSecond(string last, byte vector, bool breakpoint, int count)
    {
        TestCase testCase = Case(FifteenIncrements + last);
        TestCase armed = testCase with { Registers = testCase.Registers.With(Register.Dr0, End - 1).With(Register.Dr7, 0x401) };
        TestCase[] cases = [.. Enumerable.Range(0, count).Select(i => breakpoint && i % 2 == 1 ? armed : testCase)];
        Outcome[] outcomes = new Outcome[count];
        Target.Run(cases.AsSpan(0, count / 4), outcomes);

        long start = Stopwatch.GetTimestamp();
        Target.Run(cases, outcomes);
        TimeSpan time = Stopwatch.GetElapsedTime(start);

        string kind = breakpoint ? ", every other case with a breakpoint" : string.Empty;
        output.WriteLine($"vector {vector}{kind}: {count / time.TotalSeconds:F0} cases a second");
        Assert.All(Enumerable.Range(0, count), i => Assert.Equal(breakpoint && i % 2 == 0 ? 14 : vector, outcomes[i].Events[0].Vector));
    }
}
