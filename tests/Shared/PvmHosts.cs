using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Backends.Pvm.Emulated;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Tests;

/// <summary>The PVM host that tests run on: one that QEMU boots from the kernel named in an environment variable, else this machine.</summary>
internal static class PvmHosts
{
    /// <summary>The variable.</summary>
    public const string Variable = "PVDF_PVM_IMAGE";

    /// <summary>Starts the target.</summary>
    /// <param name="profile">The processor of this machine, if it is this one.</param>
    /// <param name="batches">False to let each case enter the guest alone.</param>
    /// <exception cref="TargetUnavailableException">There is no host.</exception>
    public static PvmTarget Start(CpuProfile profile, bool batches = true) =>
        Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } kernel ? new PvmTarget(Emulated(kernel), batches) : new PvmTarget(profile, batches);

    /// <summary>Why tests have to be skipped; null when there is a host.</summary>
    /// <param name="profile">The processor of this machine.</param>
    public static string? Problem(CpuProfile profile)
    {
        try
        {
            using PvmTarget target = Start(profile);
            return null;
        }
        catch (TargetUnavailableException e)
        {
            return $"{e.Message}; {e.Cure}, or name a kernel in {Variable}";
        }
    }

    private static EmulatedHostOptions Emulated(string kernel) =>
        EmulatedHostOptions.With("pvm:test", kernel, Path.Combine(Checkout.Root, ".cache/packages/xen/qemu"), (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':'));
}
