using PvDiffFuzz.Backends.Xen;
using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>A theory about a Xen under QEMU: skipped, with the reason, where ci/install-xen has not fetched both.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class XenTheoryAttribute : TheoryAttribute
{
    public XenTheoryAttribute() => Skip = Xen.Trouble;
}

/// <summary>Asks once whether a Xen is at hand.</summary>
internal static class Xen
{
    private static readonly TargetUnavailableException? Problem = Ask();

    /// <summary>Why there is none, or null.</summary>
    public static string? Trouble => Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";

    /// <summary>The first version that is there.</summary>
    public static XenInstallation Installation => new XenInstallations(new XenOptions { Folder = Checkout.PathOf(".cache", "packages", "xen") }).Find(XenInstallations.Any);

    private static TargetUnavailableException? Ask()
    {
        try
        {
            return XenTarget.Probe(Installation);
        }
        catch (TargetUnavailableException e)
        {
            return e;
        }
    }
}
