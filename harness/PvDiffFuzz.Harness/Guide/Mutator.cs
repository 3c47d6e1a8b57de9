using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Makes a case from another one: some mutations on top of each other, each of which leaves a well-formed case.</summary>
internal sealed class Mutator
{
    private const int Attempts = 3;

    private readonly MutationContext _context;
    private readonly Func<TestCase, bool>? _allowed;
    private readonly int _maximumStack;
    private readonly IMutation[] _table;

    /// <summary>Makes a mutator.</summary>
    /// <param name="vendor">Whose decoder.</param>
    /// <param name="raisers">Instructions of the corpus that raise events.</param>
    /// <param name="allowed">False for cases that must not run; null when any may.</param>
    /// <param name="maximumStack">Most mutations on top of each other.</param>
    public Mutator(CpuVendor vendor, RaiserPool raisers, Func<TestCase, bool>? allowed, int maximumStack)
    {
        (_context, _allowed, _maximumStack) = (new MutationContext(vendor, raisers), allowed, maximumStack);
        _table = [.. Mutations.All.SelectMany(mutation => Enumerable.Repeat(mutation, mutation.Weight))];
    }

    /// <summary>Makes a case.</summary>
    /// <param name="parent">The case to begin with.</param>
    /// <param name="donor">Gives instructions and values.</param>
    /// <param name="random">The stream of the new case.</param>
    /// <returns>A well-formed case that may run, or null when none came of it.</returns>
    public TestCase? Mutate(TestCase parent, TestCase donor, ref CounterRandom random)
    {
        TestCase mutant = parent;
        int wanted = 1 + (random.Percent(40) ? 0 : random.Below(_maximumStack));
        for (int attempt = 0; wanted > 0 && attempt < _maximumStack + Attempts; attempt++)
        {
            TestCase? next = random.Pick<IMutation>(_table).Apply(mutant, donor, ref random, _context);
            if (next is not null && next.Check() is null)
            {
                mutant = next;
                wanted--;
            }
        }

        return ReferenceEquals(mutant, parent) || !IsAllowed(mutant, parent) ? null : mutant;
    }

    /// <summary>Code must be allowed, and so must contents of executable pages that the parent does not have: the payload may jump there.</summary>
    private bool IsAllowed(TestCase mutant, TestCase parent) =>
        _allowed is null || (_allowed(mutant) && mutant.Contents.All(run => !IsExecutable(mutant, run) || parent.Contents.Contains(run) || _allowed(AsCode(mutant, run))));

    private static bool IsExecutable(TestCase testCase, MemoryContents run) =>
        ((testCase.Layout.AccessAt(run.Address) | testCase.UserPages.AccessAt(run.Address) | testCase.Layout.AccessAt(run.Address + (ulong)run.Bytes.Length - 1)) & PageAccess.Execute) != 0;

    private static TestCase AsCode(TestCase testCase, MemoryContents run) => testCase with { Code = new CodeBlock(run.Address, run.Bytes, []) };
}
