using System.ComponentModel;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>A system call failed.</summary>
public sealed class PosixException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="call">Name of the call.</param>
    /// <param name="error">Its error number.</param>
    public PosixException(string call, int error)
        : base($"{call}: {Describe(error)} (errno {error})")
    {
        Call = call;
        Error = error;
    }

    /// <summary>Name of the call.</summary>
    public string Call { get; }

    /// <summary>Error number.</summary>
    public int Error { get; }

    /// <summary>The text of an error number.</summary>
    public static string Describe(int error) => new Win32Exception(error).Message;

    /// <summary>Throws when a call has returned -1.</summary>
    /// <returns>The result.</returns>
    /// <exception cref="PosixException">The call failed.</exception>
    public static long Check(long result, string call) => result == -1 ? throw new PosixException(call, errno) : result;
}
