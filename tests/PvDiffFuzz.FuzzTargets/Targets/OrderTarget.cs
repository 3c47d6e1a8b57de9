using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.FuzzTargets.Targets;

/// <summary>Each model against itself in another order: what it answers does not depend on the cases that it ran before.</summary>
internal sealed class OrderTarget : FuzzTarget
{
    private const int Kept = 8;

    private readonly ITarget[] _models;
    private readonly Queue<(TestCase Case, Outcome[] Outcomes)> _before = new();

    /// <summary>Takes all models.</summary>
    public OrderTarget()
        : this(new X86Model(), new PvmModel(), new XenModel())
    {
    }

    /// <summary>Takes some models.</summary>
    public OrderTarget(params ITarget[] models) => _models = models;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Array.ForEach(_models, model => model.Dispose());
        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    public override void Run(byte[] input)
    {
        if (CaseOf(input) is not TestCase testCase)
        {
            return;
        }

        Outcome[] first = Answers(testCase);
        foreach ((TestCase earlier, Outcome[] outcomes) in _before.Reverse())
        {
            Compare(earlier, outcomes, Answers(earlier));
        }

        Compare(testCase, first, Answers(testCase));
        _before.Enqueue((testCase, first));
        if (_before.Count > Kept)
        {
            _before.Dequeue();
        }
    }

    private Outcome[] Answers(TestCase testCase) => Array.ConvertAll(_models, model => model.Run(testCase));

    private void Compare(TestCase testCase, Outcome[] one, Outcome[] other)
    {
        for (int i = 0; i < one.Length; i++)
        {
            if (!one[i].Equals(other[i]))
            {
                throw new BrokenPromiseException($"{_models[i].Info.Name} answers otherwise after other cases to case {CaseDigest.NameOf(testCase)}");
            }
        }
    }
}
