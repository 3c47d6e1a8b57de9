using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Benchmarks;

/// <summary>Cases a second through a real Xen, each with code of its own, and what a crash costs.</summary>
internal static class XenBenchmark
{
    private const string Name = "xen:4.17";
    private const int Count = 16_000;
    private const int Crashes = 20;

    /// <summary>INT3 in both modes, the default mix of both, and the case behind a crash of the domain.</summary>
    public static void Run()
    {
        ITarget xen;
        try
        {
            xen = new Composition().Create(Name);
        }
        catch (TargetUnavailableException trouble)
        {
            Console.WriteLine($"{Name} is not here: {trouble.Message}; {trouble.Cure}");
            return;
        }

        using (xen)
        {
            foreach (GuestMode mode in (GuestMode[])[GuestMode.Supervisor, GuestMode.User])
            {
                Row(xen, $"{Name}, {mode}, INT3", [.. Enumerable.Range(0, Count).Select(i => Int3(i, mode))]);
            }

            TestCase[] mixed = Generated(xen.Info.Processor!, Count);
            foreach (GuestMode mode in (GuestMode[])[GuestMode.Supervisor, GuestMode.User])
            {
                Row(xen, $"{Name}, {mode}, default mix", [.. mixed.Where(c => c.Start == mode)]);
            }

            Restores(xen);
        }
    }

    /// <summary>MOV ECX, number; INT3.</summary>
    private static TestCase Int3(int number, GuestMode mode)
    {
        TestCase testCase = XenPayloads.Case("b9 00 00 00 00 cc", mode);
        byte[] code = [.. testCase.Code.Bytes];
        BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(1), number);
        return testCase with { Code = testCase.Code with { Bytes = [.. code], Lengths = [5, 1] } };
    }

    private static TestCase[] Generated(CpuProfile processor, int count)
    {
        Generator generator = new(GeneratorOptions.DefaultsFor(Abi.XenPv64), processor);
        return [.. Enumerable.Range(0, count).Select(i => generator.Generate(1, (ulong)i))];
    }

    private static void Row(ITarget xen, string what, TestCase[] cases)
    {
        Outcome[] outcomes = new Outcome[cases.Length];
        Measure.Rate(what, cases.Length, () => xen.Run(cases, outcomes));
        int failed = outcomes.Count(o => !o.Comparable);
        if (failed > cases.Length / 10)
        {
            Console.WriteLine($"    {failed} of {cases.Length} cases could not be run: {outcomes.First(o => !o.Comparable).Detail}");
        }
    }

    /// <summary>INT3 without a handler ends the domain. Timed with the INT3 behind it.</summary>
    private static void Restores(ITarget xen)
    {
        TestCase next = Int3(0, GuestMode.Supervisor);
        TestCase crash = next.WithTraps(t => t.Without(3));
        double[] times = new double[Crashes];
        Outcome[] outcomes = new Outcome[2];
        for (int i = 0; i < Crashes; i++)
        {
            long start = Stopwatch.GetTimestamp();
            xen.Run([crash, next], outcomes);
            times[i] = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            if (outcomes[0].End != EndKind.Crash || !outcomes[1].Comparable)
            {
                throw new InvalidOperationException($"{outcomes[0].End} and {outcomes[1].End} instead of a crash and an event");
            }
        }

        Array.Sort(times);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Name + ", from a crash to the next case",-44} {times[0],10:F1} ms best {times[Crashes / 2],8:F1} ms median {times[^1],8:F1} ms worst"));
    }
}
