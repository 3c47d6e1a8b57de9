using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>Gives each test a target of its own, started when it is first used.</summary>
public abstract class KvmTests : IDisposable
{
    private readonly Lazy<KvmTarget> _target = new(() => new KvmTarget(CpuProfile.DefaultAmd));

    /// <summary>The target.</summary>
    protected KvmTarget Target => _target.Value;

    /// <summary>What the probe found about this host.</summary>
    protected string Fact(string name) => Target.Info.Fingerprint.Facts.Single(f => f.Key == name).Value;

    public void Dispose()
    {
        if (_target.IsValueCreated)
        {
            _target.Value.Dispose();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Runs a case alone and in a batch; both must be comparable and equal.</summary>
    protected Outcome Run(TestCase testCase)
    {
        Outcome alone = Target.Run(testCase);
        Assert.True(alone.Comparable, Payload.Describe(alone));
        TestCase[] batch = [testCase, testCase, testCase];
        Outcome[] outcomes = new Outcome[batch.Length];
        int before = Target.RunAgain;
        Target.Run(batch, outcomes);
        Assert.Equal(before, Target.RunAgain);
        Assert.All(outcomes, o => Assert.True(alone.Equals(o), $"alone: {Payload.Describe(alone)}\nin a batch: {Payload.Describe(o)}\n{Payload.Differences(alone, o)}"));
        return alone;
    }

    /// <summary>The one event of a case.</summary>
    protected Event Only(TestCase testCase, string what)
    {
        Outcome outcome = Run(testCase);
        Assert.True(outcome.Events.Length == 1, $"{what}: {Payload.Describe(outcome)}");
        return outcome.Events[0];
    }
}
