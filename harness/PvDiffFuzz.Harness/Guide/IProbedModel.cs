using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A model with probes in it: it answers like the plain model, and tells what a run executed. Used by one thread.</summary>
public interface IProbedModel : ITarget, IRuleCounter
{
    /// <summary>One counter an edge, which wraps after 255: <see cref="SeenFeatures.MapSize"/> of them. Runs add to it; who reads it clears it.</summary>
    Span<byte> Edges { get; }

    /// <summary>Adds how often each rule was used in the last run.</summary>
    /// <param name="counts">One counter a rule, in the order of <see cref="IRuleCounter.Rules"/>.</param>
    void AddRules(Span<int> counts);
}
