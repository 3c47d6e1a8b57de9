namespace PvDiffFuzz.Cli;

/// <summary>What the process returns.</summary>
public enum ExitCode
{
    /// <summary>Nothing to report.</summary>
    Ok = 0,

    /// <summary>At least one divergence, or a stored verdict that changed.</summary>
    Diverged = 1,

    /// <summary>The host or the harness failed.</summary>
    Failed = 2,

    /// <summary>The command line or an input file is wrong.</summary>
    Usage = 64,
}

/// <summary>A mistake of the user: printed as one message, exit code 64.</summary>
/// <param name="message">What is wrong and what would be right.</param>
public sealed class UsageException(string message) : Exception(message);
