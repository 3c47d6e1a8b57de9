namespace PvDiffFuzz.Core;

/// <summary>The words of case files for members of enumerations, for reports, known entries and programs.</summary>
public static class Words
{
    /// <summary>Such as <c>cr3</c> or <c>pvcs.event-flags</c>.</summary>
    public static string Text(this SystemRegister register) => CaseFileWords.SystemRegisters[(int)register];

    /// <summary>Such as <c>idt</c>, <c>pvm.user</c> or <c>xen.trap</c>.</summary>
    public static string Text(this EntryPoint entry) => CaseFileWords.Entries[(int)entry];

    /// <summary>Such as <c>fault</c> or <c>system-call</c>.</summary>
    public static string Text(this EventKind kind) => CaseFileWords.EventKinds[(int)kind];

    /// <summary><c>user</c> or <c>supervisor</c>.</summary>
    public static string Text(this GuestMode mode) => CaseFileWords.GuestModes[(int)mode];

    /// <summary><c>cold</c> or <c>warm</c>.</summary>
    public static string Text(this HostPath path) => CaseFileWords.Paths[(int)path];

    /// <summary>Such as <c>iretq</c> or <c>eretu</c>.</summary>
    public static string Text(this ReturnKind way) => CaseFileWords.Returns[(int)way];

    /// <summary>Such as <c>interrupt</c> or <c>upcall</c>.</summary>
    public static string Text(this InjectionKind kind) => CaseFileWords.Injections[(int)kind];

    /// <summary>Such as <c>syscall</c> or <c>failsafe</c>.</summary>
    public static string Text(this XenCallbackKind kind) => CaseFileWords.Callbacks[(int)kind];

    /// <summary>Finds the member of an enumeration that a word names.</summary>
    /// <typeparam name="T">The enumeration.</typeparam>
    /// <param name="text">Its text, one of the methods above.</param>
    /// <param name="word">The word.</param>
    /// <returns>Null when no member has that word.</returns>
    public static T? Find<T>(Func<T, string> text, string word)
        where T : struct, Enum
    {
        foreach (T member in Enum.GetValues<T>())
        {
            if (string.Equals(text(member), word, StringComparison.Ordinal))
            {
                return member;
            }
        }

        return null;
    }
}
