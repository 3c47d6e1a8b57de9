using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A case, what every target answered, and how the answers compare.</summary>
/// <param name="Case">The input.</param>
/// <param name="Outcomes">One outcome a target.</param>
/// <param name="Comparison">Camps and differing fields.</param>
public sealed record Examination(TestCase Case, ImmutableArray<Outcome> Outcomes, Comparison Comparison)
{
    /// <summary>True when two or more camps exist.</summary>
    public bool Diverges => Comparison.Result == ComparisonResult.Divergence;
}

/// <summary>Runs cases on a set of targets and compares the answers. Owns its targets; used by one thread, but for <see cref="RunOn"/>.</summary>
public sealed class CaseRunner : IDisposable
{
    private readonly ImmutableArray<Func<ITarget>> _factories;
    private ImmutableArray<ITarget> _targets;
    private long _runs;

    /// <summary>Takes ownership of the targets.</summary>
    /// <param name="targets">One or more targets with different names.</param>
    /// <param name="analyst">Tells what is undefined; belongs to the same thread.</param>
    public CaseRunner(ImmutableArray<ITarget> targets, CaseAnalyst analyst)
        : this(targets, [], analyst)
    {
    }

    private CaseRunner(ImmutableArray<ITarget> targets, ImmutableArray<Func<ITarget>> factories, CaseAnalyst analyst)
    {
        (_targets, _factories) = (targets, factories);
        Analyst = analyst;
        Infos = [.. targets.Select(t => t.Info)];
        Comparer = new Comparer(Infos, analyst);
    }

    /// <summary>The targets.</summary>
    public ImmutableArray<ITarget> Targets => _targets;

    /// <summary>What the targets say of themselves, in the order of outcomes.</summary>
    public ImmutableArray<TargetInfo> Infos { get; }

    /// <summary>Compares outcomes of these targets.</summary>
    public Comparer Comparer { get; }

    /// <summary>Tells what cases execute.</summary>
    public CaseAnalyst Analyst { get; }

    /// <summary>Cases run so far on each target, all uses together.</summary>
    public long Runs => Interlocked.Read(ref _runs);

    /// <summary>Makes targets and a runner that owns them; disposes what was made when a later factory throws.</summary>
    /// <param name="factories">One a target.</param>
    /// <param name="analyst">For the calling thread.</param>
    /// <exception cref="TargetUnavailableException">A target cannot work on this host.</exception>
    public static CaseRunner Create(ImmutableArray<Func<ITarget>> factories, CaseAnalyst analyst) => new(Make(factories), factories, analyst);

    /// <summary>Puts new targets in the place of those that <see cref="Create"/> has made, which are disposed: something has made them others than they were. Targets that were handed over stay.</summary>
    /// <exception cref="TargetUnavailableException">A target cannot work on this host any more. The runner has none then.</exception>
    public void Renew()
    {
        if (!_factories.IsEmpty)
        {
            Dispose();
            _targets = [];
            _targets = Make(_factories);
        }
    }

    private static ImmutableArray<ITarget> Make(ImmutableArray<Func<ITarget>> factories)
    {
        List<ITarget> made = [];
        try
        {
            foreach (Func<ITarget> factory in factories)
            {
                made.Add(factory());
            }

            return [.. made];
        }
        catch
        {
            made.ForEach(t => t.Dispose());
            throw;
        }
    }

    /// <summary>A runner of those targets that run an ABI. They stay this one's, and it stays usable; the new one is not to be disposed.</summary>
    public CaseRunner Only(Abi abi) =>
        Infos.All(info => info.Abis.Contains(abi)) ? this : new CaseRunner([.. _targets.Where(target => target.Info.Abis.Contains(abi))], Analyst);

    /// <summary>Runs a batch on every target in turn.</summary>
    /// <param name="cases">Well-formed cases.</param>
    /// <param name="outcomes">One array a target, each at least as long as <paramref name="cases"/>.</param>
    public void Run(ReadOnlySpan<TestCase> cases, ReadOnlySpan<Outcome[]> outcomes)
    {
        for (int target = 0; target < _targets.Length; target++)
        {
            RunOn(target, cases, outcomes[target]);
        }
    }

    /// <summary>Runs a batch on one target. Different targets may run beside each other.</summary>
    /// <param name="target">Index of the target.</param>
    /// <param name="cases">Well-formed cases.</param>
    /// <param name="outcomes">Receives the outcomes.</param>
    public void RunOn(int target, ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        _targets[target].Run(cases, outcomes[..cases.Length]);
        Interlocked.Add(ref _runs, cases.Length);
    }

    /// <summary>Runs one case on every target and compares.</summary>
    public Examination Examine(TestCase testCase) => Examine([testCase])[0];

    /// <summary>Runs cases as one batch on every target and compares each.</summary>
    public ImmutableArray<Examination> Examine(ReadOnlySpan<TestCase> cases)
    {
        Outcome[][] outcomes = new Outcome[_targets.Length][];
        for (int target = 0; target < outcomes.Length; target++)
        {
            outcomes[target] = new Outcome[cases.Length];
        }

        Run(cases, outcomes);
        ImmutableArray<Examination>.Builder examined = ImmutableArray.CreateBuilder<Examination>(cases.Length);
        for (int i = 0; i < cases.Length; i++)
        {
            examined.Add(Compare(cases[i], outcomes, i));
        }

        return examined.MoveToImmutable();
    }

    /// <summary>Compares the answers to one case of a batch.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcomes">One array a target.</param>
    /// <param name="index">The case's place in the arrays.</param>
    public Examination Compare(TestCase testCase, ReadOnlySpan<Outcome[]> outcomes, int index)
    {
        ImmutableArray<Outcome>.Builder answers = ImmutableArray.CreateBuilder<Outcome>(outcomes.Length);
        foreach (Outcome[] ofTarget in outcomes)
        {
            answers.Add(ofTarget[index]);
        }

        ImmutableArray<Outcome> own = answers.MoveToImmutable();
        return new Examination(testCase, own, Comparer.Compare(testCase, own.AsSpan()));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ITarget target in _targets)
        {
            target.Dispose();
        }
    }
}
