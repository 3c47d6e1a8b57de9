using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Whose doing a known divergence is.</summary>
public enum KnownKind
{
    /// <summary>An implementation departs from its document.</summary>
    Implementation,

    /// <summary>The document is silent or contradicts itself; the model took one reading.</summary>
    Specification,

    /// <summary>The host between us and the processor shows something else than the processor did.</summary>
    Host,
}

/// <summary>A described divergence: what it looks like and why it exists. One text file each; docs/known-format.md is the reference.</summary>
public sealed record KnownEntry
{
    /// <summary>Why the entry exists, for a reader: the comment at the top of the file.</summary>
    public required string Comment { get; init; }

    /// <summary>Short name: lower-case letters, digits and hyphens.</summary>
    public required string Id { get; init; }

    /// <summary>Whose doing.</summary>
    public required KnownKind Kind { get; init; }

    /// <summary>The statement that one side departs from, as document and section.</summary>
    public required string Clause { get; init; }

    /// <summary>One line for reports.</summary>
    public required string Reason { get; init; }

    /// <summary>Who stands on the described side: a camp all of whose members match one of these. Other camps must have no such member.</summary>
    public required ImmutableArray<TargetPattern> Targets { get; init; }

    /// <summary>Iced code names, mnemonics or encodings without a form of the diverging instruction; empty for any.</summary>
    public required InstructionWordSet Forms { get; init; }

    /// <summary>Vectors that the event may have in any camp; empty for any.</summary>
    public required ImmutableArray<byte> Vectors { get; init; }

    /// <summary>All fields that may differ. A divergence with any other differing field is not this one.</summary>
    public required FieldNameSet Fields { get; init; }

    /// <summary>ABIs of the cases. There is no PVM without a revision: each revision is named.</summary>
    public ImmutableArray<Abi> Abis { get; init; } = [Abi.X86];

    /// <summary>The host's path between the modes that the case asks for; null for either.</summary>
    public HostPath? Path { get; init; }

    /// <summary>The mode in which the case starts; null for either.</summary>
    public GuestMode? Start { get; init; }

    /// <summary>Entries that the event may have in any camp; empty for any.</summary>
    public ImmutableArray<EntryPoint> Entries { get; init; } = [];

    /// <summary>True when the entry describes a part of a divergence, so that others of that kind may describe the rest; false when it describes the whole or nothing.</summary>
    public bool Part { get; init; }

    /// <summary>Iced's code names of the instruction that ran before the diverging one, with which it may have to do; empty for any.</summary>
    public InstructionWordSet After { get; init; } = [];

    /// <summary>Iced's code names of instructions of which one ran since the event before, the diverging one included; empty for any. For causes that show late, at an instruction that has nothing to do with them.</summary>
    public InstructionWordSet Executed { get; init; } = [];

    /// <summary>The same words, of which one holds for an instruction that ran at any time of the case; empty for any.</summary>
    public InstructionWordSet Ever { get; init; } = [];

    /// <summary>What the model of the case's ABI may have raised at the diverging instruction: vectors, and null for nothing; empty for either.</summary>
    public ImmutableArray<byte?> Raised { get; init; } = [];

    /// <summary>Prefixes that the diverging instruction has.</summary>
    public Encodings Encoding { get; init; }

    /// <summary>Conditions on values; all must hold between the described side and every other camp.</summary>
    public ImmutableArray<KnownCondition> Conditions { get; init; } = [];

    /// <summary>Where it was read from.</summary>
    public string File { get; init; } = "";

    /// <summary>The verdict for a divergence that matches.</summary>
    public Verdict Verdict => new(Kind == KnownKind.Specification ? VerdictKind.SpecAmbiguity : VerdictKind.Known, Id);

    /// <summary>True when this entry describes the whole of a divergence.</summary>
    public bool Matches(Divergence divergence) => MatchesCase(divergence.Case) && CoversAll(divergence.Comparison.Differences) && Applies(divergence);

    /// <summary>True when everything holds of a divergence but the kind of case and the list of fields, which whoever asks has looked at: they rule out most.</summary>
    internal bool Applies(Divergence divergence) =>
        MatchesForm(divergence.Instruction)
        && MatchesEvent(divergence)
        && SplitCamps(divergence, out List<Camp> these, out List<Camp> others)
        && these.TrueForAll(t => ConditionsHold(divergence, t, others));

    private bool CoversAll(ImmutableArray<FieldDifference> differences)
    {
        foreach (FieldDifference difference in differences)
        {
            if (!Fields.Covers(difference))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>True when a field of some differences is listed.</summary>
    internal bool CoversAny(ImmutableArray<FieldDifference> differences)
    {
        foreach (FieldDifference difference in differences)
        {
            if (Fields.Covers(difference))
            {
                return true;
            }
        }

        return false;
    }

    private bool MatchesForm(InstructionAt instruction) =>
        (Forms.IsEmpty || Forms.Has(instruction.Form) || Forms.Has(instruction.Mnemonic))
        && (After.IsEmpty || After.Names(instruction.Before))
        && (Executed.IsEmpty || Executed.NamesAny(instruction.Executed))
        && (Ever.IsEmpty || Ever.NamesAny(instruction.Ever))
        && (Raised.IsEmpty || (!instruction.Executed.IsDefault && Raised.Contains(instruction.Raised?.Vector)))
        && (instruction.Encoding & Encoding) == Encoding;

    /// <summary>True when this entry is about cases of this kind.</summary>
    internal bool MatchesCase(TestCase testCase) =>
        Abis.Contains(testCase.Abi) && (Path is null || testCase.Pvm?.Path == Path) && (Start is null || testCase.Start == Start);

    private bool MatchesEvent(Divergence divergence)
    {
        if (Vectors.IsEmpty && Entries.IsEmpty)
        {
            return true;
        }

        int index = divergence.EventIndex;
        foreach (int member in divergence.Comparison.Camps.SelectMany(camp => camp.Members))
        {
            ImmutableArray<Event> events = divergence.Outcomes[member].Events;
            if (index < 0 || index >= events.Length || !Fits(events[index]))
            {
                return false;
            }
        }

        return true;
    }

    private bool Fits(Event e) =>
        (Vectors.IsEmpty || (e.Kind is not (EventKind.SystemCall or EventKind.Hypercall) && Vectors.Contains(e.Vector))) && (Entries.IsEmpty || Entries.Contains(e.Entry));

    private bool SplitCamps(Divergence divergence, out List<Camp> these, out List<Camp> others)
    {
        these = [];
        others = [];
        foreach (Camp camp in divergence.Comparison.Camps)
        {
            int matching = camp.Members.Count(m => Targets.Any(t => t.Matches(divergence.Targets[m])));
            if (matching != 0 && matching != camp.Members.Length)
            {
                return false;
            }

            (matching == 0 ? others : these).Add(camp);
        }

        return these.Count > 0;
    }

    private bool ConditionsHold(Divergence divergence, Camp side, List<Camp> others)
    {
        foreach (KnownCondition condition in Conditions)
        {
            if (others.Count == 0 ? !condition.Holds(divergence, side, other: null) : !others.TrueForAll(o => condition.Holds(divergence, side, o)))
            {
                return false;
            }
        }

        return true;
    }
}

/// <summary>Which targets: a name with an optional <c>*</c> at its end, or a lineage, and facts of the fingerprint.</summary>
/// <param name="Name">Such as <c>native</c>, <c>model.*</c>, <c>*</c> or <c>lineage:hardware</c>. A recording counts as what was recorded.</param>
/// <param name="Facts">Facts that the fingerprint must have, with these values.</param>
public sealed record TargetPattern(string Name, ImmutableArray<KeyValuePair<string, string>> Facts)
{
    private const string Recorded = "recorded:";
    private const string Lineage = "lineage:";

    /// <summary>True when the target is meant.</summary>
    public bool Matches(TargetInfo target) => MatchesName(target) && Facts.All(f => target.Fingerprint.Facts.Contains(f));

    /// <inheritdoc/>
    public override string ToString() => Facts.IsEmpty ? Name : $"{Name} [{string.Join("; ", Facts.Select(f => $"{f.Key}={f.Value}"))}]";

    private bool MatchesName(TargetInfo target)
    {
        if (Name.StartsWith(Lineage, StringComparison.Ordinal))
        {
            return string.Equals(target.Lineage, Name[Lineage.Length..], StringComparison.Ordinal);
        }

        string name = target.Name.StartsWith(Recorded, StringComparison.Ordinal) ? target.Name[Recorded.Length..] : target.Name;
        if (Name.EndsWith('*'))
        {
            return name.StartsWith(Name[..^1], StringComparison.Ordinal);
        }

        // Where two recordings have a target of one name, the recording's own name follows behind a colon: recorded:native:host-a. So does that of one of several hosts of a kind: pvm:rfc1 is a pvm.
        return name.StartsWith(Name, StringComparison.Ordinal) && (name.Length == Name.Length || name[Name.Length] == ':');
    }
}

/// <summary>The known entries of a campaign or replay.</summary>
/// <param name="Entries">In the order of their ids.</param>
public sealed record KnownSet(ImmutableArray<KnownEntry> Entries)
{
    /// <summary>No entries.</summary>
    public static KnownSet Empty { get; } = new([]);

    /// <summary>
    /// Finds the entries that describe a divergence: the first that describes the whole of it, else those that each describe a part that none before them does; else the same where the delivery
    /// below a stacked upcall counts as an event; else the same at the instruction at which a target stopped that another one went over.
    /// </summary>
    /// <param name="divergence">The divergence.</param>
    /// <param name="analyst">Finds the instruction at each further event that differs.</param>
    /// <returns>Indexes into <see cref="Entries"/>; empty when nothing describes it.</returns>
    public ImmutableArray<int> Find(Divergence divergence, CaseAnalyst analyst)
    {
        ImmutableArray<int> found = FindIn(divergence, analyst);
        if (found.IsEmpty && StackedUpcall.Unfold(divergence, analyst) is Divergence unfolded)
        {
            found = FindIn(unfolded, analyst);
        }

        return found.IsEmpty && divergence.Earlier(analyst) is Divergence earlier ? FindIn(earlier, analyst) : found;
    }

    private ImmutableArray<int> FindIn(Divergence divergence, CaseAnalyst analyst)
    {
        for (int i = 0; i < Entries.Length; i++)
        {
            if (Entries[i].Matches(divergence))
            {
                return [i];
            }
        }

        return FindParts(divergence, analyst);
    }

    /// <summary>The verdict for a divergence that entries describe.</summary>
    /// <param name="found">What <see cref="Find"/> found.</param>
    public Verdict VerdictOf(ImmutableArray<int> found) => found.Length switch
    {
        0 => Verdict.New,
        1 => Entries[found[0]].Verdict,
        _ => new Verdict(
            found.All(i => Entries[i].Kind == KnownKind.Specification) ? VerdictKind.SpecAmbiguity : VerdictKind.Known,
            string.Join(Verdict.Separator, found.Select(i => Entries[i].Id))),
    };

    // A host may depart at several events of a case. What the entries for one event leave over is held against the entries anew at the next event that differs; a part may also cover what follows from it later.
    private ImmutableArray<int> FindParts(Divergence divergence, CaseAnalyst analyst)
    {
        ImmutableArray<int>.Builder found = ImmutableArray.CreateBuilder<int>();
        for (Divergence at = divergence; ;)
        {
            ImmutableArray<FieldDifference> left = TakeParts(at, found);
            if (left.IsEmpty)
            {
                return found.ToImmutable();
            }

            Divergence next = at.Left(left, analyst);
            if (next.Comparison.FirstEvent == at.Comparison.FirstEvent)
            {
                return [];
            }

            at = next;
        }
    }

    /// <summary>Adds the entries that describe parts of a divergence, and returns the differences that none of them covers.</summary>
    private ImmutableArray<FieldDifference> TakeParts(Divergence divergence, ImmutableArray<int>.Builder found)
    {
        ImmutableArray<FieldDifference> left = divergence.Comparison.Differences;
        for (int i = 0; i < Entries.Length && !left.IsEmpty; i++)
        {
            KnownEntry entry = Entries[i];
            if (entry.Part && entry.MatchesCase(divergence.Case) && entry.CoversAny(left) && entry.Applies(divergence))
            {
                left = left.RemoveAll(entry.Fields.Covers);
                if (!found.Contains(i))
                {
                    found.Add(i);
                }
            }
        }

        return left;
    }
}
