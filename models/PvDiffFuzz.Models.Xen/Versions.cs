using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen;

/// <summary>What a release of Xen changes in the ABI: one member for each row of the table of versions in docs/xen-readings.md. Everything else is the same in all releases.</summary>
internal sealed class Release
{
    /// <summary>The rows of a release.</summary>
    /// <param name="version">The release.</param>
    public Release(XenVersion version)
    {
        Version = version;
        FaultsUnregisteredSyscall = version.IsFrom(15, 0);
        KeepsDirectionOnSyscallFault = IsFrom(version, (17, 5), (18, 3), (19, 0));
        ReplacesMetBreakpoints = IsFrom(version, (18, 4), (19, 1), (20, 0));
        CountsPrefixesOfInt = IsFrom(version, (19, 5), (20, 3), (21, 1), (22, 0));
        ClampsIretFlags = IsFrom(version, (21, 1), (22, 0));
        FaultsOnIoBitmap = version.IsFrom(20, 0);
        HasFred = IsFrom(version, (21, 1), (22, 0));
        LoadsRcxUnderFred = IsFrom(version, (21, 2), (22, 0));
        HasXenoprof = !version.IsFrom(22, 0);
    }

    /// <summary>The newest release of the table: what a model stands for when nobody names another.</summary>
    public static XenVersion Newest { get; } = new(4, 22, 0);

    /// <summary>Which release.</summary>
    public XenVersion Version { get; }

    /// <summary>SYSCALL of user code without a callback is a fault (4.15.0); before, it crashes the domain.</summary>
    public bool FaultsUnregisteredSyscall { get; }

    /// <summary>The handler of that fault finds DF as it was (4.17.5, 4.18.3, 4.19.0); before, it is clear.</summary>
    public bool KeepsDirectionOnSyscallFault { get; }

    /// <summary>A breakpoint that is met takes the place of those in the virtual DR6 (4.18.4, 4.19.1, 4.20.0); before, it is added.</summary>
    public bool ReplacesMetBreakpoints { get; }

    /// <summary>An emulated <c>INT n</c> ends where the instruction ends (4.19.5, 4.20.3, 4.21.1, 4.22.0); before, two bytes after its first one.</summary>
    public bool CountsPrefixesOfInt { get; }

    /// <summary>HYPERVISOR_iret drops bits of RFLAGS that nobody knows (4.21.1, 4.22.0).</summary>
    public bool ClampsIretFlags { get; }

    /// <summary>An I/O bitmap that cannot be read is #PF (seen in 4.20); before, it allows nothing.</summary>
    public bool FaultsOnIoBitmap { get; }

    /// <summary>PV guests can run under FRED delivery (4.21.1, 4.22.0).</summary>
    public bool HasFred { get; }

    /// <summary>Under FRED, RCX and R11 are as SYSCALL and SYSRET leave them (4.21.2, 4.22.0); before, they are left alone.</summary>
    public bool LoadsRcxUnderFred { get; }

    /// <summary>There is the hypercall xenoprof_op (until 4.22.0).</summary>
    public bool HasXenoprof { get; }

    /// <summary>True for a release that has a change which each branch got with the patch release that is given, and branches after the last from their start.</summary>
    private static bool IsFrom(XenVersion version, params ReadOnlySpan<(int Minor, int Patch)> branches)
    {
        foreach ((int minor, int patch) in branches)
        {
            if (version.Major == 4 && version.Minor == minor)
            {
                return version.Patch >= patch;
            }
        }

        return version.IsFrom(branches[^1].Minor, branches[^1].Patch);
    }
}
