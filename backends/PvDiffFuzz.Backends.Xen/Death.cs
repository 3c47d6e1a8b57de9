namespace PvDiffFuzz.Backends.Xen;

/// <summary>What can happen to a guest.</summary>
internal enum DeathKind
{
    /// <summary>Xen has crashed the domain, or the domain has shut itself down: guest behaviour.</summary>
    Domain,

    /// <summary>Xen itself has crashed: guest behaviour, and a finding of its own.</summary>
    Hypervisor,

    /// <summary>The guest waits for an event that will not come: guest behaviour.</summary>
    Halt,

    /// <summary>The guest does not come back.</summary>
    Silence,

    /// <summary>QEMU is gone.</summary>
    Qemu,
}

/// <summary>Why a guest cannot go on.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Reason">One line.</param>
internal sealed record Death(DeathKind Kind, string Reason)
{
    private const string Panic = "Panic on CPU";
    private const string HardwareDomain = "Hardware Dom0 ";

    /// <summary>Reads a death from what Xen has said.</summary>
    /// <param name="console">The last lines of the console.</param>
    /// <returns>Null when nothing there tells of one.</returns>
    public static Death? Of(string console)
    {
        if (console.Contains(Panic, StringComparison.Ordinal))
        {
            string[] lines = Lines(console);
            int at = Array.FindIndex(lines, l => l.Contains(Panic, StringComparison.Ordinal));
            string where = Array.FindLast(lines[..at], line => line.StartsWith("RIP:", StringComparison.Ordinal)) is string rip ? $", {rip}" : "";
            return new Death(DeathKind.Hypervisor, $"Xen itself has crashed: {(at + 1 < lines.Length ? lines[at + 1] : lines[at])}{where}");
        }

        int shutdown = console.IndexOf(HardwareDomain, StringComparison.Ordinal);
        return shutdown < 0 ? null
            : console.AsSpan(shutdown + HardwareDomain.Length).StartsWith("crashed", StringComparison.Ordinal) ? new Death(DeathKind.Domain, "Xen has crashed the domain")
            : new Death(DeathKind.Domain, "the domain has shut down");
    }

    /// <summary>The last line of a console that is not empty, without Xen's prefix. A QEMU that gives up says why before it lists registers: that line counts as the last.</summary>
    public static string LastLine(string console)
    {
        const string reason = "qemu: fatal:";
        string[] lines = Lines(console);
        return Array.FindLast(lines, line => line.StartsWith(reason, StringComparison.Ordinal)) ?? lines.LastOrDefault() ?? "no word from it";
    }

    private static string[] Lines(string console) => [.. console.Split('\n').Select(Plain).Where(line => line.Trim('*') != "")];

    private static string Plain(string line)
    {
        const string prefix = "(XEN)";
        string trimmed = line.Trim();
        return trimmed.StartsWith(prefix, StringComparison.Ordinal) ? trimmed[prefix.Length..].Trim() : trimmed;
    }
}
