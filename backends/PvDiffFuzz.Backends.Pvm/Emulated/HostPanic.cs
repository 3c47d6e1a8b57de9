namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>What the kernel of a host says when it gives up.</summary>
internal static class HostPanic
{
    private const string Panic = "Kernel panic - not syncing";

    /// <summary>Words with which a kernel begins to tell of what brought it down.</summary>
    private static readonly string[] Causes = ["BUG:", "Oops:", "general protection fault", "double fault", "traps:"];

    /// <summary>Reads why from a console.</summary>
    /// <param name="console">All that was said, or its end.</param>
    /// <returns>One line with the place in the kernel where it names one; null when nothing there tells of a panic.</returns>
    public static string? Of(string console)
    {
        if (!console.Contains(Panic, StringComparison.Ordinal))
        {
            return null;
        }

        string[] lines = [.. console.Split('\n').Select(WithoutTime)];
        string cause = Array.Find(lines, line => Causes.Any(word => line.StartsWith(word, StringComparison.OrdinalIgnoreCase)))
            ?? Array.Find(lines, line => line.StartsWith(Panic, StringComparison.Ordinal))
            ?? Panic;
        return Array.Find(lines, line => line.StartsWith("RIP:", StringComparison.Ordinal)) is string place ? $"{cause}, {place}" : cause;
    }

    /// <summary>A line without the seconds since the start, in brackets.</summary>
    private static string WithoutTime(string line)
    {
        string trimmed = line.Trim();
        int end = trimmed.StartsWith('[') ? trimmed.IndexOf(']', StringComparison.Ordinal) : -1;
        return end < 0 ? trimmed : trimmed[(end + 1)..].Trim();
    }
}
