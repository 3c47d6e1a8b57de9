namespace PvDiffFuzz.Models.X86;

/// <summary>How a run of a paravirtual case stands.</summary>
internal enum Verdict
{
    /// <summary>It goes on.</summary>
    Running,

    /// <summary>The code ran to its end.</summary>
    ReachedEnd,

    /// <summary>An event came for which there is no response.</summary>
    Event,

    /// <summary>The guest halted.</summary>
    Halt,

    /// <summary>The guest died.</summary>
    Crash,

    /// <summary>The limit of instructions was reached.</summary>
    BudgetSpent,

    /// <summary>Something that no text defines, or that a case does not tell.</summary>
    Unsupported,
}
