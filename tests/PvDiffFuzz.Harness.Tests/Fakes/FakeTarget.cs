using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>A target made of a function.</summary>
internal sealed class FakeTarget(TargetInfo info, Func<TestCase, Outcome> run) : ITarget
{
    public FakeTarget(string name, Func<TestCase, Outcome> run)
        : this(Cases.Info(name), run)
    {
    }

    public TargetInfo Info => info;

    public Outcome Run(TestCase testCase) => run(testCase);

    public void Dispose()
    {
        // Nothing is held.
    }
}

/// <summary>Cases made from an index: a few instructions that <see cref="FakeMachine"/> knows.</summary>
internal sealed class FakeSource(ulong seed, int instructions, params string[] repertoire) : ICaseSource
{
    public TestCase Generate(ulong index)
    {
        ulong state = (index * 0x9e3779b97f4a7c15) + seed;
        string[] code = new string[instructions];
        for (int i = 0; i < code.Length; i++)
        {
            state = (state ^ (state >> 29)) * 0xbf58476d1ce4e5b9;
            code[i] = repertoire[(int)((state >> 33) % (ulong)repertoire.Length)];
        }

        return Cases.Of(code).With(Register.Rax, state).With(Register.Rbx, index);
    }
}

/// <summary>Runs harness objects on fakes.</summary>
internal static class Fakes
{
    public static CaseRunner Runner(params ITarget[] targets) => new([.. targets], CaseAnalyst.Blind);

    public static ImmutableArray<Func<ITarget>> Factories(params Func<ITarget>[] factories) => [.. factories];

    public static Divergence Divergence(CaseRunner runner, TestCase testCase)
    {
        Examination examination = runner.Examine(testCase);
        Assert.True(examination.Diverges, "the fakes agree; the test needs a divergence");
        return Harness.Divergence.Of(examination, runner);
    }
}
