using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>A fact about a Xen under QEMU: skipped, with the reason, where ci/install-xen has not fetched both.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class XenFactAttribute : FactAttribute
{
    private static readonly TargetUnavailableException? Problem = LiveXen.Trouble();

    public XenFactAttribute() => Skip = Problem is null ? null : $"{Problem.Message}; {Problem.Cure}";
}

/// <summary>The Xen that live tests start.</summary>
internal static class LiveXen
{
    /// <summary>The first version that is there.</summary>
    public static XenInstallation Installation => new XenInstallations(new XenOptions { Folder = Checkout.PathOf(".cache", "packages", "xen") }).Find(XenInstallations.Any);

    /// <summary>Why there is none.</summary>
    public static TargetUnavailableException? Trouble()
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
