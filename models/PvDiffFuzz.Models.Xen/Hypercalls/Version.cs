using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_xen_version.</summary>
internal static class Version
{
    /// <summary>Major and minor number of the release in one word, and the size of a page. The rest tells of a build.</summary>
    [Spec("Xen facts", "Hypercall numbers: xen_version")]
    [Spec("xen-readings", "xen-version")]
    public static long Execute(Vcpu vcpu, ulong command, ulong buffer)
    {
        const uint version = 0;
        const uint pageSize = 7;
        const uint highest = 11;
        return (uint)command switch
        {
            version => ((long)vcpu.Release.Version.Major << 16) | (uint)vcpu.Release.Version.Minor,
            pageSize => buffer == 0 ? PageLayout.PageSize : Errno.EINVAL,
            > highest => Errno.ENOSYS,
            _ => Dispatcher.NotModelled(vcpu, "a command of HYPERVISOR_xen_version about the build"),
        };
    }
}
