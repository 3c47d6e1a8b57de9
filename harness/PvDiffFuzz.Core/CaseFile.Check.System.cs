namespace PvDiffFuzz.Core;

/// <content>What can be stored of outcomes on a paravirtual guest's system side.</content>
public sealed partial record CaseFile
{
    /// <summary>Finds what of an event cannot have happened under an ABI.</summary>
    private static CaseProblem? CheckEvent(Abi abi, Event e, int index)
    {
        if (e.Kind is < EventKind.Fault or > EventKind.Upcall || e.Entry is < EntryPoint.Idt or > EntryPoint.HypercallReturn)
        {
            return new CaseProblem($"event.{index}", "kind or entry is no member of its enumeration; use one that is");
        }

        string entry = CaseFileWords.Entries[(int)e.Entry];
        if (!FrameLayout.HasEntry(abi, e.Entry))
        {
            return new CaseProblem($"event.{index}", $"no event of {abi.Text()} comes through {entry}; its entries are {string.Join(", ", Entries(abi))}");
        }

        if (abi != Abi.X86 && (e.Kind == EventKind.Hypercall) != (e.Entry == EntryPoint.HypercallReturn))
        {
            return new CaseProblem($"event.{index}", $"{CaseFileWords.EventKinds[(int)e.Kind]} and {entry}; the return of a hypercall is a hypercall, and nothing else is");
        }

        if (abi.IsXen() && e.Entry != EntryPoint.HypercallReturn && !e.Frame.IsEmpty)
        {
            return FrameLayout.Of(abi, e.Entry, e.Frame.Length).IsEmpty
                ? new CaseProblem($"frame.{index}", $"a frame of {e.Frame.Length} bytes; {abi.Text()} stores {(abi == Abi.XenPv32 ? "12, 16, 20 or 24" : "56, or 64 with an error code")}")
                : null;
        }

        int length = FrameLayout.LengthAt(abi, e.Entry);
        return e.Entry == EntryPoint.Idt || e.Frame.IsEmpty || e.Frame.Length == length
            ? null
            : new CaseProblem($"frame.{index}", $"a frame of {e.Frame.Length} bytes; at {entry} {abi.Text()} stores {(length == 0 ? "nothing" : $"{length} bytes")}");
    }

    private static IEnumerable<string> Entries(Abi abi) => Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(abi, e)).Select(e => CaseFileWords.Entries[(int)e]);

    /// <summary>Finds what of the final system side cannot be.</summary>
    private static CaseProblem? CheckState(Abi abi, SystemState state)
    {
        foreach ((SystemRegister register, ulong value) in state.Values)
        {
            if (TestCase.CheckSystemValue(abi, register, value) is string trouble)
            {
                return new CaseProblem("state", $"{trouble}; state what the ABI has, or leave it out");
            }
        }

        return null;
    }

    /// <summary>Finds what is wrong with the places where a target could look at memory.</summary>
    private static CaseProblem? CheckSeen(Outcome outcome)
    {
        for (int i = 0; i < outcome.Seen.Length; i++)
        {
            MemoryRange range = outcome.Seen[i];
            ulong last = range.Address + (ulong)Math.Max(range.Length, 1) - 1;
            ulong free = i == 0 ? 0 : outcome.Seen[i - 1].Address + (ulong)outcome.Seen[i - 1].Length;
            if (range.Length is < 1 or > TestCase.MaximumContents || last < range.Address || (i > 0 && range.Address <= free))
            {
                return new CaseProblem("seen", $"{range.Address:x} with {range.Length} bytes; ranges are in address order, with something unseen between them, and do not wrap");
            }
        }

        foreach (MemoryWord word in outcome.Memory)
        {
            if (MemoryRange.BitsOf(outcome.Seen.AsSpan(), word.Address) == 0)
            {
                return new CaseProblem("memory", $"{word.Address:x} changed, but `seen` says that nobody looked there; state what was looked at");
            }
        }

        return null;
    }
}
