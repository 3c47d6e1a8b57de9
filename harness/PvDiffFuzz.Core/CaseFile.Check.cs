namespace PvDiffFuzz.Core;

/// <content>What can be stored: the promise of every case file, enforced by the reader and the writer alike.</content>
public sealed partial record CaseFile
{
    private const int LongestName = 100;

    /// <summary>Finds what makes this file impossible to store or its case malformed.</summary>
    /// <returns>Null when there is nothing, else the first problem, with the key of the case format that carries it.</returns>
    public CaseProblem? Check() => CheckHead() ?? CheckAbi() ?? CheckProfile(Case.Profile) ?? CheckPages() ?? Case.Check() ?? CheckOutcomes();

    /// <summary>Finds what is wrong with the comment at the top of a file.</summary>
    internal static CaseProblem? CheckComment(string text)
    {
        string[] comment = text.Split('\n');
        if (comment[0].Trim().Length == 0 || comment[^1].Trim().Length == 0)
        {
            return new CaseProblem("comment", "the comment has an empty first or last line; its first line says why this file exists");
        }

        foreach (string line in comment)
        {
            if (line.EndsWith(' ') || !CaseFileText.IsPlain(line))
            {
                return new CaseProblem("comment", "a line of the comment ends with a space or has a control character; use printable characters only");
            }
        }

        return null;
    }

    private CaseProblem? CheckHead()
    {
        if (CheckComment(Comment) is CaseProblem problem)
        {
            return problem;
        }

        if (!IsName(Id) || Id.AsSpan().ContainsAny(':', '_'))
        {
            return new CaseProblem("id", $"{CaseFileText.Quote(Id)} is not an id; use lower-case letters, digits, dots and hyphens, 1 to {LongestName} of them");
        }

        foreach (string spec in Spec)
        {
            if (!IsLine(spec))
            {
                return NotALine("spec");
            }
        }

        if (CodeComments.Length != Case.Code.Lengths.Length)
        {
            return new CaseProblem("code", $"{CodeComments.Length} comments for {Case.Code.Lengths.Length} instructions; give one each, empty where there is none");
        }

        foreach (string remark in CodeComments)
        {
            if (remark.Length > 0 && !IsLine(remark))
            {
                return NotALine("code");
            }
        }

        return Found is not null && !IsLine(Found) ? NotALine("found") : Verdict is not null && !IsLine(Verdict) ? NotALine("verdict") : null;
    }

    /// <summary>Finds what of a processor cannot be stored.</summary>
    internal static CaseProblem? CheckProfile(CpuProfile? profile)
    {
        if (profile is null)
        {
            return null;
        }

        if (profile.Family is < 0 or > 999 || profile.LinearBits is not (48 or 57) || profile.Vendor is < CpuVendor.Intel or > CpuVendor.Amd)
        {
            return new CaseProblem("cpu", $"family {profile.Family}, {profile.LinearBits} linear bits; a family is 0 to 999, linear addresses have 48 or 57 bits");
        }

        foreach (string feature in profile.Features)
        {
            if (feature.Length is 0 or > LongestName || !feature.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
            {
                return new CaseProblem("feature", $"{CaseFileText.Quote(feature)} is not a feature name; use letters, digits and _");
            }
        }

        foreach (SegmentDescriptor d in profile.Descriptors)
        {
            if (d.Index is < 0 or > 8191 || d.Type > 15 || d.Dpl > 3)
            {
                return new CaseProblem("segment", $"descriptor {d.Index} type {d.Type:x} dpl {d.Dpl}; an index is 0 to 8191, a type 0 to f, a DPL 0 to 3");
            }
        }

        return CheckReadings(profile);
    }

    private static CaseProblem? CheckReadings(CpuProfile profile)
    {
        foreach ((Reading reading, ulong value) in profile.Readings)
        {
            if (reading is < Reading.TimeStamp or > Reading.Cr0 || value > CaseFileWords.LargestOf(reading))
            {
                return new CaseProblem("reading", $"{reading} = {value:x}; use a reading of the enumeration and a value that it can have");
            }
        }

        for (int i = 1; i < profile.Cpuid.Length; i++)
        {
            CpuidLeaf before = profile.Cpuid[i - 1];
            CpuidLeaf leaf = profile.Cpuid[i];
            if (leaf.Leaf < before.Leaf || (leaf.Leaf == before.Leaf && (leaf.Subleaf is null || before.Subleaf is null || leaf.Subleaf <= before.Subleaf)))
            {
                return new CaseProblem("cpuid", $"leaf {leaf.Leaf:x} is out of order or answered twice; sort by leaf and subleaf, or answer any subleaf in one entry");
            }
        }

        return null;
    }

    private CaseProblem? CheckAbi() =>
        Case.Abi is < Abi.X86 or > Abi.XenPv32 ? new CaseProblem("abi", $"{(int)Case.Abi} is not an ABI; use one that is") : null;

    private CaseProblem? CheckPages()
    {
        foreach ((string key, PageRange range) in Case.Layout.Ranges.Select(r => ("page", r)).Concat(((Case.Pvm?.UserLayout ?? Case.Xen?.UserLayout)?.Ranges ?? []).Select(r => ("user-page", r))))
        {
            if (CaseFileWords.AccessOf(CaseFileWords.TextOf(range.Access)) != range.Access)
            {
                return new CaseProblem(key, $"{range.Address:x}: rights {(int)range.Access:x}; a present page is readable");
            }
        }

        return null;
    }

    private CaseProblem? CheckOutcomes()
    {
        if (Outcomes.Length > MaximumOutcomes)
        {
            return new CaseProblem("outcome", $"{Outcomes.Length} outcomes; a case has at most {MaximumOutcomes}");
        }

        for (int i = 0; i < Outcomes.Length; i++)
        {
            if ((CheckRecorded(Outcomes[i]) ?? CheckOutcome(Case, Outcomes[i].Outcome)) is CaseProblem problem)
            {
                return new CaseProblem(OutcomeField(i, problem.Field), $"{CaseFileText.Quote(Outcomes[i].Target)}: {problem.Message}");
            }

            for (int j = 0; j < i; j++)
            {
                if (Outcomes[j].Target == Outcomes[i].Target && Outcomes[j].Fingerprint.Equals(Outcomes[i].Fingerprint))
                {
                    return new CaseProblem(OutcomeField(i, "outcome"), $"{CaseFileText.Quote(Outcomes[i].Target)} answers twice with one fingerprint; keep one of them");
                }
            }
        }

        return null;
    }

    /// <summary>The key of an outcome with its index, so that the reader can name the line: <c>2.memory</c>.</summary>
    private static string OutcomeField(int index, string field) => $"{index}.{field}";

    private static CaseProblem? CheckRecorded(RecordedOutcome recorded) =>
        CheckTarget("outcome", recorded.Target, recorded.Kind, recorded.Lineage)
        ?? (recorded.Outcome.End is < EndKind.ReachedEnd or > EndKind.HarnessError ? new CaseProblem("outcome", "the end is no member of its enumeration; use one that is") : default(CaseProblem?))
        ?? CheckFacts(recorded.Fingerprint);

    /// <summary>Finds what of a target's description cannot be stored.</summary>
    /// <param name="key">The key that carries it.</param>
    /// <param name="name">The target's name.</param>
    /// <param name="kind">What executed.</param>
    /// <param name="lineage">Its lineage.</param>
    internal static CaseProblem? CheckTarget(string key, string name, TargetKind kind, string lineage) =>
        !IsName(name) || !IsName(lineage)
            ? new CaseProblem(key, $"target or lineage is not a name; use lower-case letters, digits and . - _ : , 1 to {LongestName} of them")
            : kind is < TargetKind.Model or > TargetKind.Recording ? new CaseProblem(key, "kind is no member of its enumeration; use one that is") : null;

    /// <summary>Finds a fact that cannot be stored.</summary>
    internal static CaseProblem? CheckFacts(Fingerprint fingerprint)
    {
        HashSet<string> names = new(StringComparer.Ordinal);
        foreach ((string name, string value) in fingerprint.Facts)
        {
            if (!IsLine(name) || name.AsSpan().ContainsAny(" =;[]") || (value.Length > 0 && !IsLine(value)) || value.AsSpan().ContainsAny(";[]"))
            {
                return new CaseProblem("fact", $"{CaseFileText.Quote($"{name}={value}")} is not a fact; write name=value on one line without brackets and semicolons");
            }

            if (!names.Add(name))
            {
                return new CaseProblem("fact", $"{CaseFileText.Quote(name)} is stated twice; state each fact once");
            }
        }

        return null;
    }

    private static CaseProblem? CheckOutcome(TestCase testCase, Outcome outcome)
    {
        if (outcome.Events.IsEmpty && (outcome.End == EndKind.Event || (outcome.End == EndKind.ReachedEnd && testCase.Start == GuestMode.User)))
        {
            return new CaseProblem("outcome", "the end is an event, but there is none; user code ends with one");
        }

        for (int i = 0; i < outcome.Events.Length; i++)
        {
            if (CheckEvent(testCase.Abi, outcome.Events[i], i) is CaseProblem problem)
            {
                return problem;
            }
        }

        if (CheckState(testCase.Abi, outcome.System) is CaseProblem state)
        {
            return state;
        }

        ulong free = 0;
        foreach (MemoryWord word in outcome.Memory)
        {
            if (word.Address % 8 != 0 || word.Address < free)
            {
                return new CaseProblem("memory", $"{word.Address:x} is not a multiple of 8 above the word before it; list each aligned word once, in address order");
            }

            if (testCase.Pvm is PvmState pvm && word.Address - pvm.PvcsAddress < PageLayout.PageSize)
            {
                return new CaseProblem("memory", $"{word.Address:x} lies in the page of the per-VCPU structure; its fields are `state`, not memory");
            }

            // The highest word has no successor; any word after it is out of order.
            free = word.Address == ulong.MaxValue - 7 ? ulong.MaxValue : word.Address + 8;
        }

        return CheckSeen(outcome);
    }

    private static CaseProblem NotALine(string key) =>
        new(key, $"`{key}` is empty, has spaces around it or a control character; give one line of printable text");

    private static bool IsLine(string text) => text.Length > 0 && text[0] != ' ' && text[^1] != ' ' && CaseFileText.IsPlain(text);

    private static bool IsName(string text) =>
        text.Length is >= 1 and <= LongestName && text.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '.' or '-' or '_' or ':');
}
