using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A case on which targets differ, with what is needed to judge it.</summary>
/// <param name="Case">The input.</param>
/// <param name="Outcomes">One outcome a target.</param>
/// <param name="Comparison">The camps and fields.</param>
/// <param name="Targets">The targets, in the order of the outcomes.</param>
/// <param name="Instruction">The instruction at which it shows.</param>
public sealed record Divergence(
    TestCase Case, ImmutableArray<Outcome> Outcomes, Comparison Comparison, ImmutableArray<TargetInfo> Targets, InstructionAt Instruction)
{
    /// <summary>Its signature. Most divergences are known, and nobody asks for theirs.</summary>
    public Signature Signature => field ??= Signature.Of(Case.Abi, Instruction.Form, Outcomes, Comparison, Targets);

    /// <summary>Index of the event in question: the first that differs, else the first that not all have, else the last.</summary>
    public int EventIndex { get; } = EventOf(Outcomes, Comparison);

    /// <summary>Describes an examined case that diverges.</summary>
    public static Divergence Of(Examination examination, CaseRunner runner) => new(
        examination.Case,
        examination.Outcomes,
        examination.Comparison,
        runner.Infos,
        InstructionAt.Find(examination.Case, examination.Outcomes.AsSpan(), examination.Comparison.FirstEvent, runner.Analyst));

    /// <summary>The same divergence at another instruction: the one at which an event of a target says that it faulted, and over which the model that traces went to a later one.</summary>
    /// <param name="analyst">Finds the instruction.</param>
    /// <returns>Null when no target says so.</returns>
    internal Divergence? Earlier(CaseAnalyst analyst) =>
        InstructionAt.FindEarlier(Case, Outcomes.AsSpan(), EventIndex, analyst) is InstructionAt earlier ? new Divergence(Case, Outcomes, Comparison, Targets, earlier) : null;

    /// <summary>What remains of the divergence when some differences are accounted for: it shows at the first event that still differs.</summary>
    /// <param name="differences">Those that remain, in field order.</param>
    /// <param name="analyst">Finds the instruction there.</param>
    internal Divergence Left(ImmutableArray<FieldDifference> differences, CaseAnalyst analyst)
    {
        Comparison rest = Comparison with { Differences = differences };
        return new Divergence(Case, Outcomes, rest, Targets, InstructionAt.Find(Case, Outcomes.AsSpan(), rest.FirstEvent, analyst));
    }

    private static int EventOf(ImmutableArray<Outcome> outcomes, Comparison comparison)
    {
        int first = comparison.FirstEvent;
        if (first >= 0)
        {
            return first;
        }

        int least = comparison.Camps.Min(camp => outcomes[camp.Members[0]].Events.Length);
        int most = comparison.Camps.Max(camp => outcomes[camp.Members[0]].Events.Length);
        return least < most ? least : most - 1;
    }
}

/// <summary>How a divergence was judged.</summary>
public enum VerdictKind
{
    /// <summary>Nothing explains it.</summary>
    New,

    /// <summary>A known entry of kind implementation or host describes it.</summary>
    Known,

    /// <summary>A known entry of kind specification describes it: the document is silent or contradicts itself.</summary>
    SpecAmbiguity,

    /// <summary>A target answers differently from run to run.</summary>
    NonDeterministic,

    /// <summary>A target's answer depends on what it ran before.</summary>
    StateLeak,

    /// <summary>Our own machinery failed while the divergence was examined.</summary>
    HarnessFault,

    /// <summary>Only bits that the specification leaves undefined differ, or follow from them.</summary>
    UndefinedBehaviour,
}

/// <summary>A verdict with its reason.</summary>
/// <param name="Kind">The verdict.</param>
/// <param name="Why">Id of the known entry, ids of several that describe it together, or one line of explanation; empty for <see cref="VerdictKind.New"/>.</param>
public sealed record Verdict(VerdictKind Kind, string Why)
{
    /// <summary>Stands between ids.</summary>
    public const char Separator = ' ';

    /// <summary>Unexplained.</summary>
    public static Verdict New { get; } = new(VerdictKind.New, "");

    /// <summary>True when the divergence was explained away without a known entry.</summary>
    public bool IsExplained => Kind >= VerdictKind.NonDeterministic;

    /// <summary>True when a known entry describes the divergence.</summary>
    public bool IsKnown => Kind is VerdictKind.Known or VerdictKind.SpecAmbiguity;

    /// <summary>Ids of the known entries that describe it; empty for other verdicts.</summary>
    public IEnumerable<string> KnownIds => IsKnown ? Why.Split(Separator) : [];

    /// <summary>As stored in case files: <c>new</c>, <c>known some-id</c>, <c>known some-id other-id</c>, <c>state-leak why</c>.</summary>
    public override string ToString()
    {
        string kind = Kind switch
        {
            VerdictKind.New => "new",
            VerdictKind.Known => "known",
            VerdictKind.SpecAmbiguity => "spec-ambiguity",
            VerdictKind.NonDeterministic => "non-deterministic",
            VerdictKind.StateLeak => "state-leak",
            VerdictKind.HarnessFault => "harness-fault",
            _ => "undefined-behaviour",
        };
        return Why.Length == 0 ? kind : $"{kind} {Why}";
    }
}
