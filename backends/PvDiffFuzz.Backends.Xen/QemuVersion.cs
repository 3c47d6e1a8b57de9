using System.ComponentModel;
using System.Diagnostics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>A version of QEMU.</summary>
/// <param name="Major">As 10 in 10.0.2.</param>
/// <param name="Minor">As 0.</param>
/// <param name="Patch">As 2.</param>
public sealed record QemuVersion(int Major, int Minor, int Patch)
{
    /// <summary>The oldest major version that can be used.</summary>
    public const int OldestMajor = 8;

    private const string Before = "QEMU emulator version ";
    private static readonly TimeSpan LongestAnswer = TimeSpan.FromSeconds(20);

    /// <summary>Reads what <c>qemu-system-x86_64 --version</c> prints.</summary>
    /// <returns>Null when that is not QEMU's.</returns>
    public static QemuVersion? Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return text.StartsWith(Before, StringComparison.Ordinal) && VersionText.Leading(text.AsSpan(Before.Length), least: 3) is [int major, int minor, int patch]
            ? new QemuVersion(major, minor, patch)
            : null;
    }

    /// <summary>Why a version cannot be used.</summary>
    /// <returns>Null when it can.</returns>
    public string? Trouble => Major >= OldestMajor
        ? null
        : $"QEMU {this} is older than {OldestMajor}: it gets error codes of INT n, ICEBP and RF of faults wrong in 64-bit mode";

    /// <summary>Asks a QEMU.</summary>
    /// <exception cref="TargetUnavailableException">It cannot be executed, is not QEMU, or is too old.</exception>
    public static QemuVersion Ask(XenInstallation installation)
    {
        ArgumentNullException.ThrowIfNull(installation);
        string output;
        try
        {
            ProcessStartInfo start = new(installation.Qemu, ["--version"]) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
            if (installation.QemuLibraryFolders.Count > 0)
            {
                start.Environment["LD_LIBRARY_PATH"] = string.Join(':', installation.QemuLibraryFolders);
            }

            using Process process = Process.Start(start) ?? throw new Win32Exception();
            Task<string> reader = process.StandardOutput.ReadToEndAsync();
            if (!process.WaitForExit(LongestAnswer))
            {
                process.Kill();
                throw new TargetUnavailableException($"{installation.Qemu} does not tell its version", XenInstallation.Cure);
            }

            output = reader.GetAwaiter().GetResult();
        }
        catch (Win32Exception e)
        {
            throw new TargetUnavailableException($"{installation.Qemu} cannot be executed: {e.Message}", XenInstallation.Cure, e);
        }

        QemuVersion version = Parse(output) ?? throw new TargetUnavailableException($"{installation.Qemu} is no QEMU: it does not tell its version as QEMU does", XenInstallation.Cure);
        return version.Trouble is string trouble ? throw new TargetUnavailableException(trouble, XenInstallation.Cure) : version;
    }

    /// <summary>As <c>10.0.2</c>.</summary>
    public override string ToString() => $"{Major}.{Minor}.{Patch}";
}
