using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <content>What to tell a person whose host cannot run this target.</content>
// SAFETY: no pointer is used in this part; the modifier belongs to the class.
public sealed unsafe partial class NativeTarget
{
    /// <summary>Tells why this host cannot run the target.</summary>
    /// <returns>Null when it can.</returns>
    public static TargetUnavailableException? Probe()
    {
        try
        {
            using NativeTarget target = new();
            return null;
        }
        catch (TargetUnavailableException e)
        {
            return e;
        }
    }

    /// <summary>Throws on anything but x86-64 Linux.</summary>
    internal static void RequirePlatform()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            throw new TargetUnavailableException(
                $"this is {RuntimeInformation.OSDescription} on {RuntimeInformation.ProcessArchitecture}; native cases need Linux on x86-64",
                "use such a machine, or replay recorded outcomes");
        }
    }

    internal static TargetUnavailableException Unavailable(PosixException e)
    {
        string cure = e.Call switch
        {
            "memfd_create" => "use a kernel with memfd_create(2), and a sandbox that allows it",
            "posix_spawn" => "allow executing files in memory: sysctl vm.memfd_noexec must be 0 or 1, and /proc must be mounted",
            "seccomp" => "use a kernel with CONFIG_SECCOMP_FILTER, and a container policy that allows seccomp(2)",
            _ => "check what the container or security policy of this host forbids to child processes",
        };
        return new TargetUnavailableException(e.Message, cure, e);
    }
}
