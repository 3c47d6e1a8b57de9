using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>A probed model of a few instructions: an edge for each pair of forms that follow each other, and a rule for each form.</summary>
internal sealed class FakeProbedModel : IProbedModel
{
    private static readonly Code[] Forms = Enum.GetValues<Code>();

    private readonly FakeMachine _machine = new();
    private readonly byte[] _edges = new byte[SeenFeatures.MapSize];
    private readonly int[] _counts = new int[Forms.Length];

    public TargetInfo Info { get; } = Fakes.Info;

    public ImmutableArray<RuleName> Rules { get; } = [.. Forms.Select(form => new RuleName("fake", form.ToString(), form.ToString()))];

    public Span<byte> Edges => _edges;

    public Outcome Run(TestCase testCase)
    {
        _counts.AsSpan().Clear();
        int before = 0;
        foreach (TracedInstruction step in _machine.Trace(testCase, 100))
        {
            int form = (int)CodeEdit.DecodeOne(step.Bytes.AsSpan(), step.Address, step.Mode, CpuVendor.Intel).Code;
            _edges[((before * 31) ^ form) & 0xffff]++;
            _counts[form]++;
            before = form;
        }

        return _machine.Run(testCase);
    }

    public void AddRules(Span<int> counts)
    {
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] += _counts[i];
        }
    }

    public void Count(TestCase testCase, int[] counts)
    {
        Run(testCase);
        AddRules(counts);
        Edges.Clear();
    }

    public void Dispose()
    {
    }

    private static class Fakes
    {
        public static TargetInfo Info { get; } = Cases.Info("model.fake");
    }
}
