using System.Runtime.InteropServices;

namespace PvDiffFuzz.Backends.Interop.Tests;

/// <summary>A fact about Linux on x86-64: skipped, with the reason, elsewhere.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class LinuxFactAttribute : FactAttribute
{
    /// <summary>Makes the attribute.</summary>
    /// <param name="program">A program that the fact needs, or null.</param>
    public LinuxFactAttribute(string? program = null)
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Skip = "needs Linux on x86-64";
        }
        else if (program is not null && !File.Exists(program))
        {
            Skip = $"needs {program}";
        }

        Program = program;
    }

    /// <summary>A program that the fact needs, or null.</summary>
    public string? Program { get; }
}
