using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>Gives each test a target of its own, started when it is first used.</summary>
public abstract class NativeTests : IDisposable
{
    private readonly Lazy<NativeTarget> _target = new(() => new NativeTarget());

    /// <summary>The target.</summary>
    protected NativeTarget Target => _target.Value;

    public void Dispose()
    {
        if (_target.IsValueCreated)
        {
            _target.Value.Dispose();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Runs a case that must be comparable.</summary>
    protected Outcome Run(TestCase testCase)
    {
        Outcome outcome = Target.Run(testCase);
        Assert.True(outcome.Comparable, Payload.Describe(outcome));
        return outcome;
    }

    /// <summary>Compares the changed memory of an outcome.</summary>
    protected static void AssertMemory(Outcome outcome, params MemoryWord[] words) => Assert.Equal(words, outcome.Memory.ToArray());

    /// <summary>The one event of a case.</summary>
    protected Event Only(TestCase testCase, string what)
    {
        Outcome outcome = Run(testCase);
        Assert.True(outcome.Events.Length == 1, $"{what}: {Payload.Describe(outcome)}");
        return outcome.Events[0];
    }
}
